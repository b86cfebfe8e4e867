"""How this process reaches other servers: through which proxy, and which certificates it trusts."""
