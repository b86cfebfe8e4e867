"""One wire API a file, spoken as its provider speaks it."""
