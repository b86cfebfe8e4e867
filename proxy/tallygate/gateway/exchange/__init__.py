"""One exchange, from its head to its account: the stages, in the order in which they follow each other."""
