"""The ledger's log of refused requests: a sample of them, bounded by age, by organization, and in all.

Within the last bound, organizations with the most lines lose their oldest first, so that none crowds out another.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, and_, delete, false, func, literal, or_, select, tuple_

from tallygate.domain.organization import Organization
from tallygate.domain.refused_request import RefusedRequest
from tallygate.ledger.database import Database
from tallygate.ledger.entry import fields_of, storable
from tallygate.ledger.history import OrgScope
from tallygate.ledger.retention import visible_from_ms
from tallygate.ledger.schema import REFUSAL_FILES, REFUSED_REQUESTS
from tallygate.ledger.time_buckets import DAY_MS
from tallygate.ledger.usage_queries import PAGE_MAX
from tallygate.telemetry.refusal_file import Waiting

DAYS_KEPT: Final = 30
OF_AN_ORGANIZATION_MAX: Final = 10_000
OF_ALL_MAX: Final = 300_000
TRIM_EVERY: Final = 2_000  # lines of an organization; ten times as many of all
_DELETED_AT_ONCE: Final = 1_000
_NAMES: Final = RefusedRequest.__struct_fields__
_TEXTS: Final = tuple(each.name for each in fields_of(RefusedRequest) if each.type is str)
_DECODER: Final = msgspec.json.Decoder(RefusedRequest)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalsQuery:
    """A query for lines of [from_ms, to_ms). filters: allowed values by column. after: the position of the last line before."""

    scopes: tuple[OrgScope, ...]
    from_ms: int
    to_ms: int
    filters: Mapping[str, Collection[str | int]] = field(default_factory=dict)
    after: tuple[int, str] | None = None
    limit: int = 100
    newest_first: bool = True


class RefusedRequests:
    """The log in one ledger. Every call raises LedgerUnavailableError if the database does not answer."""

    def __init__(
        self, database: Database, *, of_an_organization_max: int = OF_AN_ORGANIZATION_MAX, of_all_max: int = OF_ALL_MAX
    ) -> None:
        self._database = database
        self._of_an_organization_max = of_an_organization_max
        self._of_all_max = of_all_max
        self._added: dict[str, int] = {}  # since an organization was last trimmed
        self._added_of_all = 0

    async def add(self, waiting: Waiting) -> int:
        """Add lines of a worker's file that are not in the log yet; return how many. Repeating the call adds nothing."""
        async with self._database.write() as connection:
            await self._database.wait_for_turn(connection, f"refusals of {waiting.source}")
            columns = REFUSAL_FILES.c
            known = select(columns.lines).where(columns.source == waiting.source)
            taken = (await connection.execute(known)).scalar() or 0
            if taken > waiting.upto:  # the file lost its end in a power failure, and goes on from there
                taken = 0
            rows = _rows([line for number, line in waiting.lines if number >= taken])
            values = [tuple(row[column.name] for column in REFUSED_REQUESTS.columns) for row in rows]
            await connection.run_sync(self._database.add_to_rows, REFUSED_REQUESTS, ("more",), values)
            statement = self._database.insert(REFUSAL_FILES).values(source=waiting.source, lines=waiting.upto)
            await connection.execute(statement.on_conflict_do_update(index_elements=[columns.source], set_={"lines": waiting.upto}))
        await self._trim_after(rows)
        return len(rows)

    async def page(self, query: RefusalsQuery) -> list[RefusedRequest]:
        """Lines in the order of time; of an organization none before its history."""
        columns = REFUSED_REQUESTS.c
        position = (columns.at_ms, columns.id)
        by_history: dict[int, list[str]] = {}
        for scope in query.scopes:
            by_history.setdefault(max(scope.visible_from_ms, query.from_ms), []).append(scope.org)
        visible = [and_(columns.org.in_(orgs), columns.at_ms >= from_ms) for from_ms, orgs in by_history.items()]
        conditions: list[ColumnElement[bool]] = [or_(false(), *visible), columns.at_ms < query.to_ms]
        conditions += [columns[name].in_(sorted(values)) for name, values in query.filters.items()]
        if query.after is not None:
            edge = tuple_(*map(literal, query.after))
            conditions.append(tuple_(*position) < edge if query.newest_first else tuple_(*position) > edge)
        order = [column.desc() for column in position] if query.newest_first else list(position)
        statement = select(*(columns[name] for name in _NAMES)).where(*conditions).order_by(*order)
        async with self._database.read() as connection:
            rows = await connection.execute(statement.limit(min(query.limit, PAGE_MAX + 1)))
            return [RefusedRequest(**row) for row in rows.mappings()]

    async def purge(self, organizations: Sequence[Organization], now_ms: int) -> int:
        """Delete what is older than DAYS_KEPT or a history, and what is beyond the bounds; return how many lines."""
        columns = REFUSED_REQUESTS.c
        kept_from = now_ms - DAYS_KEPT * DAY_MS
        removed = await self._delete(columns.at_ms < kept_from)
        histories: dict[int, list[str]] = {}
        for organization in organizations:
            visible_from = visible_from_ms(organization, now_ms)
            if visible_from > kept_from:
                histories.setdefault(visible_from, []).append(organization.id)
        for visible_from, orgs in histories.items():
            removed += await self._delete(columns.org.in_(orgs), columns.at_ms < visible_from)
        return removed + await self._trim_all()

    async def _trim_after(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep within the bounds after lines were added, without a look at the database each time."""
        self._added_of_all += len(rows)
        for row in rows:
            self._added[row["org"]] = self._added.get(row["org"], TRIM_EVERY - 1) + 1  # an unknown one may be full
        for org in [org for org, added in self._added.items() if added >= TRIM_EVERY]:
            self._added[org] = 0
            await self._trim(org, self._of_an_organization_max)
        if self._added_of_all >= 10 * TRIM_EVERY:
            await self._trim_all()

    async def _trim_all(self) -> int:
        columns = REFUSED_REQUESTS.c
        self._added_of_all = 0
        async with self._database.read() as connection:
            rows = (await connection.execute(select(columns.org, func.count()).group_by(columns.org))).all()
        counts: dict[str, int] = {row[0]: row[1] for row in rows}
        level = min(self._of_an_organization_max, fair_level(list(counts.values()), self._of_all_max))
        return sum([await self._trim(org, level) for org, number in sorted(counts.items()) if number > level])

    async def _trim(self, org: str, most: int) -> int:
        """Keep the newest lines of an organization, at most so many."""
        columns = REFUSED_REQUESTS.c
        order = (columns.at_ms.desc(), columns.id.desc())
        first_beyond = select(columns.at_ms, columns.id).where(columns.org == org).order_by(*order).offset(most).limit(1)
        async with self._database.read() as connection:
            edge = (await connection.execute(first_beyond)).first()
        if edge is None:
            return 0
        return await self._delete(columns.org == org, tuple_(columns.at_ms, columns.id) <= tuple_(*map(literal, tuple(edge))))

    async def _delete(self, *which: ColumnElement[bool]) -> int:
        """Delete lines, a few in one transaction."""
        key = tuple_(*REFUSED_REQUESTS.primary_key.columns)
        some = select(*REFUSED_REQUESTS.primary_key.columns).where(*which).limit(_DELETED_AT_ONCE)
        removed = 0
        while True:
            async with self._database.write() as connection:
                count = (await connection.execute(delete(REFUSED_REQUESTS).where(key.in_(some)))).rowcount
            removed += count
            if count < _DELETED_AT_ONCE:
                return removed


def fair_level(numbers: Sequence[int], most: int) -> int:
    """The number to which each of several has to be cut, so that together they are at most so many."""
    left, ordered = most, sorted(numbers)
    for index, number in enumerate(ordered):
        share = left // (len(ordered) - index)
        if number > share:
            return share
        left -= number
    return most


def _rows(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Rows in the order of their keys. Further refusals of the same labels and minute share one.

    Lines that cannot be read are left out.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in lines:
        try:
            found = _DECODER.decode(line)
        except msgspec.MsgspecError:
            _log.warning("a line of refused requests could not be read")
            continue
        row = {name: getattr(found, name) for name in _NAMES}
        row |= {name: storable(text) for name in _TEXTS if (text := row[name]) is not None}
        if found.more:
            row["id"] = _id_of_further(found)
        key = (row["org"], row["at_ms"], row["id"])
        if key in rows:
            row["more"] += rows[key]["more"]
        rows[key] = row
    return [row for _, row in sorted(rows.items())]


def _id_of_further(line: RefusedRequest) -> str:
    """The same for further refusals of the same labels, whichever worker counted them."""
    labels = (line.org, line.credential, line.capability, line.status, line.code, line.refused_by)
    return f"{line.at_ms:012x}{hashlib.sha256(repr(labels).encode()).hexdigest()[:20]}"
