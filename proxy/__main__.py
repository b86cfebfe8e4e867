"""`python -m proxy` is `tallygate`."""

from proxy.cli import main

if __name__ == "__main__":
    main()
