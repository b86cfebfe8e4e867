"""The real limiter on a real Valkey beside a ledger, for tests of what passes between them."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from ledger_values import START_MS, a_fact

from tallygate.domain.admission import Account, AdmissionRequest, SpendDemand
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.rate_limit import LimitScope
from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger.audit import LimiterAudit
from tallygate.ledger.book import Book
from tallygate.ledger.continuity import Continuity
from tallygate.ledger.database import Database
from tallygate.ledger.event_stream import EventStreams
from tallygate.ledger.limiter_windows import windows_of
from tallygate.ledger.rebuild import Rebuild
from tallygate.ledger.writer import Writer
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import close_partition
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import Scripts, load_scripts

WEEK = SpendLimit(name="spend_7d", limit_nano_usd=10**12)
EACH = SpendLimit(name="spend_each", limit_nano_usd=10**12, scope=LimitScope.CREDENTIAL, window_ms=86_400_000)
MONTH = SpendLimit(name="spend_month", limit_nano_usd=10**12, window_ms=0)
DIGEST = bytes(32)


def an_organization(
    org: str = "acme", *, history_days: int | None = 90, limits: Sequence[SpendLimit] = (WEEK, EACH, MONTH)
) -> Organization:
    credentials = tuple(Credential(id=f"{org}-{name}", org=org, key_sha256=DIGEST) for name in ("prod", "test"))
    plan = Plan(id="paid", spend_limits=tuple(limits), history_days=history_days)
    return Organization(id=org, name=org, plan=plan, time_zone="America/New_York", credentials=credentials)


ORGANIZATIONS = (an_organization("acme"), an_organization("beta"))


class LimiterAtWork:
    """The real limiter on a real Valkey, a writer, and everything that repairs."""

    def __init__(self, store: RedisConnection, database: Database) -> None:
        self.store, self.database = store, database
        self.scripts: Scripts = load_scripts()
        self.limiter = RedisLimiter(store, self.scripts)
        self.writer = Writer(
            EventStreams(store, "one"),
            Book(database),
            now_ms=lambda: START_MS,
            loop_time=lambda: 0.0,
            on_posted_again=partial(close_partition, store),
            counted_at=self._counted_at,
            before_reading=Continuity(database, store, self.scripts).check,
        )
        self.counted_at: Callable[[int], int] | None = None
        self.number = 0

    def _counted_at(self, at_ms: int) -> int:
        return at_ms if self.counted_at is None else self.counted_at(at_ms)

    async def now_ms(self) -> int:
        seconds, micros = await self.store.command(b"TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def rebuild(self) -> int:
        rebuild = self.rebuilding()
        return await rebuild.open(await rebuild.closed())

    def rebuilding(self, **parts: Any) -> Rebuild:
        """Its clock is that of this machine, on which the store runs as well."""
        given = {"organizations": lambda: ORGANIZATIONS, "now_ms": lambda: time.time_ns() // 1_000_000, **parts}
        return Rebuild(self.database, self.store, self.scripts, **given)

    async def drifts(self) -> list[Any]:
        audit, now = LimiterAudit(self.database, self.store, self.scripts), await self.now_ms()
        return [drift async for _, found in audit.windows(ORGANIZATIONS, now) for drift in found]

    async def demands(self, org: Organization, credential: str) -> tuple[SpendDemand, ...]:
        now = await self.now_ms()
        return tuple(window.demand for window in windows_of(org, now) if window.credential in {None, credential})

    async def admit(self, org: Organization, credential: str) -> AdmissionRequest:
        request = await self.request(org, credential)
        await self.limiter.admit(request)
        return request

    async def request(self, org: Organization, credential: str, *, floor_nano_usd: int = 0) -> AdmissionRequest:
        self.number += 1
        now = await self.now_ms()
        fact = a_fact(self.number, org=org.id, credential=credential, started_at_ms=now)
        return AdmissionRequest(
            reservation_id=fact.event_id,
            org=org.id,
            rate=(),
            spend=await self.demands(org, credential),
            hold_nano_usd=1_000,
            hold_min_nano_usd=1_000,
            floor_nano_usd=floor_nano_usd,
            lease_ms=30_000,
            event=msgspec.json.encode(fact),
        )

    async def spend(self, org: Organization, credential: str, nano_usd: int) -> None:
        request = await self.admit(org, credential)
        await self.limiter.settle(
            Account(admission=request, cost_nano_usd=nano_usd, prompt_tokens=1, completion_tokens=1, event=request.event)
        )

    async def spent(self) -> list[int]:
        found = []
        for organization in ORGANIZATIONS:
            for credential in organization.credentials:
                demands = await self.demands(organization, credential.id)
                found += [reading.spent_nano_usd for reading in await self.limiter.read_windows(organization.id, demands)]
        return found
