"""One limiter of each kind behind one face, for tests whose bodies hold for all of them."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from limiter_values import Clock
from snapshot import Snapshot, events_of_redis, events_of_reference, snapshot_of_redis, snapshot_of_reference

from tallygate.limiter.keys import PARTITIONS, org_keys, partition_keys
from tallygate.limiter.redis_limiter import EXPIRED_MS, RedisLimiter
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.limiter.script import ScriptStore, load_scripts
from tallygate.limiter.wire import encode_sweep


@dataclass(kw_only=True)
class World:
    """A limiter with its clock, a sweep of one organization, its state and its stream. store is None for the reference.

    told   every entry of the organization's stream
    """

    limiter: RedisLimiter | ReferenceLimiter
    clock: Clock
    sweep: Callable[[str], Awaitable[int]]
    state: Callable[[str], Awaitable[Snapshot]]
    told: Callable[[str], Awaitable[list[dict[str, str]]]]
    store: ScriptStore | None = None
    reference: ReferenceLimiter | None = None

    async def events(self, org: str) -> list[dict[str, str]]:
        """Usage events of the stream."""
        return [entry for entry in await self.told(org) if entry["kind"] != "notice"]

    async def notices(self, org: str) -> list[dict[str, Any]]:
        """What the stream's notices say, without their time and organization, which are checked here."""
        said = []
        for entry in await self.told(org):
            if entry["kind"] == "notice":
                notice = json.loads(entry["event"])
                assert (str(notice.pop("at_ms")), notice.pop("org")) == (entry["settled_at_ms"], org)
                said.append(notice)
        return said


def reference_world() -> World:
    clock = Clock()
    limiter = ReferenceLimiter(clock)

    async def sweep(org: str) -> int:
        return limiter.sweep(org)[0]

    async def state(org: str) -> Snapshot:
        return snapshot_of_reference(limiter, org)

    async def told(org: str) -> list[dict[str, str]]:
        return events_of_reference(limiter, org)

    return World(limiter=limiter, clock=clock, sweep=sweep, state=state, told=told, reference=limiter)


async def redis_world(store: ScriptStore) -> World:
    clock, scripts = Clock(), load_scripts()
    await store.command(b"MSET", *(part for p in range(PARTITIONS) for part in (partition_keys(p).generation, b"g1")))  # mark_all

    async def sweep(org: str) -> int:
        handled, _expired, _looked_at = await store.run_script(
            scripts.expire, org_keys(org).all, (b"%d" % clock(), encode_sweep([org], 64, EXPIRED_MS))
        )
        return int(handled)

    async def state(org: str) -> Snapshot:
        return await snapshot_of_redis(store, org)

    async def told(org: str) -> list[dict[str, str]]:
        return await events_of_redis(store, org)

    limiter = RedisLimiter(store, scripts, now_ms=clock)
    return World(limiter=limiter, clock=clock, sweep=sweep, state=state, told=told, store=store)
