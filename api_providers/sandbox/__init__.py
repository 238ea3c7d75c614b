"""Wire-faithful twins of the providers: one HTTP server with their formats, limits, failures and bills."""
