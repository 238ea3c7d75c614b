"""Documented limits kept by several processes at once, against the twins' own log (`make limits`)."""
