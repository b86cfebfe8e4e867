"""`tallygate demo`: the product on one machine, with a mock AI API behind it and real SDK clients in front of it."""
