"""Authentication of callers: keys of the directory, signed tokens, looked-up keys."""
