"""tallygate: a metering gateway for AI APIs. `docs/architecture.md` is the map."""
