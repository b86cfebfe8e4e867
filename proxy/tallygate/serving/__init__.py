"""Serving HTTP to clients that may be slow, many or malicious: what the gateway's port and the console's have in common."""
