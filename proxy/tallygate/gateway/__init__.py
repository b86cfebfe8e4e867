"""The data plane: from a client's bytes to an upstream's and back, metered and limited on the way. `exchange/pipeline.py` is the map."""
