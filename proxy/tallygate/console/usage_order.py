"""The order of groups by an amount, and the few first of them with all others together."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from tallygate.console.usage_pages import total_of
from tallygate.ledger.history import Usage, UsageRow

OTHERS: Final = ()  # the group of the rows that are not among the first
ORDERS: Final[Mapping[str, Callable[[Usage], int]]] = {
    "cost": lambda usage: usage.cost_nano_usd,
    "requests": lambda usage: usage.requests,
    "refused": lambda usage: usage.refused,
    "tokens": lambda usage: usage.prompt_tokens + usage.completion_tokens,
    "prompt_tokens": lambda usage: usage.prompt_tokens,
    "completion_tokens": lambda usage: usage.completion_tokens,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOrder:
    """An order of rows. by: one of ORDERS, equal ones by their group; None: by group alone. The others come last of all."""

    by: str | None
    is_descending: bool = True

    def ordered(self, rows: Sequence[UsageRow]) -> list[UsageRow]:
        """The rows of one bucket."""
        ordered = sorted(rows, key=lambda row: row.group, reverse=self.by is None and self.is_descending)
        if self.by is not None:
            amount = ORDERS[self.by]
            ordered.sort(key=lambda row: -amount(row.usage) if self.is_descending else amount(row.usage))
        return sorted(ordered, key=lambda row: row.group == OTHERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The first groups of a range.

    rows     their sums over the range, in order, then that of all others if there are any
    kept     the groups that stay by themselves
    others   how many groups are not among them
    total    of all groups
    """

    rows: tuple[UsageRow, ...]
    kept: frozenset[tuple[str, ...]]
    others: int
    total: Usage

    def folded(self, rows: Sequence[UsageRow]) -> list[UsageRow]:
        """Rows in the order of buckets, with one for all the others of a bucket."""
        return [row for _, of_bucket in groupby(rows, lambda row: row.start_ms) for row in _folded(list(of_bucket), self.kept)]


def ranking_of(rows: Sequence[UsageRow], order: UsageOrder, count: int) -> Ranking:
    """Rank the rows of a range as a whole."""
    ordered = order.ordered(rows)
    kept = frozenset(row.group for row in ordered[:count])
    return Ranking(
        rows=tuple(_folded(ordered, kept)),
        kept=kept,
        others=len(ordered) - len(kept),
        total=total_of(rows),
    )


def _folded(rows: Sequence[UsageRow], kept: Collection[tuple[str, ...]]) -> list[UsageRow]:
    found, others = [row for row in rows if row.group in kept], [row for row in rows if row.group not in kept]
    return [*found, replace(others[0], group=OTHERS, usage=total_of(others))] if others else found
