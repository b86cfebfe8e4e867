"""The ledger: usage events in SQL, append-only, their rollups, and what is asked, corrected and repaired from them."""
