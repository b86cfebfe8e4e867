"""The admin plane, on its own port: metrics, health, and the sweep of expired holds. It sees no request."""
