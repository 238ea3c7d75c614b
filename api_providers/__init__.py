"""Providers: each is one file plus one data file, and the file is the registration."""
