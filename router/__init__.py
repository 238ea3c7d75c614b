"""The router: one request schema, one engine, three doors. Empty on purpose, so that importing it costs nothing."""
