"""Alembic migrations of the ledger, run at start. A released migration is never edited; a change is a new one."""
