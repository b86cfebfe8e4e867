"""A store that scripts of version 0.5.0 have filled goes on under today's: no spend is lost, and each reservation ends once.

former_store.json is what those scripts left of `history`, told to them by a clock: key by key, as values of Redis.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from limiter_values import DAY_MS, HOUR_MS, MINUTE_MS, Clock, a_month, a_rate, a_request, a_spend, an_account
from limiter_world import World
from msgspec.structs import replace
from snapshot import Snapshot, events_of_redis, events_of_reference, snapshot_of_reference
from trace_driver import CLOSED, TraceDriver

from tallygate.domain.admission import AdmissionRequest
from tallygate.domain.rate_limit import Quantity
from tallygate.limiter.keys import org_keys
from tallygate.limiter.port import Limiter
from tallygate.limiter.redis_limiter import EXPIRED_MS, RedisLimiter
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.wire import encode_sweep

ORG = "acme"
FORMER: dict[str, Any] = json.loads((Path(__file__).parent / "former_store.json").read_text())
RATES = (
    a_rate(1, capacity=20, window_ms=MINUTE_MS),
    a_rate(1, capacity=7, refill=100, window_ms=HOUR_MS, key="cred:c1:hour", shadow=True),
    a_rate(300, capacity=1000, refill=999, quantity=Quantity.TOKENS),
    a_rate(1, capacity=4, quantity=Quantity.OPEN_REQUESTS, key="cred:c1:open"),
)
SPEND = (
    a_spend(100_000, warn_at_permille=(500, 900)),
    a_spend(70_000, key="cred:c1:spend_1d", window_ms=DAY_MS),
    a_month(125_000, months=3, length_ms=40 * HOUR_MS),
)


def _asked(name: str, hold: int = 3000, **changes: Any) -> AdmissionRequest:
    return a_request(name, hold, rate=RATES, spend=SPEND, floor_nano_usd=20, floor_prompt_tokens=10, **changes)


SETTLED, EXPIRED, DEFERRED, OPEN, LEFT = (
    _asked("settled"),
    _asked("expired", lease_ms=1000),
    _asked("deferred", 2000),
    _asked("open", 1500, lease_ms=90_000),
    _asked("left", 700),
)


async def history(limiter: Limiter, clock: Clock, sweep: Callable[[], Awaitable[Any]]) -> None:
    """One reservation of each state, a pause with its mark, and spend in two buckets of the window."""
    await limiter.admit(SETTLED)
    clock.now_ms += 2000
    await limiter.settle(an_account(SETTLED, 55_000, 700, 900))
    clock.now_ms += 3 * MINUTE_MS
    await limiter.admit(EXPIRED)
    await limiter.checkpoint((an_account(EXPIRED, 40, 5, 6),))
    clock.now_ms += 2000
    await sweep()
    clock.now_ms += 3 * MINUTE_MS
    for request in (DEFERRED, OPEN, LEFT):
        await limiter.admit(request)
    await limiter.defer(replace(an_account(replace(DEFERRED, lease_ms=DAY_MS), 2000, 3, 4), job=b'{"job":1}'))
    clock.now_ms += 3000
    assert not (await limiter.admit(_asked("refused", 20_000))).admitted


class Upgraded:
    """Today's scripts over a former store, and the model that lived through the same."""

    def __init__(self, world: World) -> None:
        assert world.store is not None
        self.store, self.clock, self._scripts = world.store, Clock(), load_scripts()
        self.limiter = RedisLimiter(self.store, self._scripts, now_ms=self.clock)
        self.model = ReferenceLimiter(self.clock)
        self._state = world.state

    async def start(self) -> "Upgraded":
        async def sweep() -> None:
            self.model.sweep(ORG)

        await history(self.model, self.clock, sweep)
        self.model.events.clear()
        for bucket in self.model.orgs[ORG].buckets.values():
            bucket.held = 0  # what former gateways hold of a bucket they may end in their own
        for key, (kind, value) in FORMER.items():
            words = [word.encode() for pair in value for word in pair]
            await self.store.command(b"HSET" if kind == "hash" else b"ZADD", key.encode(), *words)
        return self

    async def sweep(self, org: str = ORG, most: int = 64) -> list[list[int]]:
        args = (b"%d" % self.clock(), encode_sweep([org], most, EXPIRED_MS))
        handled, expired, _looked_at = await self.store.run_script(self._scripts.expire, org_keys(org).all, args)
        return [list(self.model.sweep(org, most)), [handled, expired]]

    async def state(self) -> Snapshot:
        return await self._state(ORG)


@pytest.fixture
async def upgraded(world: World) -> Upgraded | None:
    """None for the world that has no store."""
    return await Upgraded(world).start() if world.store else None


async def _both(upgraded: Upgraded, ask: Callable[[Limiter], Awaitable[Any]]) -> Any:
    expected, found = await ask(upgraded.model), await ask(upgraded.limiter)
    assert found == expected
    return found


async def _assert_equal(upgraded: Upgraded) -> None:
    assert await upgraded.state() == snapshot_of_reference(upgraded.model, ORG)
    assert await events_of_redis(upgraded.store, ORG) == events_of_reference(upgraded.model, ORG)


async def test_limits_stand_as_they_were(upgraded: Upgraded | None) -> None:
    if upgraded is None:
        return
    states = await _both(upgraded, lambda limiter: limiter.read_limits(ORG, RATES, SPEND))
    assert states.spend[0].spent_nano_usd == 55_040
    assert states.spend[0].held_nano_usd == 2000 + 1500 + 700
    assert states.spend[1].paused_until_ms > upgraded.clock()


@pytest.mark.parametrize("ends", ["settled", "withdrawn", "expired"])
async def test_each_reservation_ends_once(upgraded: Upgraded | None, ends: str) -> None:
    if upgraded is None:
        return
    for again in (False, True):
        if ends == "expired":
            upgraded.clock.now_ms += 100_000
            model, found = await upgraded.sweep()
            assert found == model
            assert found[1] == (0 if again else 2)
        for request in (SETTLED, EXPIRED, DEFERRED, OPEN, LEFT):
            if ends == "withdrawn":
                await _both(upgraded, lambda limiter, request=request: limiter.withdraw(request))
            else:
                account = an_account(request, 1800, 30, 40)
                settlement = await _both(upgraded, lambda limiter, account=account: limiter.settle(account))
                assert settlement.repeated == (again or request is SETTLED)
    admitted = await _both(upgraded, lambda limiter: limiter.admit(_asked("next", 1)))
    assert admitted.spend[0].held_nano_usd == 1
    await _assert_equal(upgraded)


async def test_any_history_goes_on_as_in_the_model(upgraded: Upgraded | None) -> None:
    if upgraded is None:
        return
    upgraded.clock.now_ms += MINUTE_MS // 2
    admitted = await _both(upgraded, lambda limiter: limiter.admit(_asked("next", 1)))
    assert admitted.admitted  # and has brought each bucket into today's layout
    driver = TraceDriver(3, upgraded.clock, (upgraded.model, upgraded.limiter), upgraded.sweep)
    for step in range(250):
        said, (expected, found) = await driver.step()
        assert found == expected, f"step {step}: {said}"
        if found == CLOSED:
            break
    await _assert_equal(upgraded)


async def test_a_former_gateway_beside_shares_spend_and_open_requests(upgraded: Upgraded | None) -> None:
    """What its scripts write when they admit: a hold with its record, an open request, and levels of its own."""
    if upgraded is None:
        return
    upgraded.clock.now_ms += MINUTE_MS // 2
    before = await upgraded.limiter.admit(_asked("ours", 1000))
    assert before.admitted
    keys, at = org_keys(ORG), upgraded.clock() + MINUTE_MS
    name = OPEN.reservation_id.encode()
    record = await upgraded.store.command(b"HGET", keys.holds, name)
    head, rest = record.split(b"\n", 1)
    words = head.split(b" ")
    words[1], words[5] = b"700", b"%d" % at
    await upgraded.store.command(b"HSET", keys.holds, b"theirs", b" ".join(words) + b"\n" + rest)
    await upgraded.store.command(b"ZADD", keys.due, b"%d" % at, b"theirs")
    for demand in SPEND:
        await upgraded.store.command(b"HINCRBY", keys.spend, demand.key.encode() + b"|held", b"700")
    await upgraded.store.command(b"HINCRBY", keys.rates, b"cred:c1:open|n", b"1")
    await upgraded.store.command(
        b"HSET", keys.rates, b"org:requests_limit|l", b"0", b"org:requests_limit|t", b"%d" % upgraded.clock()
    )

    beside = await upgraded.limiter.read_limits(ORG, RATES, SPEND)
    assert beside.spend[0].held_nano_usd == before.spend[0].held_nano_usd + 700
    assert beside.rate[3].remaining == before.rate[3].remaining - 1
    assert beside.rate[0].remaining == before.rate[0].remaining  # each version counts its own

    upgraded.clock.now_ms = at
    assert (await upgraded.sweep())[1][1] == len(("open", "left", "ours", "theirs"))
    after = await upgraded.limiter.read_limits(ORG, RATES, SPEND)
    assert (after.rate[3].remaining, after.spend[0].held_nano_usd) == (4, DEFERRED.hold_nano_usd)
