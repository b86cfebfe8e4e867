"""`tallygate demo`: the product at work on one machine, with a mock AI API behind it and real SDK clients before it."""
