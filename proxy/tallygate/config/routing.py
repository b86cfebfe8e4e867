"""The models within reach of requests whose model the provider chooses (Gloo's `auto_routing` and `model_family`)."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tallygate.domain.model_patterns import matches

Families = Mapping[str, tuple[str, ...]]  # names of models, or beginnings of names followed by `*`, by family in lower case


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The reach of routing. families: those of prices.yaml; listed: those of upstreams' catalogues.

    are_families_own   they are the operator's and override listed ones; otherwise listed ones replace them, since a catalogue
                       lists exactly what its provider's routing picks from
    reaches            families, and names or beginnings of names, within reach of a request that names no family; empty: all
    max_output_tokens  the maximum that requests without one are sent with
    """

    families: Families = field(default_factory=dict)
    are_families_own: bool = False
    listed: Families = field(default_factory=dict)
    reaches: tuple[str, ...] = ()
    max_output_tokens: int | None = None

    def with_listed(self, listed: Families) -> "Routing":
        return replace(self, listed=listed)

    def patterns(self, family: str | None) -> tuple[str, ...]:
        """The models of a family, or of every family if it is unknown; for None, the models that routing reaches."""
        named = self._named()
        if family is not None:
            known = named.get(family.lower())
            return known if known is not None else _joined(named.values())
        if self.reaches:
            return _joined(named.get(name.lower(), (name,)) for name in self.reaches)
        return _joined((self.families if self._wins_over_listed() else self.listed).values())

    def unmatched(self, models: Iterable[str]) -> Iterator[str]:
        """Entries of `reaches` that are no family and begin no model's name: usually a typing error, which lowers holds."""
        named, names = self._named(), tuple(models)
        for entry in self.reaches:
            if entry.lower() not in named and not any(matches(model, entry) for model in names):
                yield entry

    def _wins_over_listed(self) -> bool:
        return not self.listed or (self.are_families_own and bool(self.families))

    def _named(self) -> Families:
        """Families that a request can name, including those that only a catalogue has."""
        return {**self.listed, **self.families} if self._wins_over_listed() else self.listed


def _joined(patterns: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(patterns))
