"""The processes of one machine: a supervisor that owns the public port, its workers, one console, and the embedded Valkey."""
