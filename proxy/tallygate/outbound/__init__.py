"""The way to other servers: through which proxy, and with which trusted certificates."""
