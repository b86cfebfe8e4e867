"""A clock that leaps ahead and back at random, against an oracle that knows the true time.

It keeps a list of what was spent when, and nothing else: no bucket, no window, no script. The ledger's part is played as well: what
is closed is put back from that list once the clock is right.
"""

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limiter_values import BUCKET_MS, DAY_MS, HOUR_MS, MINUTE_MS, START_MS, a_month, a_rate, a_request, a_spend, an_account
from limiter_world import World, redis_world, reference_world
from marked_partitions import mark_all

from tallygate.domain.errors import LimiterWipedError
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import close_partition, reanchor_org, restore_window
from tallygate.limiter.keys import partition_of
from tallygate.limiter.reference_state import AHEAD_MS
from tallygate.limiter.script import load_scripts

LIMIT = 1_000
MONTH_MS = 31 * DAY_MS
WEEK = a_spend(LIMIT)
MONTH = a_month(3 * LIMIT, months=80)
RATE = a_rate(1, capacity=5)
LEASE_MS = 30_000


@dataclass
class Truth:
    """(true time, amount) of all that was spent, and of it what a wrong clock let through."""

    spent: list[tuple[int, int]] = field(default_factory=list)
    under_a_wrong_clock: list[tuple[int, int]] = field(default_factory=list)

    def between(self, start_ms: int, end_ms: int) -> int:
        return sum(amount for at, amount in self.spent if start_ms <= at < end_ms)

    def assert_limit_held(self) -> None:
        """In no true seven days more than the limit, and what was in flight while the clock was wrong."""
        for start, _ in self.spent:
            end = start + WEEK.limit.window_ms
            more = sum(amount for at, amount in self.under_a_wrong_clock if start <= at < end)
            assert self.between(start, end) <= LIMIT + more


class Played:
    """One limiter, its clock and the true time."""

    def __init__(self, world: World) -> None:
        self.world, self.truth = world, Truth()
        self.true_ms = world.clock.now_ms = START_MS + 3 * MONTH_MS
        self.count = 0

    async def act(self, seed: int) -> None:
        chosen = random.Random(seed)
        chance = chosen.random()
        if chance < 0.25:
            self.true_ms += chosen.choice((1, MINUTE_MS, HOUR_MS, DAY_MS, 3 * DAY_MS, 20 * DAY_MS)) * chosen.randrange(1, 3)
            self.world.clock.now_ms = self.true_ms
        elif chance < 0.65:
            await self.spend(chosen.randrange(1, LIMIT), ends=chosen.random() < 0.9)
        elif chance < 0.7:
            await self.world.sweep("acme")
        else:
            await self.leap(chosen)
        await self.check()

    async def leap(self, chosen: random.Random) -> None:
        """For a moment; a ledger notices it at its beginning, at its end, or not at all."""
        ahead = chosen.choice((1, -1)) * chosen.choice((AHEAD_MS + BUCKET_MS, DAY_MS, 7 * DAY_MS, 31 * DAY_MS, 80 * DAY_MS))
        self.world.clock.now_ms = self.true_ms + ahead + chosen.randrange(-1000, 1000)
        noticed = chosen.randrange(3)
        if noticed == 1:
            await self.close()
        for _ in range(chosen.randrange(3)):
            if chosen.random() < 0.5:
                await self.world.sweep("acme")
            else:
                await self.spend(chosen.randrange(1, LIMIT), ends=chosen.random() < 0.8)
        self.world.clock.now_ms = self.true_ms
        if noticed:
            await self.close()

    async def spend(self, nano_usd: int, *, ends: bool) -> None:
        """An exchange that costs what it held, or whose worker dies after that was noted."""
        self.count += 1
        request = a_request(f"r{self.count}", nano_usd, spend=(WEEK, MONTH), floor_nano_usd=nano_usd, lease_ms=LEASE_MS)
        try:
            if not (await self.world.limiter.admit(request)).admitted:
                return
            if ends:
                await self.world.limiter.settle(an_account(request, nano_usd))
        except LimiterWipedError:
            return
        # The ledger dates what comes from the future to now. What a clock that was behind let through, where no window was there to
        # notice it, stays where that clock put it.
        self.truth.spent.append((min(self.world.clock.now_ms, self.true_ms), nano_usd))
        if self.world.clock.now_ms != self.true_ms:
            self.truth.under_a_wrong_clock.append((self.true_ms, nano_usd))
        if not ends and self.world.clock.now_ms == self.true_ms:
            self.true_ms += LEASE_MS
            self.world.clock.now_ms = self.true_ms
            await self.sweep()
            self.truth.spent[-1] = self.true_ms, nano_usd
        elif not ends:
            await self.expire_after_the_leap(nano_usd)

    async def expire_after_the_leap(self, nano_usd: int) -> None:
        """A hold of the time ahead ends soon after the clock is right, once the ledger has brought it back."""
        self.world.clock.now_ms = self.true_ms
        await self.close()
        self.truth.spent.pop()  # not posted yet
        self.truth.under_a_wrong_clock.pop()
        await self.open()
        self.true_ms += 2 * HOUR_MS  # what was ahead by less than an hour is left to its own time
        self.world.clock.now_ms = self.true_ms
        await self.sweep()
        self.truth.spent.append((self.true_ms, nano_usd))
        self.truth.under_a_wrong_clock.append((self.true_ms, nano_usd))

    async def sweep(self) -> None:
        """Until nothing is due: what ended in the meantime stands in front of a hold, and a step of the sweep is bounded."""
        while await self.world.sweep("acme"):
            pass

    async def check(self) -> None:
        """Under a clock that is right: all that was spent counts, no more does, and nobody is locked out."""
        self.truth.assert_limit_held()
        try:
            await self.world.limiter.admit(a_request(f"probe{self.count}-{self.true_ms}", 0, spend=(WEEK, MONTH), lease_ms=1))
        except LimiterWipedError:
            await self.open()
        week, month = await self.world.limiter.read_windows("acme", (WEEK, MONTH))
        first_bucket = self.true_ms // BUCKET_MS * BUCKET_MS - WEEK.limit.window_ms
        period = next(period for period in MONTH.periods if self.true_ms < period.end_ms)
        assert week.spent_nano_usd == self.truth.between(first_bucket, self.true_ms + 1)
        assert month.spent_nano_usd == self.truth.between(period.start_ms, self.true_ms + 1)
        self.count += 1
        counted = await self.world.limiter.admit(a_request(f"rate{self.count}", 0, spend=(), rate=(RATE,), lease_ms=1))
        assert counted.retry_after_ms <= MINUTE_MS

    async def close(self) -> None:
        if self.world.reference is not None:
            self.world.reference.wiped_partitions.add(partition_of("acme"))
        elif self.world.store is not None:
            await close_partition(self.world.store, partition_of("acme"))

    async def open(self) -> None:
        posted: dict[int, int] = {}
        for at, amount in self.truth.spent:
            posted[at // BUCKET_MS * BUCKET_MS] = posted.get(at // BUCKET_MS * BUCKET_MS, 0) + amount
        pairs, now = sorted(posted.items()), self.world.clock.now_ms
        if self.world.reference is not None:
            for window in (WEEK, MONTH):
                self.world.reference.restore("acme", window, pairs)
            self.world.reference.reanchor("acme", LEASE_MS, HOUR_MS)
            self.world.reference.wiped_partitions.clear()
        elif self.world.store is not None:
            store, scripts = self.world.store, load_scripts()
            for window in (WEEK, MONTH):
                await restore_window(store, scripts, "acme", window, pairs, now_ms=now)
            await reanchor_org(store, scripts, "acme", lease_ms=LEASE_MS, now_ms=now)
            await mark_all(store, "again")


async def play(world: World, seeds: list[int]) -> None:
    played = Played(world)
    for seed in seeds:
        await played.act(seed)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_no_leap_of_the_clock_spends_twice_or_locks_out_in_the_reference(seeds: list[int]) -> None:
    asyncio.run(play(reference_world(), seeds))


@pytest.mark.timeout(120)
async def test_no_leap_of_the_clock_spends_twice_or_locks_out_in_the_scripts(valkey_unix_url: str) -> None:
    store = RedisConnection(parse_address(valkey_unix_url), timeout_ms=10_000)
    await store.open()
    try:
        await play(await redis_world(store), list(range(500)))
    finally:
        await store.close()
