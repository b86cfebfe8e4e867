"""Organizations, credentials and admin tokens that are changed at run time, and the log of every change."""
