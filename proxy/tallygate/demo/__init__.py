"""`tallygate demo`: the product on one machine, with a mock AI API behind it and clients in front of it."""
