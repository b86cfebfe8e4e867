"""The composition root: settings in, the objects of one process out. Nothing else builds a client, pool, store or clock.

`resources` opens the stores of a process; `gateway` builds a worker; `status_part`, `console_part` and `ledger_part` are the jobs
of the process behind the console's port, and `roles` lists which of them each command runs together.
"""
