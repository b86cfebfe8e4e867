"""The selection of entries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, false

from tallygate.ledger.history import Dimension, OrgScope
from tallygate.ledger.schema import ENTRIES, ENTRY_MODEL
from tallygate.ledger.usage_queries import wanted_values

FILTERS: Final = (  # scopes choose organizations; refused requests have no entries
    Dimension.CREDENTIAL,
    Dimension.CAPABILITY,
    Dimension.MODEL,
    Dimension.ENDPOINT,
    Dimension.STATUS,
    Dimension.OUTCOME,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Entries by their settlement, [from_ms, to_ms), that were entered before as_of_ms.

    scopes    organizations, in the order in which they are exported
    as_of_ms  the ledger as it stood then: the same selection gives the same rows again, whatever is corrected later
    filters   allowed values by one of FILTERS, statuses as text; an empty set matches nothing

    Raises ValueError for a filter that is none of FILTERS, and for a status that is no number.
    """

    scopes: tuple[OrgScope, ...]
    from_ms: int
    to_ms: int
    as_of_ms: int
    filters: Mapping[Dimension, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := self.filters.keys() - set(FILTERS):
            raise ValueError(f"entries cannot be filtered by {', '.join(sorted(unknown))}")
        for status in self.filters.get(Dimension.STATUS, frozenset()):
            if not (status.isascii() and status.isdecimal() and len(status) <= len("200")):
                raise ValueError(f"a status is a number such as 200, or 0 where there was none, got {status[:20]!r}")

    def begins_ms(self, scope: OrgScope) -> int:
        """The first time of settlement of an organization's entries."""
        return max(self.from_ms, scope.visible_from_ms)

    def conditions(self, scope: OrgScope, *, from_ms: int = 0) -> list[ColumnElement[bool]]:
        """Conditions for one organization, as SQL; from_ms: excludes entries that were settled earlier."""
        columns = ENTRIES.c
        return [
            columns.org == scope.org,
            columns.settled_at_ms >= max(self.begins_ms(scope), from_ms),
            columns.settled_at_ms < self.to_ms,
            columns.entered_at_ms < self.as_of_ms,
            *(_is_one_of(name, values) for name, values in self.filters.items()),
        ]


def _is_one_of(name: Dimension, values: frozenset[str]) -> ColumnElement[bool]:
    if not values:
        return false()
    columns = ENTRIES.c
    column: ColumnElement[Any] = ENTRY_MODEL if name is Dimension.MODEL else columns[name.value]
    return column.in_(wanted_values(name, values))
