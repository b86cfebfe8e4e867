"""Following jobs to their end: one is leased, its upstream asked, and what has ended is settled.

A poller that dies leaves its job to the next one, at whatever step: a settlement is entered once by the exchange's id, and the job
leaves the ledger with its entry. An upstream that cannot be asked is asked again, less and less often, until the hold has been
charged as it stands and its correction would come too late.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Collection
from typing import Final, Protocol, TypeVar, cast

from aiohttp import ClientSession

from tallygate.dialects.batch import BatchDialect
from tallygate.dialects.dialect import JobKind
from tallygate.dialects.job_kinds import JOB_FACTS, VIDEOS
from tallygate.domain.admission import Account
from tallygate.domain.errors import StoreError
from tallygate.domain.job import LEASE_GRACE_MS, Job
from tallygate.gateway.jobs.batches import BatchResults, account_of_lost
from tallygate.gateway.jobs.responses import account_as_held, settled_response
from tallygate.gateway.jobs.videos import settled_video
from tallygate.gateway.services import Services
from tallygate.gateway.upstream_reads import read_target
from tallygate.limiter.redis_limiter import EXPIRED_MS
from tallygate.outbound.session import FetchError
from tallygate.shares.seldom import Seldom
from tallygate.telemetry.metrics import JOB_POLLS

LOOK_EVERY_S: Final = 1.0
IDLE_LOOKS: Final = 15  # of which one is made while no job is open anywhere: the database of an idle gateway has nothing to do
LOOKS_AFTER_A_JOB: Final = 15  # that are all made: the ledger has a job soon after its gateway deferred it
LEASE_MS: Final = 60_000
AT_ONCE: Final = 8  # jobs of one worker that are asked for at once
ORG_AT_ONCE: Final = 6  # of one organization: it leaves places to others
BEHIND_MS: Final = 10_000  # until a job is taken up again that had to wait
LOST_AFTER_MS: Final = 60_000  # a job that its upstream does not know may be too new before
GROWTH: Final = 1.5  # of the time between two polls
NOT_FOUND: Final = frozenset({404, 410})
_Result = TypeVar("_Result")
_log: Final = logging.getLogger(__name__)


class OpenJob(Protocol):
    """A job that was claimed. polls: those before; progress: how many of its results are entered."""

    @property
    def job(self) -> Job: ...
    @property
    def polls(self) -> int: ...
    @property
    def progress(self) -> int: ...


class JobStore(Protocol):
    """The open jobs of all gateways. Every method raises StoreError."""

    async def claim(self, *, now_ms: int, lease_ms: int, after_org: str = "", but_orgs: Collection[str] = ()) -> OpenJob | None: ...
    async def has_open(self) -> bool: ...
    async def has_room(self, org: str) -> bool: ...
    async def keep(self, job_id: str, *, progress: int, lease_until_ms: int) -> None: ...
    async def spent(self, job_id: str) -> int: ...
    async def put_off(self, job_id: str, *, due_ms: int) -> None: ...
    async def give_up(self, job_id: str) -> None: ...


class Poller:
    """Polls the jobs of a ledger, beside any number of other pollers."""

    def __init__(self, services: Services, store: JobStore, session: ClientSession) -> None:
        self._services = services
        self._store = store
        self._session = session
        self._last_org = ""  # of the job that was claimed last: organizations take turns
        self._looking = asyncio.Lock()
        self._seldom = Seldom(time.monotonic)  # lines of the log about a database or a store that is away
        self._deferred = 0  # by this worker, when it looked last
        self._looks_left = LOOKS_AFTER_A_JOB
        self._polled: Counter[str] = Counter()  # jobs that are being polled, by organization

    async def poll_forever(self) -> None:
        """Poll what is due, several at once, of which one looks for more: a long batch keeps none of the others waiting."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._poll_in_turn())

    async def _poll_in_turn(self) -> None:
        while True:
            async with self._looking:
                found = await self._attempt(self.claim())
                if found is None:
                    await self._rest()
                    continue
                self._polled[found.job.org] += 1
            await self._attempt(self.poll(found))
            self._polled -= Counter((found.job.org,))

    async def _rest(self) -> None:
        """Wait for the next look: longer while no job is open anywhere, until this worker defers one."""
        self._looks_left -= 1
        is_idle = self._looks_left <= 0 and await self._attempt(self._store.has_open()) is False
        for _ in range(IDLE_LOOKS if is_idle else 1):
            await asyncio.sleep(LOOK_EVERY_S)
            if self._deferred != self._services.settler.deferred:
                self._deferred, self._looks_left = self._services.settler.deferred, LOOKS_AFTER_A_JOB
                return

    async def _attempt(self, work: Awaitable[_Result]) -> _Result | None:
        try:
            done = await work
        except StoreError as error:
            if self._seldom.is_due():
                _log.warning("jobs are not polled", extra={"fields": {"reason": str(error)}})
        except Exception:  # noqa: BLE001 - the outermost handler: a fault of one job must not end the others
            _log.exception("a job could not be polled")
        else:
            self._seldom.forget()
            return done
        return None

    async def claim(self) -> OpenJob | None:
        """Lease the next job that is due, of an organization that has not its share of places; None if there is none.

        Raises StoreError.
        """
        full = [org for org, number in self._polled.items() if number >= ORG_AT_ONCE]
        found = await self._store.claim(now_ms=self._services.now_ms(), lease_ms=LEASE_MS, after_org=self._last_org, but_orgs=full)
        if found is not None:
            self._last_org = found.job.org
        return found

    async def poll(self, found: OpenJob) -> None:
        """Ask for one job, and settle it if it has ended. Raises StoreError."""
        job, services = found.job, self._services
        try:
            account, result = await self._outcome(found)
            if account is not None:
                await services.settler.settle_job(account)
        except StoreError as error:  # somebody comes back to it, also in the middle of its results
            _log.warning("a job waits", extra={"fields": {"job": job.id, "reason": str(error)}})
            await self._store.put_off(job.id, due_ms=services.now_ms() + BEHIND_MS)
            return
        services.metrics.inc(JOB_POLLS, result)
        await self._put_off(found, is_settled=account is not None)

    async def _outcome(self, found: OpenJob) -> tuple[Account | None, str]:
        """The account of a job that has ended, and in a word what was heard of it."""
        job = found.job
        try:
            account = await self._ask(found)
        except FetchError as error:
            _log.warning("a job is not known", extra={"fields": {"job": job.id, "upstream": job.upstream, "reason": str(error)}})
            return (await self._lost(found), "lost") if self._is_lost(job, error) else (None, "unanswered")
        return account, "running" if account is None else "ended"

    async def _ask(self, found: OpenJob) -> Account | None:
        job, services = found.job, self._services
        upstream = services.view.upstreams.get(job.upstream)
        if upstream is None:
            raise FetchError("its upstream is not configured any more")
        dialect = services.dialects[job.dialect]
        if job.kind in VIDEOS:
            return await settled_video(services, self._session, upstream, job)
        if job.dialect not in services.dialects.batches:
            return await settled_response(services, job, await read_target(self._session, upstream, dialect, job.target))
        headers = cast("BatchDialect", dialect).own_headers
        answer = await read_target(self._session, upstream, dialect, job.target, headers=headers)

        async def keep(progress: int) -> None:
            await self._store.keep(job.id, progress=progress, lease_until_ms=services.now_ms() + LEASE_MS)

        results = BatchResults(services, self._session, upstream, job, progress=found.progress, keep=keep, spent=self._store.spent)
        try:
            return await results.enter(answer)
        except FetchError as error:
            if not self._is_lost(job, error):
                raise
            return await results.lost()

    def _is_lost(self, job: Job, error: FetchError) -> bool:
        return error.status in NOT_FOUND and self._services.now_ms() - job.started_at_ms >= LOST_AFTER_MS

    async def _lost(self, found: OpenJob) -> Account:
        if found.job.dialect not in self._services.dialects.batches:
            return account_as_held(found.job)
        spent = await self._store.spent(found.job.id)
        return account_of_lost(self._services, found.job, progress=found.progress, spent_nano_usd=spent)

    async def _put_off(self, found: OpenJob, *, is_settled: bool) -> None:
        """Poll it again later. What is settled leaves with its entry; until then it is asked for again, which changes nothing."""
        job, now_ms = found.job, self._services.now_ms()
        if not is_settled and now_ms > job.deadline_ms + LEASE_GRACE_MS + EXPIRED_MS:
            await self._store.give_up(job.id)
            return
        kind = JOB_FACTS[JobKind(job.kind)]
        wait_ms = kind.most_ms if is_settled else min(kind.most_ms, int(kind.first_ms * GROWTH ** min(found.polls, 50)))
        await self._store.put_off(job.id, due_ms=now_ms + wait_ms)
