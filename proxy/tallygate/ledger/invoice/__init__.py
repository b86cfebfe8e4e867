"""A month of an organization as an invoice, a week as a statement.

`read_invoice` alone reads the database; documents are pure functions of an Invoice.
"""
