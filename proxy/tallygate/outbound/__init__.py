"""How this process reaches other servers: through which proxy, and whose certificates it believes."""
