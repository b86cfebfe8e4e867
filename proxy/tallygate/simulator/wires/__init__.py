"""One wire API in each file, spoken as its provider speaks it."""
