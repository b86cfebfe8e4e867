"""The end of holds: settlements, the spool of those that the store could not accept, and withdrawals."""
