"""Commands of `tallygate` that use the ledger, one file each. They parse and print; their top-level imports are light."""
