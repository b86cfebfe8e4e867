"""HTTP/1.1, to clients that may be slow, many or malicious, and to upstreams: connections, heads, bodies, answers."""
