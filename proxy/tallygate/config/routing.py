"""What requests can reach whose model the provider chooses (Gloo's `auto_routing` and `model_family`)."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tallygate.domain.model_patterns import matches

Families = Mapping[str, tuple[str, ...]]  # names of models, or beginnings of names followed by `*`, by family in lower case

_NONE: Final[Families] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """families are those of prices.yaml, listed those of upstreams' catalogues.

    are_families_own   the operator's: they win over listed ones, which otherwise take their place, since a catalogue lists
                       exactly what its provider's routing picks from
    reaches            families, and names or beginnings of names: where a request goes that names no family; none: anywhere
    max_output_tokens  what those requests are sent with that state no maximum
    """

    families: Families = field(default_factory=dict)
    are_families_own: bool = False
    listed: Families = field(default_factory=dict)
    reaches: tuple[str, ...] = ()
    max_output_tokens: int | None = None

    def with_listed(self, listed: Families) -> "Routing":
        return replace(self, listed=listed)

    def patterns(self, family: str | None) -> tuple[str, ...]:
        """The models of a family; of every family where it is unknown; where it is None, what routing reaches."""
        named = self._named()
        if family is not None:
            known = named.get(family.lower())
            return known if known is not None else _joined(named.values())
        if self.reaches:
            return _joined(named.get(name.lower(), (name,)) for name in self.reaches)
        return _joined((self.families if self._wins_over_listed() else self.listed).values())

    def unmatched(self, models: Iterable[str]) -> Iterator[str]:
        """Entries of `reaches` that are no family and begin no model's name: most often a slip, which narrows what is held."""
        named, names = self._named(), tuple(models)
        for entry in self.reaches:
            if entry.lower() not in named and not any(matches(model, entry) for model in names):
                yield entry

    def _wins_over_listed(self) -> bool:
        return not self.listed or (self.are_families_own and bool(self.families))

    def _named(self) -> Families:
        """Families that a request can name. One that only a catalogue has can still be asked for."""
        return {**self.listed, **self.families} if self._wins_over_listed() else self.listed


def _joined(patterns: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(patterns))
