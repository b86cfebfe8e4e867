"""A month of an organization as an invoice. `read_invoice` alone reads the database; documents are pure functions of an Invoice."""
