"""The admin plane, on its own port: metrics, health, APIs, and the sweep of expired holds. It sees no client's request."""
