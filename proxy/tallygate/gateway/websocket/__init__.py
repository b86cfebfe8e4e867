"""WebSockets: relayed frame by frame, and held, metered and settled turn by turn."""
