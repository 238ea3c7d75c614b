"""Alembic migrations of our own database: numbered, never edited once released."""
