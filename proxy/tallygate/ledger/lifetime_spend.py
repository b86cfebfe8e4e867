"""The cost in the lifetime totals by what it was paid for: sums of entries, whose every nano-USD is in one of SPENT_ON.

As with the other totals, no amount ever falls: what is taken back is added to a `credited_` amount.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.domain.unit_kind import KIND_COSTS, UnitKind
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry
from tallygate.ledger.id_range import id_range
from tallygate.ledger.lifetime import OTHER, with_reversals
from tallygate.ledger.schema import ENTRIES, LIFETIME_SPEND, LIFETIME_SPEND_AMOUNTS
from tallygate.ledger.time_buckets import DAY_MS

# `other` is what the amounts of the others leave of an entry's cost: what a provider stated, what was charged by a worker that died
# before its first checkpoint, and before the ledger kept kinds.
SPENT_ON: Final = (*[kind.value for kind in UnitKind], "fee", OTHER)
_KNOWN: Final = (*KIND_COSTS, "fee_nano_usd")
_known_of: Final = attrgetter(*_KNOWN)
_C: Final = ENTRIES.c
_OTHER: Final[ColumnElement[int]] = _C.cost_nano_usd - sum((_C[name] for name in _KNOWN[1:]), start=_C[_KNOWN[0]])
_EXCHANGE: Final = (_C.org, _C.credential, _C.capability)
SPENT_COLUMNS: Final = (*_EXCHANGE, *(_C[name] for name in _KNOWN), _OTHER)  # of entries: their amounts in the order of SPENT_ON
_STRETCH_MS: Final = 30 * DAY_MS


# The labels of a row of `lifetime_spend`: organization, credential, capability, and kind, of SPENT_ON.
SpendKey = tuple[str, str, str, str]
SpendChanges = dict[SpendKey, list[int]]  # amounts in the order of LIFETIME_SPEND_AMOUNTS


def spend_changes_of(new: Sequence[Entry]) -> SpendChanges:
    """What entries that were just added change, given in the order of their sequences."""
    changes: SpendChanges = {}
    for entry, before in with_reversals(new):
        amounts = _spent(entry)
        if before is not None:
            amounts = list(map(int.__add__, amounts, _spent(before)))
        for kind, amount in zip(SPENT_ON, amounts, strict=True):
            if amount:
                key = (entry.org, entry.credential, entry.capability, kind)
                row = changes.get(key)
                if row is None:
                    row = changes[key] = [0, 0, 0]
                row[amount < 0] += abs(amount)
    return changes


def _spent(entry: Entry) -> list[int]:
    """An entry's amounts in the order of SPENT_ON."""
    known: tuple[int, ...] = _known_of(entry)
    return [*known, entry.cost_nano_usd - sum(known)]


def purged_spend(gone: Iterable[Sequence[Any]]) -> SpendChanges:
    """What entries change that retention removes. gone: their SPENT_COLUMNS, added up or not."""
    changes: SpendChanges = {}
    for org, credential, capability, *amounts in gone:
        for kind, amount in zip(SPENT_ON, amounts, strict=True):
            if amount:
                changes.setdefault((org, credential, capability, kind), [0, 0, 0])[2] += int(amount)
    return changes


def add_to_lifetime_spend(connection: Connection, database: Database, changes: SpendChanges) -> None:
    """Add changes within the connection's transaction."""
    rows = [(*key, *row) for key, row in sorted(changes.items())]
    database.add_to_rows(connection, LIFETIME_SPEND, LIFETIME_SPEND_AMOUNTS, rows)


async def spend_of_entries(connection: AsyncConnection, org: str) -> dict[tuple[str, str, str], int]:
    """The spend in an organization's entries by (credential, capability, kind); what is 0 may be missing."""
    found: dict[tuple[str, str, str], int] = {}
    async for low_ms, high_ms in stretches_of(connection, org):
        months = await connection.run_sync(id_range, low_ms, high_ms)
        statement = spend_within(_C.org == org, _C.settled_at_ms >= low_ms, _C.settled_at_ms < high_ms, *months)
        for _, credential, capability, *amounts in await connection.execute(statement):
            for kind, amount in zip(SPENT_ON, amounts, strict=True):
                found[credential, capability, kind] = found.get((credential, capability, kind), 0) + int(amount)
    return found


async def stretches_of(connection: AsyncConnection, org: str) -> AsyncIterator[tuple[int, int]]:
    """[low_ms, high_ms) of settlement that together have all entries of an organization: a statement may not take long."""
    ends = select(func.min(_C.settled_at_ms), func.max(_C.settled_at_ms)).where(_C.org == org)
    first, last = (await connection.execute(ends)).one()
    for low_ms in range(first or 0, (last or 0) + 1, _STRETCH_MS):
        yield low_ms, low_ms + _STRETCH_MS


def spend_within(*conditions: ColumnElement[bool]) -> Select[Any]:
    """SPENT_COLUMNS of entries, their amounts added up by the others."""
    amounts = SPENT_COLUMNS[len(_EXCHANGE) :]
    return select(*_EXCHANGE, *(func.sum(amount) for amount in amounts)).where(*conditions).group_by(*_EXCHANGE)
