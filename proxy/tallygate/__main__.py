"""`python -m tallygate` is `tallygate`."""

from tallygate.cli import main

if __name__ == "__main__":
    main()
