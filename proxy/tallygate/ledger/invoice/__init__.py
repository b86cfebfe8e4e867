"""A month of an organization as an invoice, a week as a statement.

Only `read_invoice` reads the database; documents are pure functions of an Invoice.
"""
