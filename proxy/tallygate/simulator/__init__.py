"""A mock AI API that speaks several providers' wires, fails on demand, and counts exactly what it served.

`server.py` runs it, `directive.py` says what a request can ask for, `ledger.py` is its count.
"""
