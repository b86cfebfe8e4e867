"""The ledger: append-only usage events in SQL, their rollups, and the queries, corrections and repairs based on them."""
