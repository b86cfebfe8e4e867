"""One limiter of each kind behind one face, for tests whose bodies hold for all of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from limiter_values import Clock
from snapshot import Snapshot, events_of_redis, events_of_reference, snapshot_of_redis, snapshot_of_reference

from proxy.limiter.generation import mark_all
from proxy.limiter.keys import org_keys
from proxy.limiter.port import Limiter
from proxy.limiter.redis_limiter import EXPIRED_MS, RedisLimiter
from proxy.limiter.reference import ReferenceLimiter
from proxy.limiter.script import ScriptStore, load_scripts
from proxy.limiter.wire import encode_sweep


@dataclass(kw_only=True)
class World:
    """A limiter with its clock, a sweep of one organization, its state and its events. store is None for the reference."""

    limiter: Limiter
    clock: Clock
    sweep: Callable[[str], Awaitable[int]]
    state: Callable[[str], Awaitable[Snapshot]]
    events: Callable[[str], Awaitable[list[dict[str, str]]]]
    store: ScriptStore | None = None
    reference: ReferenceLimiter | None = None


def reference_world(**options: Any) -> World:
    clock = Clock()
    limiter = ReferenceLimiter(clock, **options)

    async def sweep(org: str) -> int:
        return limiter.sweep(org)

    async def state(org: str) -> Snapshot:
        return snapshot_of_reference(limiter, org)

    async def events(org: str) -> list[dict[str, str]]:
        return events_of_reference(limiter, org)

    return World(limiter=limiter, clock=clock, sweep=sweep, state=state, events=events, reference=limiter)


async def redis_world(store: ScriptStore, **options: Any) -> World:
    clock, scripts = Clock(), load_scripts()
    await mark_all(store, "g1")

    async def sweep(org: str) -> int:
        return int(await store.run(scripts.expire, org_keys(org).all, (b"%d" % clock(), encode_sweep(org, 64, EXPIRED_MS))))

    async def state(org: str) -> Snapshot:
        return await snapshot_of_redis(store, org)

    async def events(org: str) -> list[dict[str, str]]:
        return await events_of_redis(store, org)

    limiter = RedisLimiter(store, scripts, now_ms=clock, **options)
    return World(limiter=limiter, clock=clock, sweep=sweep, state=state, events=events, store=store)
