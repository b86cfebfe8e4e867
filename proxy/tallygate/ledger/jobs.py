"""Jobs that upstreams still work on: entered from the event stream, polled by gateways in turns, and gone with their last entry.

A gateway leases a job before it polls it, so that any number of them may share one table; one that dies leaves it to the next.
A job leaves in the transaction that enters its exchange's final entry.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Row,
    Table,
    Text,
    and_,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.domain.errors import StoreError
from tallygate.domain.job import DEFERRED, OPEN_JOBS_MAX, Job
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import FINAL, Entry, MalformedEntryError, storable
from tallygate.ledger.schema import ENTRIES, METADATA, NAME

JOB_KIND: Final = b"deferred"  # of a stream entry
JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("id", NAME, nullable=False),
    Column("org", NAME, nullable=False),
    Column("kind", NAME, nullable=False),
    Column("upstream", NAME, nullable=False),
    Column("object_id", NAME, nullable=False),
    Column("held_nano_usd", BigInteger, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("leased_until_ms", BigInteger, nullable=False),
    Column("polls", Integer, nullable=False),
    Column("progress", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("id"),
    Index(None, "due_ms"),
    Index(None, "org", "due_ms"),
    sqlite_with_rowid=False,
)
_C: Final = JOBS.c
_IDS_AT_ONCE: Final = 500
_JOBS_AT_ONCE: Final = 200  # of some kilobytes each
_FINAL: Final = select(ENTRIES.c.event_id).where(ENTRIES.c.kind.in_(sorted(FINAL)))
_log: Final = logging.getLogger(__name__)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Job).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJob:
    """A job as the table has it. polls: those before; progress: how many of its results are entered."""

    job: Job
    polls: int
    progress: int


def job_of_stream(fields: Mapping[bytes, bytes]) -> Job:
    """The job of a stream entry. Raises MalformedEntryError."""
    try:
        job = _decode(fields.get(b"event", b""))
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise MalformedEntryError(f"no job: {error}"[:1_000]) from error
    if job.id.encode() != fields.get(b"event_id"):
        raise MalformedEntryError("the job's id is not that of its stream entry")
    return job


def record_jobs(connection: Connection, database: Database, jobs: Iterable[Job]) -> None:
    """Enter jobs; those that are known stay as they are."""
    rows = [_row(job) for _, job in sorted({job.id: job for job in jobs}.items())]
    if rows:
        connection.execute(database.insert(JOBS).on_conflict_do_nothing(), rows)


def end_jobs(connection: Connection, entries: Sequence[Entry]) -> None:
    """Remove the jobs that these new entries end."""
    ended = [entry.event_id for entry in entries if entry.flags and entry.kind in FINAL and DEFERRED in entry.flags.split(",")]
    if ended:
        connection.execute(delete(JOBS).where(_C.id.in_(sorted(ended))))


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "org": job.org,
        "kind": job.kind,
        "upstream": job.upstream,
        "object_id": storable(job.object_id),
        "held_nano_usd": job.held_nano_usd,
        "started_at_ms": job.started_at_ms,
        "deadline_ms": job.deadline_ms,
        "due_ms": job.started_at_ms,
        "leased_until_ms": 0,
        "polls": 0,
        "progress": 0,
        "body": _encode(job).decode(),
    }


class Jobs:
    """The jobs of one ledger, as gateways poll them. Every method raises StoreError, without a change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, *, now_ms: int, lease_ms: int, after_org: str = "", but_orgs: Collection[str] = ()) -> OpenJob | None:
        """Lease a job of the next organization after this one, the one that has been due the longest; None if none is due and free.

        but_orgs: those whose jobs wait. Whoever passes the organization of the last job lets organizations take turns, however
        many jobs one of them has. A job whose end is entered is removed.
        """
        is_free = and_(_C.due_ms <= now_ms, _C.leased_until_ms <= now_ms, _C.org.not_in(sorted(but_orgs)))
        try:
            async with self._database.read() as connection:  # most looks find none, and need no lock
                if (await connection.execute(select(_C.id).where(is_free).limit(1))).first() is None:
                    return None
            while True:
                async with self._database.write() as connection:
                    row = await _lease(connection, and_(_C.org > after_org, is_free), until_ms=now_ms + lease_ms)
                    if row is None and after_org:
                        row = await _lease(connection, and_(_C.org <= after_org, is_free), until_ms=now_ms + lease_ms)
                    if row is None:
                        return None
                    if (await connection.execute(_FINAL.where(ENTRIES.c.event_id == row.id).limit(1))).first() is not None:
                        await connection.execute(delete(JOBS).where(_C.id == row.id))
                    elif (job := _read_job(row.id, row.body)) is not None:
                        return OpenJob(job=job, polls=row.polls - 1, progress=row.progress)
        except LedgerUnavailableError as error:
            raise _away(error) from error

    async def has_open(self) -> bool:
        """Return whether any job is open, due or not."""
        try:
            async with self._database.read() as connection:
                return (await connection.execute(select(_C.id).limit(1))).first() is not None
        except LedgerUnavailableError as error:
            raise _away(error) from error

    async def has_room(self, org: str) -> bool:
        """Whether an organization has fewer than OPEN_JOBS_MAX jobs open."""
        last = select(_C.id).where(_C.org == org).order_by(_C.due_ms).offset(OPEN_JOBS_MAX - 1).limit(1)
        try:
            async with self._database.read() as connection:
                return (await connection.execute(last)).first() is None
        except LedgerUnavailableError as error:
            raise _away(error) from error

    async def keep(self, job_id: str, *, progress: int, lease_until_ms: int) -> None:
        """Note how many of its results are entered, and renew its lease."""
        await self._change(job_id, progress=progress, leased_until_ms=lease_until_ms)

    async def spent(self, job_id: str) -> int:
        """What the results that are entered of it cost: their ids begin with its own (`gateway/jobs/batches.py`)."""
        id_ = ENTRIES.c.event_id
        asked = select(func.coalesce(func.sum(ENTRIES.c.cost_nano_usd), 0)).where(id_ > f"{job_id}-", id_ < f"{job_id}.")
        try:
            async with self._database.read() as connection:
                return int((await connection.execute(asked)).scalar_one())
        except LedgerUnavailableError as error:
            raise _away(error) from error

    async def put_off(self, job_id: str, *, due_ms: int) -> None:
        """Poll it again at that time."""
        await self._change(job_id, due_ms=due_ms, leased_until_ms=0)

    async def give_up(self, job_id: str) -> None:
        """Forget a job of which the limiter has charged what was held, and nothing was heard since."""
        try:
            async with self._database.write() as connection:
                await connection.execute(delete(JOBS).where(_C.id == job_id))
        except LedgerUnavailableError as error:
            raise _away(error) from error

    async def _change(self, job_id: str, **values: int) -> None:
        try:
            async with self._database.write() as connection:
                await connection.execute(update(JOBS).where(_C.id == job_id).values(**values))
        except LedgerUnavailableError as error:
            raise _away(error) from error


def _read_job(id_: str, body: str) -> Job | None:
    """The job of a row; None for one of another version that cannot be read here, which must not keep others from their turn."""
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        _log.error("a job cannot be read", extra={"fields": {"job": id_, "reason": str(error)}})
        return None


async def _lease(connection: AsyncConnection, asked: ColumnElement[bool], *, until_ms: int) -> Row[Any] | None:
    longest = (
        select(_C.id)
        .where(asked)
        .order_by(_C.org, _C.due_ms, _C.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL: another gateway takes the next one; SQLite has one writer
        .scalar_subquery()
    )
    taken = update(JOBS).where(_C.id == longest).values(leased_until_ms=until_ms, polls=_C.polls + 1)
    return (await connection.execute(taken.returning(_C.id, _C.body, _C.polls, _C.progress))).first()


async def open_jobs(database: Database, orgs: Sequence[str]) -> AsyncIterator[OpenJob]:
    """The open jobs of these organizations, some at a time. Raises LedgerUnavailableError."""
    for start in range(0, len(orgs), _IDS_AT_ONCE):
        last = ""
        while True:
            asked = and_(_C.org.in_(orgs[start : start + _IDS_AT_ONCE]), _C.id > last)
            statement = select(_C.id, _C.body, _C.polls, _C.progress).where(asked).order_by(_C.id).limit(_JOBS_AT_ONCE)
            async with database.read() as connection:
                rows = (await connection.execute(statement)).all()
            for row in rows:
                if (job := _read_job(row.id, row.body)) is not None:
                    yield OpenJob(job=job, polls=row.polls, progress=row.progress)
            if len(rows) < _JOBS_AT_ONCE:
                break
            last = rows[-1].id


async def held_by_jobs(database: Database, org: str) -> tuple[int, int]:
    """How many jobs of an organization are open, and what they were held at together. Raises LedgerUnavailableError."""
    async with database.read() as connection:
        rows = await connection.execute(select(func.count(), func.coalesce(func.sum(_C.held_nano_usd), 0)).where(_C.org == org))
        open_, held = rows.one()
        return int(open_), int(held)


def count_jobs(database: Database) -> Callable[[Connection], Mapping[str, int]]:
    """The question how many jobs are open, by kind."""
    ask = database.question(select(_C.kind, func.count()).group_by(_C.kind))
    return lambda connection: dict(ask(connection, {}))


def _away(error: LedgerUnavailableError) -> StoreError:
    return StoreError(f"the ledger cannot be asked: {error}")
