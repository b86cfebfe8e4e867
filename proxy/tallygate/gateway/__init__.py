"""The data plane: from a client's bytes to an upstream's and back, metered and limited. `exchange/pipeline.py` is the map."""
