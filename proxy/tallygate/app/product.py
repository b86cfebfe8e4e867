"""What is running."""

from importlib.metadata import version


def product_version() -> str:
    return version("tallygate")
