"""Fair shares, by organization, of a process's scarce resources: its threads, and memory and places for open requests."""
