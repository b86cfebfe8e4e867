"""Notices of spend limits (warnings, pauses, resumes) and weekly digests, stored with the ledger, and their deliveries."""
