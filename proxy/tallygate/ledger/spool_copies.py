"""Copies of the settlements that wait in gateways' spools, and their settlement where a gateway does not come back.

A gateway adds what it has spooled, and settles it itself once the limiter's store answers. The ledger removes a copy when the
exchange's final entry, or its job, is in the same database: neither is lost in between, whatever crashes. What is left when
the store has answered for a while belongs to a gateway that is lost, or cannot reach the store: the ledger settles it. If that
gateway settles it as well, the second settlement changes nothing, as any repeated one.

Only in PostgreSQL: a SQLite ledger is on the disk that has the spools.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import delete, func, literal, select, tuple_

from tallygate.domain.admission import Account
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.ledger.book import finished_events
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.jobs import JOBS
from tallygate.ledger.schema import SPOOL_COPIES
from tallygate.limiter.port import Limiter
from tallygate.shares.fair_shares import has_room
from tallygate.shares.seldom import Seldom

_C: Final = SPOOL_COPIES.c
COPIES_MAX: Final = 1_000_000  # of all gateways, some 1.5 GB; spools have room for more, which then has no copy
LOOK_EVERY_S: Final = 10.0  # for room, while copies come
LOOK_S_PER_COPY: Final = 1e-4  # in addition: a look counts them all
PAGE: Final = 500
SETTLED_AT_ONCE: Final = 200  # records in memory, of some kilobytes each
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Account).decode
_log = logging.getLogger(__name__)


class SpoolCopies:
    """Adds the copies of one gateway's worker.

    gateway   its name, for people
    clock     monotonic seconds

    There are at most COPIES_MAX, of which an organization may have three times what is left free. Workers look how many there are
    every few seconds, so together they may add a little more.
    """

    def __init__(self, database: Database, *, gateway: str, clock: Callable[[], float], copies_max: int = COPIES_MAX) -> None:
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._copies_max = copies_max
        self._counts: Counter[str] = Counter()  # by organization, as of the last look, and what was added since
        self._looked_at: float | None = None

    async def keep(self, records: Sequence[Account]) -> int:
        """Add copies; those that are there stay. Returns for how many there is no room. Raises StoreError: none was added."""
        try:
            await self._look()
            counts, free = self._counts.copy(), self._copies_max - self._counts.total()
            rows = []
            for record in records:
                org = record.admission.org
                if has_room(free - 1, counts[org], 1):
                    rows.append(self._row(record))
                    counts[org] += 1
                    free -= 1
            if rows:
                async with self._database.write() as connection:
                    statement = self._database.insert(SPOOL_COPIES).on_conflict_do_nothing()
                    await connection.execute(statement, sorted(rows, key=lambda row: (row["id"], row["is_deferred"])))
        except LedgerUnavailableError as error:
            raise StoreError(f"the database {error.reason}") from error
        self._counts = counts
        return len(records) - len(rows)

    async def _look(self) -> None:
        now = self._clock()
        pause = LOOK_EVERY_S + LOOK_S_PER_COPY * self._counts.total()
        if self._looked_at is not None and now - self._looked_at < pause:
            return
        async with self._database.read() as connection:
            rows = await connection.execute(select(_C.org, func.count()).group_by(_C.org))
            self._counts = Counter({row[0]: row[1] for row in rows})
        self._looked_at = now

    def _row(self, record: Account) -> dict[str, Any]:
        return {
            "id": record.admission.reservation_id,
            "is_deferred": bool(record.job),
            "org": record.admission.org,
            "gateway": self._gateway,
            "noted_at_ms": record.noted_at_ms,
            "record": _encode(record),
        }


class _Copy(NamedTuple):
    id: str
    is_deferred: bool
    org: str
    noted_at_ms: int


class SpoolHeir:
    """Removes the copies of what is in the ledger, and settles those whose gateway does not come back. Several may do so at once.

    limiter        of the store, through a connection that has a new run of it fenced
    check_store    raises StoreError if the store does not answer
    is_behind      whether the store's streams may have more than the ledger has read
    wait_seconds   how long the store must have answered, and a settlement have waited, until its gateway counts as lost
    clock          monotonic seconds
    """

    def __init__(
        self,
        database: Database,
        limiter: Limiter,
        *,
        check_store: Callable[[], Awaitable[object]],
        is_behind: Callable[[], bool],
        wait_seconds: float,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._limiter = limiter
        self._check_store = check_store
        self._is_behind = is_behind
        self._wait_seconds = wait_seconds
        self._now_ms = now_ms
        self._clock = clock
        self._answers_since: float | None = None
        self._seldom = Seldom(clock)
        self._inherited: set[tuple[str, bool]] = set()  # settled here, and not in the ledger yet: counted once
        self.waiting = 0  # copies, at the last step
        self.settled = 0

    async def step(self) -> None:
        """Look through all copies. Raises StoreError if the store is away, LedgerUnavailableError."""
        try:
            await self._check_store()
        except StoreError:
            self._answers_since = None
            self.waiting, _ = await waiting_copies(self._database)
            raise
        now = self._clock()
        self._answers_since = now if self._answers_since is None else self._answers_since
        has_waited = now - self._answers_since >= self._wait_seconds and not self._is_behind()
        lost_before_ms = self._now_ms() - int(self._wait_seconds * 1000) if has_waited else 0
        closed: set[str] = set()  # organizations whose spend the store has lost: until it is rebuilt, they wait
        gateways: Counter[str] = Counter()
        position, waiting, inherited = (-1, ""), 0, set[tuple[str, bool]]()
        try:
            while page := await self._page(position):
                position = page[-1].noted_at_ms, page[-1].id
                left = await self._remove_entered(page)
                waiting += len(left)
                lost = [copy for copy in left if copy.noted_at_ms < lost_before_ms]
                for start in range(0, len(lost), SETTLED_AT_ONCE):
                    await self._settle(lost[start : start + SETTLED_AT_ONCE], closed, gateways)
                inherited |= self._inherited.intersection((copy.id, copy.is_deferred) for copy in left)
                if len(page) < PAGE:
                    break
            self.waiting, self._inherited = waiting, inherited
        finally:
            if gateways:
                self.settled += gateways.total()
                fields = {"settlements": gateways.total(), "gateways": ", ".join(sorted(gateways))}
                _log.warning(
                    "spooled settlements of gateways that are away were settled from their copies", extra={"fields": fields}
                )

    async def _page(self, after: tuple[int, str]) -> list[_Copy]:
        """The next copies, the oldest first, without their records."""
        place = tuple_(_C.noted_at_ms, _C.id)
        names = (_C.id, _C.is_deferred, _C.org, _C.noted_at_ms)
        statement = (
            select(*names).where(place > tuple_(*map(literal, after))).order_by(_C.noted_at_ms, _C.id, _C.is_deferred.desc())
        )
        async with self._database.read() as connection:
            return [_Copy(*row) for row in await connection.execute(statement.limit(PAGE))]

    async def _remove_entered(self, copies: Sequence[_Copy]) -> list[_Copy]:
        """Remove the copies of what is in the ledger; returns the others."""
        ids = [copy.id for copy in copies]
        finished = await finished_events(self._database, ids)
        deferred = [copy.id for copy in copies if copy.is_deferred]
        followed: frozenset[str] = frozenset()
        if deferred:
            async with self._database.read() as connection:
                followed = frozenset((await connection.execute(select(JOBS.c.id).where(JOBS.c.id.in_(deferred)))).scalars())
        entered = [copy for copy in copies if copy.id in finished or (copy.is_deferred and copy.id in followed)]
        if not entered:
            return list(copies)
        keys = sorted((copy.id, copy.is_deferred) for copy in entered)
        async with self._database.write() as connection:
            await connection.execute(delete(SPOOL_COPIES).where(tuple_(_C.id, _C.is_deferred).in_(keys)))
        gone = set(keys)
        return [copy for copy in copies if (copy.id, copy.is_deferred) not in gone]

    async def _settle(self, copies: Sequence[_Copy], closed: set[str], gateways: Counter[str]) -> None:
        """Settle copies in their order. Each stays until its entry is in the ledger, and is settled again if that is lost."""
        keys = [(copy.id, copy.is_deferred) for copy in copies if copy.org not in closed]
        if not keys:
            return
        place = tuple_(_C.id, _C.is_deferred)
        statement = select(_C.id, _C.is_deferred, _C.gateway, _C.record).where(place.in_(keys))
        async with self._database.read() as connection:
            rows = {(row.id, row.is_deferred): row for row in await connection.execute(statement)}
        for key in keys:
            row = rows.get(key)
            if row is None or (account := self._read(row.id, row.record)) is None or account.admission.org in closed:
                continue
            try:
                settlement = await (self._limiter.defer(account) if account.job else self._limiter.settle(account))
            except LimiterWipedError:
                closed.add(account.admission.org)
                continue
            if key not in self._inherited:
                self._inherited.add(key)
                gateways[row.gateway] += not settlement.repeated

    def _read(self, id_: str, record: bytes) -> Account | None:
        """The account of a row; None for one of another version that cannot be read here, which stays."""
        try:
            return _decode(record)
        except msgspec.DecodeError as error:
            if self._seldom.is_due():
                _log.error("a copy of a spooled settlement cannot be read", extra={"fields": {"event": id_, "reason": str(error)}})
            return None


async def waiting_copies(database: Database) -> tuple[int, int]:
    """How many copies there are, and when the oldest was noted, in Unix ms; 0 without any. Raises LedgerUnavailableError."""
    statement = select(func.count(), func.coalesce(func.min(_C.noted_at_ms), 0)).select_from(SPOOL_COPIES)
    async with database.read() as connection:
        count, oldest_ms = (await connection.execute(statement)).one()
        return int(count), int(oldest_ms)
