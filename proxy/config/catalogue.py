"""Which price applies to a model name at an instant."""

from collections.abc import Iterable, Mapping

from proxy.domain.price import Price


class PriceCatalogue:
    """Prices by model, each with effective dates. Immutable; a reload builds a new one."""

    def __init__(self, prices: Iterable[Price], aliases: Mapping[str, str] | None = None) -> None:
        raise NotImplementedError  # being written

    def find(self, model: str, at_ms: int) -> Price | None:
        """The price in force: the exact name, else its alias, else the name without a dated suffix. None if unknown."""
        raise NotImplementedError

    def dearest(self, at_ms: int, *, family: str | None = None) -> Price | None:
        """The price that bounds every reachable model, for requests whose model the provider chooses (dearest input and output)."""
        raise NotImplementedError
