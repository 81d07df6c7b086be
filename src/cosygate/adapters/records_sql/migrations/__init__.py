"""Alembic scripts, run by migrate.py."""
