"""Fair shares of what one process has little of: turns in its threads, and memory for what is under way. By organization."""
