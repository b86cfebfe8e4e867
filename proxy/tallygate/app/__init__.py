"""The composition root: settings in, the objects of one process out. Nothing else builds a client, pool, store or clock.

`resources` opens what a process stands on; `gateway` builds a worker; `status_part`, `console_part` and `ledger_part` are the jobs
of the process behind the console's port, and `roles` says which of them each command runs together.
"""
