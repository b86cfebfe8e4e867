"""Commands of `tallygate` that ask the ledger: a file each. They parse and show; what they import on top is light."""
