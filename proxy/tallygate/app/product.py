"""The name and version of the running product."""

from importlib.metadata import version


def product_version() -> str:
    return version("tallygate")
