"""Who calls: keys of the directory and signed tokens, and what gives a key away."""
