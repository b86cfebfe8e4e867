"""`tallygate doctor`: what serving needs, examined."""
