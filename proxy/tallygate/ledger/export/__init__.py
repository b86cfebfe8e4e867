"""The ledger's entries as files, and a month of them as an invoice. Encoders are pure; `entry_pages` alone reads the database."""
