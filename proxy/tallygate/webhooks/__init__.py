"""Webhooks: notices from the ledger to the endpoints of webhooks.yaml, signed, at least once. docs/webhooks.md is for receivers."""
