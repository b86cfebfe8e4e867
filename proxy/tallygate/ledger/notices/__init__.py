"""Notices of spend limits (warnings, pauses, resumes), stored with the ledger, and their deliveries."""
