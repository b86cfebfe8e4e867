"""Notices of spend limits (warnings, pauses, resumes), kept with the ledger, and how far each has got to whom it is sent."""
