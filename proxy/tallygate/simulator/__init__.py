"""A mock AI API that speaks several providers' wire APIs, fails on demand, and counts exactly what it served.

`server.py` runs it, `directive.py` defines what a request can ask for, `ledger.py` is its count.
"""
