"""Deliveries of notices to webhook endpoints: due ones, leases and results.

A delivery is leased before it is sent, and its result recorded after. If the process dies in between, it is sent again once the
lease has expired: at least once, under the same id. Any number of processes may share one table.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, select, update
from sqlalchemy.engine import RowMapping

from tallygate.ledger.database import Database
from tallygate.ledger.notices.digest import DigestNotice
from tallygate.ledger.notices.notice import Notice
from tallygate.ledger.notices.notice_rows import notice_of_row
from tallygate.ledger.notices.record import DeliveryState
from tallygate.ledger.notices.schema import DELIVERIES, DELIVERY_TOTALS, GONE_ENDPOINTS, NOTICES

ERROR_CHARS_MAX: Final = 200
ROWS_AT_ONCE: Final = 1_000  # of one transaction
_C: Final = DELIVERIES.c


class Result(StrEnum):
    """The result of an attempt, as the metric's label."""

    DELIVERED = "delivered"
    RETRIED = "retried"  # failed, to be retried
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One notice on its way to one endpoint. attempts: those that have ended. Times in Unix milliseconds."""

    event_id: str
    endpoint: str
    state: DeliveryState
    attempts: int
    due_at_ms: int
    last_status: int | None
    last_error: str | None
    queued_at_ms: int
    ended_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that this process has leased. attempts: those before this one."""

    notice: Notice | DigestNotice
    endpoint: str
    attempts: int


_DELIVERY_FIELDS: Final = tuple(field.name for field in fields(Delivery))


class Deliveries:
    """The deliveries of one ledger. Every method raises LedgerUnavailableError, without a change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, endpoints: Collection[str], now_ms: int) -> frozenset[str]:
        """The endpoints with a due delivery. However many wait, each endpoint costs one index look-up."""
        found = set()
        if not endpoints:  # as a rule there are none: nothing is asked of the database
            return frozenset()
        async with self._database.read() as connection:
            for endpoint in endpoints:
                one = select(_C.event_id).where(_C.endpoint == endpoint, *_free(now_ms)).limit(1)
                if (await connection.execute(one)).first() is not None:
                    found.add(endpoint)
        return frozenset(found)

    async def due_count(self, endpoint: str, now_ms: int, *, most: int) -> int:
        """How many deliveries to the endpoint are due, up to `most`."""
        some = select(_C.event_id).where(_C.endpoint == endpoint, *_free(now_ms)).limit(most).subquery()
        async with self._database.read() as connection:
            return int((await connection.execute(select(func.count()).select_from(some))).scalar_one())

    async def claim(self, endpoint: str, *, now_ms: int, lease_ms: int) -> Claimed | None:
        """Lease the delivery that has been due the longest; None if none is due and free."""
        longest = (
            select(_C.event_id)
            .where(*_free(now_ms), _C.endpoint == endpoint)
            .order_by(_C.due_at_ms, _C.event_id)
            .limit(1)
            .with_for_update(skip_locked=True)  # PostgreSQL: another process takes the next one; SQLite has one writer
            .scalar_subquery()
        )
        async with self._database.write() as connection:
            taken = await connection.execute(
                update(DELIVERIES)
                .where(_C.endpoint == endpoint, _C.event_id == longest)
                .values(leased_until_ms=now_ms + lease_ms)
                .returning(_C.event_id, _C.attempts)
            )
            row = taken.first()
            if row is None:
                return None
            notice = (await connection.execute(select(NOTICES).where(NOTICES.c.event_id == row.event_id))).mappings().one()
        return Claimed(notice=notice_of_row(notice), endpoint=endpoint, attempts=row.attempts)

    async def let_go(self, claimed: Claimed) -> None:
        """End the lease without an attempt: another process may send it at once."""
        async with self._database.write() as connection:
            await connection.execute(update(DELIVERIES).where(*_is(claimed)).values(leased_until_ms=0))

    async def delivered(self, claimed: Claimed, *, status: int, now_ms: int) -> None:
        """Record success, whatever another process has recorded meanwhile."""
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(DELIVERIES)
                .where(*_is(claimed), _C.state != DeliveryState.DELIVERED)
                .values(
                    state=DeliveryState.DELIVERED.value,
                    attempts=_C.attempts + 1,
                    last_status=status,
                    last_error=None,
                    ended_at_ms=now_ms,
                )
            )
            await connection.run_sync(self._count, Result.DELIVERED, changed.rowcount)

    async def failed(self, claimed: Claimed, *, status: int | None, error: str, next_at_ms: int | None, now_ms: int) -> None:
        """Record a failure; next_at_ms None: it was the last. Does nothing if another process has recorded an attempt meanwhile."""
        is_last = next_at_ms is None
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(DELIVERIES)
                .where(*_is(claimed), _C.state == DeliveryState.WAITING, _C.attempts == claimed.attempts)
                .values(
                    state=(DeliveryState.GIVEN_UP if is_last else DeliveryState.WAITING).value,
                    attempts=_C.attempts + 1,
                    due_at_ms=now_ms if next_at_ms is None else next_at_ms,
                    leased_until_ms=0,
                    last_status=status,
                    last_error=error[:ERROR_CHARS_MAX],
                    ended_at_ms=now_ms if is_last else None,
                )
            )
            await connection.run_sync(self._count, Result.GIVEN_UP if is_last else Result.RETRIED, changed.rowcount)

    async def give_up_beyond(self, endpoint: str, most: int, *, now_ms: int) -> int:
        """Give up the oldest waiting deliveries of an endpoint, so that `most` are left; returns how many."""
        newest = select(_C.event_id).where(_C.state == DeliveryState.WAITING, _C.endpoint == endpoint)
        newest = newest.order_by(_C.queued_at_ms.desc(), _C.event_id.desc()).limit(most)
        async with self._database.read() as connection:
            waiting = select(func.count()).where(_C.state == DeliveryState.WAITING, _C.endpoint == endpoint)
            if (await connection.execute(waiting)).scalar_one() <= most:
                return 0
        kept = newest.subquery()
        rest = _C.event_id.not_in(select(kept.c.event_id))
        return await self._give_up(_C.endpoint == endpoint, rest, error=f"more than {most} were waiting", now_ms=now_ms)

    async def give_up_overdue(self, endpoints: Collection[str], *, before_ms: int, now_ms: int) -> int:
        """Give up deliveries to other endpoints than these that have been due since before before_ms; returns how many."""
        others = _C.endpoint.not_in(sorted(endpoints))
        error = "the endpoint is not configured, or not enabled"
        is_old = (_C.queued_at_ms < before_ms, _C.due_at_ms < before_ms)
        return await self._give_up(others, *is_old, error=error, now_ms=now_ms)

    async def gone(self) -> Mapping[str, str]:
        """Fingerprints of endpoints that answered 410 Gone, by name."""
        columns = GONE_ENDPOINTS.c
        async with self._database.read() as connection:
            rows = await connection.execute(select(columns.endpoint, columns.fingerprint))
            return {row.endpoint: row.fingerprint for row in rows}

    async def mark_gone(self, endpoint: str, fingerprint: str, *, now_ms: int) -> None:
        """Stop sending to an endpoint with this configuration."""
        statement = self._database.insert(GONE_ENDPOINTS)
        statement = statement.on_conflict_do_update(
            index_elements=[GONE_ENDPOINTS.c.endpoint],
            set_={"fingerprint": statement.excluded.fingerprint, "gone_at_ms": statement.excluded.gone_at_ms},
        )
        row = {"endpoint": endpoint, "fingerprint": fingerprint, "gone_at_ms": now_ms}
        async with self._database.write() as connection:
            await connection.execute(statement, row)

    async def clear_gone(self, endpoint: str) -> None:
        """Resume sending to it."""
        async with self._database.write() as connection:
            await connection.execute(delete(GONE_ENDPOINTS).where(GONE_ENDPOINTS.c.endpoint == endpoint))

    async def give_up_gone(self, endpoint: str, *, now_ms: int) -> int:
        """Give up everything that waits for an endpoint that is gone; returns how many."""
        return await self._give_up(_C.endpoint == endpoint, error="the endpoint answered 410 Gone", now_ms=now_ms)

    async def retry(self, *, now_ms: int, endpoint: str | None = None, event_id: str | None = None) -> int:
        """Send given-up deliveries again, from the first attempt on, even to endpoints that answered 410; returns how many."""
        wanted = [_C.state == DeliveryState.GIVEN_UP]
        if endpoint is not None:
            wanted.append(_C.endpoint == endpoint)
        if event_id is not None:
            wanted.append(_C.event_id == event_id)
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(DELIVERIES)
                .where(*wanted)
                .values(
                    state=DeliveryState.WAITING.value,
                    attempts=0,
                    due_at_ms=now_ms,
                    leased_until_ms=0,
                    ended_at_ms=None,
                    queued_at_ms=now_ms,
                )
                .returning(_C.endpoint)
            )
            endpoints = list(changed.scalars())
            await connection.execute(delete(GONE_ENDPOINTS).where(GONE_ENDPOINTS.c.endpoint.in_(sorted(set(endpoints)))))
        return len(endpoints)

    async def latest(
        self, *, most: int, endpoint: str | None = None, state: DeliveryState | None = None, event_id: str | None = None
    ) -> list[Delivery]:
        """Up to `most` deliveries, the newest first."""
        query: Select[tuple[object, ...]] = select(*(_C[name] for name in _DELIVERY_FIELDS))
        for column, value in ((_C.endpoint, endpoint), (_C.state, state), (_C.event_id, event_id)):
            if value is not None:
                query = query.where(column == value)
        query = query.order_by(_C.queued_at_ms.desc(), _C.event_id.desc(), _C.endpoint).limit(most)
        async with self._database.read() as connection:
            return [delivery_of_row(row) for row in (await connection.execute(query)).mappings()]

    async def of_notices(self, event_ids: Sequence[str]) -> Mapping[str, list[Delivery]]:
        """Deliveries by notice, in the order of their endpoints' names."""
        query = select(*(_C[name] for name in _DELIVERY_FIELDS)).where(_C.event_id.in_(list(event_ids)))
        found: dict[str, list[Delivery]] = {event_id: [] for event_id in event_ids}
        async with self._database.read() as connection:
            for row in (await connection.execute(query.order_by(_C.event_id, _C.endpoint))).mappings():
                found[row["event_id"]].append(delivery_of_row(row))
        return found

    async def purge(self, stored_before_ms: int) -> int:
        """Delete older notices with their deliveries, unless one still waits; return how many, a bounded number a call."""
        waits = exists().where(_C.event_id == NOTICES.c.event_id, _C.state == DeliveryState.WAITING)
        old = select(NOTICES.c.event_id).where(NOTICES.c.stored_at_ms < stored_before_ms, ~waits).limit(ROWS_AT_ONCE)

        def purge(connection: Connection) -> int:
            ids = list(connection.execute(old).scalars())
            if ids:
                connection.execute(delete(DELIVERIES).where(_C.event_id.in_(ids)))
                connection.execute(delete(NOTICES).where(NOTICES.c.event_id.in_(ids)))
            return len(ids)

        return await self._database.transact(purge)

    async def _give_up(self, *wanted: ColumnElement[bool], error: str, now_ms: int) -> int:
        """Waiting deliveries without a lease: a leased one may still arrive."""
        statement = (
            update(DELIVERIES)
            .where(_C.state == DeliveryState.WAITING, _C.leased_until_ms <= now_ms, *wanted)
            .values(state=DeliveryState.GIVEN_UP.value, last_error=error, ended_at_ms=now_ms)
        )

        def give_up(connection: Connection) -> int:
            changed = connection.execute(statement)
            self._count(connection, Result.GIVEN_UP, changed.rowcount)
            return int(changed.rowcount)

        return await self._database.transact(give_up)

    def _count(self, connection: Connection, result: Result, more: int) -> None:
        if not more:
            return
        statement = self._database.insert(DELIVERY_TOTALS)
        statement = statement.on_conflict_do_update(
            index_elements=[DELIVERY_TOTALS.c.result],
            set_={"deliveries": DELIVERY_TOTALS.c.deliveries + statement.excluded.deliveries},
        )
        connection.execute(statement, {"result": result.value, "deliveries": more})


def count_waiting(database: Database) -> Callable[[Connection], int]:
    """The question how many deliveries have not ended."""
    ask = database.question(select(func.count()).where(_C.state == DeliveryState.WAITING))
    return lambda connection: int(ask(connection, {})[0][0])


def count_results(database: Database) -> Callable[[Connection], Mapping[Result, int]]:
    """The question of the results of attempts since the ledger began."""
    ask = database.question(select(DELIVERY_TOTALS.c.result, DELIVERY_TOTALS.c.deliveries))

    def results(connection: Connection) -> Mapping[Result, int]:
        rows: dict[str, int] = dict(ask(connection, {}))
        return {result: int(rows.get(result.value, 0)) for result in Result}

    return results


def delivery_of_row(row: RowMapping) -> Delivery:
    values = {name: row[name] for name in _DELIVERY_FIELDS}
    return Delivery(**{**values, "state": DeliveryState(values["state"])})


def _free(now_ms: int) -> tuple[ColumnElement[bool], ...]:
    return (_C.state == DeliveryState.WAITING, _C.due_at_ms <= now_ms, _C.leased_until_ms <= now_ms)


def _is(claimed: Claimed) -> tuple[ColumnElement[bool], ...]:
    return (_C.event_id == claimed.notice.event_id, _C.endpoint == claimed.endpoint)
