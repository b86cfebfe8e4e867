"""The ledger's entries as files. Encoders are pure; only `entry_pages` reads the database."""
