"""Queries of the ledger: sums from the rollups, single entries page by page, spend from the limiter's buckets.

Every query names its organizations; no query covers all of them.
"""

import base64
import binascii
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    bindparam,
    cast,
    false,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.domain.calendar_months import day_start_ms, local_date
from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization
from tallygate.ledger.book import entries_of
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import Entry, model_label
from tallygate.ledger.entry_spans import EntrySpans, Span
from tallygate.ledger.history import Dimension, EntriesPage, EntriesQuery, OrgScope, QueryTooLargeError, Usage, UsageQuery, UsageRow
from tallygate.ledger.id_range import id_range
from tallygate.ledger.readable import Readable
from tallygate.ledger.retention import visible_from_ms
from tallygate.ledger.rollup_rows import RollupRows, Shares, recent_rows, rollup_rows
from tallygate.ledger.rollups import RECENT, Level, coarsest
from tallygate.ledger.schema import ENTRIES, ENTRY_MODEL, ROLLUP_AMOUNTS, ROLLUPS, SERIES, SPEND_BUCKETS
from tallygate.ledger.series import OTHER_MODEL
from tallygate.ledger.time_buckets import QUARTER_MS, bucket_edges

PAGE_MAX: Final = 1_000
ROWS_MAX: Final = 200_000  # of the database for one usage answer; more is an error that suggests a smaller query
PARTS_MAX: Final = 100  # of one statement; SQLite takes 500


_Sums = dict[tuple[int, tuple[Any, ...]], Sequence[int]]  # index of a bucket and its group, to ROLLUP_AMOUNTS


class UsageQueries:
    """The history of one ledger: a `UsageHistory`. Every call raises LedgerUnavailableError if the database does not answer."""

    def __init__(self, database: Readable) -> None:
        self._database = database

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        start, end = query.from_ms // QUARTER_MS * QUARTER_MS, -(-query.to_ms // QUARTER_MS) * QUARTER_MS
        if start >= end or not query.scopes:
            return []
        edges = [start, end]
        if query.bucket is not None:  # a zone that skipped a whole day has a day that begins where it ends
            inner = bucket_edges(start, end, query.bucket, query.time_zone, query.billing_day)
            edges = sorted({start, end, *(edge for edge in inner if start < edge < end)})
        sums = await self._sums(query, edges)
        return [
            UsageRow(
                start_ms=edges[index],
                end_ms=edges[index + 1],
                group=tuple(map(str, group)),
                usage=Usage(*amounts),
            )
            for (index, group), amounts in sorted(sums.items())
            if any(amounts)
        ]

    async def today(self, organization: Organization, credential: str, *, now_ms: Callable[[], int]) -> tuple[Usage, Usage]:
        """Usage of the day in the organization's time zone: of all, and of one credential. Raises StoreError."""
        now = now_ms()
        query = UsageQuery(
            scopes=(OrgScope(org=organization.id, visible_from_ms=visible_from_ms(organization, now)),),
            from_ms=day_start_ms(local_date(now, organization.time_zone), organization.time_zone),
            to_ms=now + 1,
        )
        of_credential = replace(query, filters={Dimension.CREDENTIAL: frozenset({credential})})
        try:
            whole, own = [await self.usage(each) for each in (query, of_credential)]
        except (LedgerUnavailableError, QueryTooLargeError) as error:
            raise StoreError(f"the ledger cannot be asked: {error}") from error
        return whole[0].usage if whole else Usage(), own[0].usage if own else Usage()

    async def entries_page(self, query: EntriesQuery) -> EntriesPage:
        limit = min(max(query.limit, 1), PAGE_MAX)
        after = _decode_cursor(query.cursor) if query.cursor else None
        found: list[tuple[int, str, int]] = []
        async with self._database.read() as connection:
            spans = _spans(query, after)
            if query.event_ids is not None:
                spans = await _spans_of_events(connection, query.event_ids, spans)
            elif query.filters and query.client_request_ids is None:
                spans = await _with_matches(connection, query, spans, limit + 1, after_ms=None if after is None else after[0])
            wanted: Collection[str | None] = (None,) if query.client_request_ids is None else sorted(query.client_request_ids)
            parts = [(span, client_id) for span in spans for client_id in wanted]
            months = await _months_of(connection, spans)
            for at in range(0, len(parts), PARTS_MAX):
                # Each organization's index has the positions; at most a page of them is kept.
                some = parts[at : at + PARTS_MAX]
                positions = [_positions(span, client_id, query, after, limit + 1).where(*months) for span, client_id in some]
                statement = union_all(*(select(one.subquery()) for one in positions))
                more = [tuple(row) for row in await connection.execute(statement)]
                found = sorted([*found, *more], reverse=query.newest_first)[: limit + 1]
            entries = await connection.run_sync(entries_of, sorted({event_id for _, event_id, _ in found[:limit]}))
        by_position = {_position(entry): entry for of_event in entries.values() for entry in of_event}
        page = [by_position[position] for position in found[:limit]]
        return EntriesPage(entries=tuple(page), cursor=_encode_cursor(page[-1]) if len(found) > limit else "")

    async def event(self, event_id: str) -> list[Entry]:
        """Every entry of an event, in their order, whosever it is; none if there is none."""
        async with self._database.read() as connection:
            return (await connection.run_sync(entries_of, [event_id]))[event_id]

    async def posted(
        self, org: str, since_ms: int, until_ms: int | None = None, *, credential: str | None = None
    ) -> list[tuple[int, int]]:
        """(bucket_ms, nano_usd) of the limiter's 5-minute buckets in [since_ms, until_ms), in order: the postings to its windows.

        They are kept for as long as the limiter's windows need them, however short the plan's history is.
        """
        columns = SPEND_BUCKETS.c
        statement = (
            select(columns.bucket_ms, func.sum(columns.posted_nano_usd))
            .where(columns.org == org, columns.bucket_ms >= since_ms)
            .group_by(columns.bucket_ms)
            .order_by(columns.bucket_ms)
        )
        if until_ms is not None:
            statement = statement.where(columns.bucket_ms < until_ms)
        if credential is not None:
            statement = statement.where(columns.credential == credential)
        async with self._database.read() as connection:
            return [(bucket, int(amount)) for bucket, amount in await connection.execute(statement)]

    async def _sums(self, query: UsageQuery, edges: Sequence[int]) -> _Sums:
        sums: _Sums = {}
        parts, width, rows_read = list(_parts(query, edges)), 1 + len(query.group_by), 0
        async with self._database.read() as connection:
            for at in range(0, len(parts), PARTS_MAX):
                some = parts[at : at + PARTS_MAX]
                selects = [part.select.add_columns(literal_column(str(number))) for number, part in enumerate(some)]
                statement = union_all(*selects) if len(selects) > 1 else selects[0]
                rows = (await connection.execute(statement.limit(ROWS_MAX + 1 - rows_read))).all()
                rows_read += len(rows)
                if rows_read > ROWS_MAX:
                    raise QueryTooLargeError(f"more than {ROWS_MAX} rows: ask for a shorter range, longer buckets or fewer groups")
                for row in map(tuple, rows):
                    group, amounts = row[1:width], row[width:-1]
                    for bucket, share in some[row[-1]].shares_of(row[0]):
                        _add(sums, (bucket, group), amounts, share)
        return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One SELECT: (start of one of the rows added up, group ..., amounts ...), and the buckets that a row of it counts for."""

    select: Select[Any]
    shares_of: Callable[[int], Shares]


def _parts(query: UsageQuery, edges: Sequence[int]) -> Iterator[_Part]:
    levels = coarsest({*query.group_by, *query.filters})
    for visible_from, orgs in _by_visibility(query.scopes).items():
        first = max(edges[0], -(-visible_from // QUARTER_MS) * QUARTER_MS)
        visible = [first, *(edge for edge in edges if edge > first)]
        hidden = len(edges) - len(visible)  # buckets that end before
        if len(visible) < 2:  # no bucket
            continue
        for (shares_of, divided), alike in groupby(
            rollup_rows(visible, query.bucket, query.time_zone, tuple(levels)), lambda rows: (rows.shares_of, rows.divided)
        ):
            rows = [_rows(query, orgs, levels[one.length_ms], one) for one in alike]
            for some in [rows] if divided is not None else [[one] for one in rows]:
                yield _Part(select=_added_up(query, some, divided), shares_of=partial(_later, shares_of, hidden))
        recent = recent_rows(visible)
        yield _Part(
            select=_added_up(query, [_rows(query, orgs, RECENT, recent)], recent.divided),
            shares_of=partial(_later, recent.shares_of, hidden),
        )


def _later(shares_of: Callable[[int], Shares], buckets: int, at_ms: int) -> Shares:
    return [(bucket + buckets, share) for bucket, share in shares_of(at_ms)] if buckets else shares_of(at_ms)


def _add(sums: _Sums, key: tuple[int, tuple[Any, ...]], amounts: Sequence[int], share: int) -> None:
    before = sums.get(key)
    if before is None:
        sums[key] = amounts if share > 0 else tuple(map(int.__neg__, amounts))
    else:
        sums[key] = tuple(map(int.__add__ if share > 0 else int.__sub__, before, amounts))


def _rows(query: UsageQuery, orgs: Sequence[str], level: Level, wanted: RollupRows) -> Select[Any]:
    """Rollup rows unchanged: (start, group ..., amounts ...)."""
    columns = ROLLUPS.c
    group = [columns.org if name is Dimension.ORG else SERIES.c[name.value] for name in query.group_by]
    conditions = [level.rows(), columns.org.in_(orgs), _starts_in(columns.bucket_ms, wanted.starts)]
    conditions += _matches(query.filters, {Dimension.ORG: columns.org})
    labelled = [column.label(f"group_{index}") for index, column in enumerate(group)]
    statement = select(columns.bucket_ms, *labelled, *(columns[name] for name in ROLLUP_AMOUNTS)).where(*conditions)
    if {*query.group_by, *query.filters} - {Dimension.ORG}:
        statement = statement.select_from(ROLLUPS.join(SERIES, SERIES.c.id == columns.series))
    return statement


def _added_up(query: UsageQuery, rows: Sequence[Select[Any]], divided: tuple[int, int] | None) -> Select[Any]:
    columns = (union_all(*rows) if len(rows) > 1 else rows[0]).subquery().c
    group: list[ColumnElement[Any]] = [columns[f"group_{index}"] for index in range(len(query.group_by))]
    # PostgreSQL sums bigints to numerics, each of which would become a Decimal.
    sums = [cast(func.sum(columns[name]), BigInteger) for name in ROLLUP_AMOUNTS]
    statement = select(func.max(columns.bucket_ms), *group, *sums)
    if divided is not None:
        shift, step = divided
        group = [(columns.bucket_ms + shift) // step, *group]
    return statement.group_by(*group) if group else statement.having(func.count() > 0)


def _starts_in(column: ColumnElement[int], starts: range | tuple[int, ...]) -> ColumnElement[bool]:
    if isinstance(starts, range):
        return and_(column >= starts.start, column < starts.stop)
    # Written into the statement: ten years of days have more edges than a statement may have parameters.
    return column.in_(bindparam(None, starts, expanding=True, literal_execute=True))


_ENTRY_COLUMNS: Final[Mapping[Dimension, ColumnElement[Any]]] = {
    Dimension.MODEL: ENTRY_MODEL,
    Dimension.REFUSED_BY: literal(""),
    **{name: ENTRIES.c[name.value] for name in Dimension if name not in {Dimension.MODEL, Dimension.REFUSED_BY}},
}


def _matches(
    filters: Mapping[Dimension, frozenset[str]], columns: Mapping[Dimension, ColumnElement[Any]]
) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name, values in filters.items():
        column = columns[name] if name in columns else SERIES.c[name.value]
        wanted: list[Any] = wanted_values(name, values)
        found.append(column.in_(wanted) if wanted else false())
    return found


def wanted_values(name: Dimension, values: frozenset[str]) -> list[Any]:
    """The values of a filter as columns have them."""
    if name is Dimension.STATUS:
        return sorted(map(int, values))
    return sorted(map(model_label, values) if name is Dimension.MODEL else values)


def _spans(query: EntriesQuery, after: tuple[int, str, int] | None) -> list[Span]:
    """The remaining part of the range for each organization."""
    low, high = query.from_ms, query.to_ms
    if after is not None:
        low, high = (low, min(high, after[0] + 1)) if query.newest_first else (max(low, after[0]), high)
    return [Span(scope.org, max(low, scope.visible_from_ms), high) for scope in query.scopes]


async def _spans_of_events(connection: AsyncConnection, event_ids: Collection[str], within: Sequence[Span]) -> list[Span]:
    """The instants at which these events were settled, of those within the spans."""
    columns = ENTRIES.c
    statement = select(columns.org, columns.settled_at_ms).where(columns.event_id.in_(sorted(event_ids))).distinct()
    limits = {span.org: span for span in within}
    return [
        Span(org, at_ms, at_ms + 1)
        for org, at_ms in await connection.execute(statement)
        if org in limits and limits[org].low_ms <= at_ms < limits[org].high_ms
    ]


async def _months_of(connection: AsyncConnection, spans: Sequence[Span]) -> tuple[ColumnElement[bool], ...]:
    if not spans:
        return ()
    return await connection.run_sync(id_range, min(span.low_ms for span in spans), max(span.high_ms for span in spans))


async def _with_matches(
    connection: AsyncConnection, query: EntriesQuery, spans: Sequence[Span], enough: int, *, after_ms: int | None
) -> list[Span]:
    filters = dict(query.filters)
    if models := filters.get(Dimension.MODEL):  # as series are labelled
        filters[Dimension.MODEL] = models | {OTHER_MODEL}
    orgs = filters.pop(Dimension.ORG, None)
    filters.pop(Dimension.REFUSED_BY, None)
    return await EntrySpans(
        connection,
        levels=coarsest({*filters, Dimension.STATUS}),
        conditions=_matches(filters, {}),
        within=[span for span in spans if orgs is None or span.org in orgs],
        enough=enough,
        newest_first=query.newest_first,
        after_ms=after_ms,
    ).find()


def _positions(
    span: Span, client_request_id: str | None, query: EntriesQuery, after: tuple[int, str, int] | None, limit: int
) -> Select[Any]:
    """The first `limit` positions of matching entries after `after`; of one client's id if one is given.

    Of several ids at once SQLite would read the whole span.
    """
    columns = ENTRIES.c
    position = (columns.settled_at_ms, columns.event_id, columns.sequence)
    conditions = [
        columns.org == span.org,
        columns.settled_at_ms >= span.low_ms,
        columns.settled_at_ms < span.high_ms,
        *_matches(query.filters, _ENTRY_COLUMNS),
    ]
    if client_request_id is not None:
        conditions.append(columns.client_request_id == client_request_id)
    if query.event_ids is not None:
        conditions.append(columns.event_id.in_(sorted(query.event_ids)))
    if after is not None:
        edge = tuple_(*map(literal, after))
        conditions.append(tuple_(*position) < edge if query.newest_first else tuple_(*position) > edge)
    order = [column.desc() for column in position] if query.newest_first else list(position)
    return select(*position).where(*conditions).order_by(*order).limit(limit)


def _by_visibility(scopes: Sequence[OrgScope]) -> dict[int, list[str]]:
    found: defaultdict[int, set[str]] = defaultdict(set)
    for scope in scopes:
        found[scope.visible_from_ms].add(scope.org)
    return {visible_from: sorted(orgs) for visible_from, orgs in found.items()}


def _position(entry: Entry) -> tuple[int, str, int]:
    return entry.settled_at_ms, entry.event_id, entry.sequence


def _encode_cursor(entry: Entry) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_position(entry))).decode()


def _decode_cursor(cursor: str) -> tuple[int, str, int]:
    try:
        return _CURSOR.decode(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, binascii.Error) as error:
        raise ValueError("not a cursor of a page before") from error


_CURSOR: Final = msgspec.json.Decoder(tuple[int, str, int])
