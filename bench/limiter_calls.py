"""What admission and settlement cost: CPU of the caller, over the limiter's own connection and over redis-py, and of the server.

`python -m bench.limiter_calls redis://127.0.0.1:6379/15` — the database is filled with organizations named bench-<n>.
"""

import asyncio
import sys
import time
from typing import Any

import redis.asyncio
import uvloop

from bench.redis_py_scripts import RedisPyScripts
from tallygate.domain.admission import Account, AdmissionRequest, RateDemand, SpendDemand
from tallygate.domain.rate_limit import Quantity, RateLimit
from tallygate.domain.spend_limit import SpendLimit
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import mark_partition
from tallygate.limiter.keys import PARTITIONS
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import Script, ScriptStore, load_scripts

EXCHANGES = 5_000
ORGS = 50
EVENT = (
    b'{"event_id":"0198b1a2c3d4e5f60000000000","org":"bench","credential":"bench-prod","capability":"chat","status":200}'
    + b" " * 400
)
_PLENTY = 10**6
_MINUTE_MS, _HOUR_MS = 60_000, 3_600_000


class NoStore:
    """Answers every call itself: what remains is the limiter's encoding and decoding."""

    is_cluster = False
    resent = 0

    async def run_script(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        del keys, args
        return [
            0,
            b"[1767225600000,1,0,0,500000" + b",10,0,0,0" * 4 + b",0,1,2,0]"
            if script.name == "admit"
            else b"[1767225600000,0,0,0]",
        ]

    async def command(self, *parts: bytes) -> Any:
        raise NotImplementedError(parts)


def _rate(name: str, quantity: Quantity, units: int, window_ms: int) -> RateDemand:
    refill = 0 if quantity is Quantity.OPEN_REQUESTS else _PLENTY
    limit = RateLimit(name=name, quantity=quantity, capacity=_PLENTY, refill_units=refill, window_ms=window_ms)
    return RateDemand(key=f"org:{name}", limit=limit, units=units)


RATES = (
    _rate("requests_per_1m", Quantity.REQUESTS, 1, _MINUTE_MS),
    _rate("requests_per_1h", Quantity.REQUESTS, 1, _HOUR_MS),
    _rate("tokens_per_1m", Quantity.TOKENS, 90, _MINUTE_MS),
    _rate("open_requests", Quantity.OPEN_REQUESTS, 1, 0),
)
SPEND = (SpendDemand(key="org:spend_7d", limit=SpendLimit(name="spend_7d", limit_nano_usd=10**15)),)


def _request(name: str, number: int) -> AdmissionRequest:
    return AdmissionRequest(
        reservation_id=f"{name}-{number:020d}",
        org=f"bench-{number % ORGS}",
        rate=RATES,
        spend=SPEND,
        hold_nano_usd=500_000,
        hold_min_nano_usd=500_000,
        floor_nano_usd=1_000,
        lease_ms=_MINUTE_MS,
        event=EVENT,
    )


async def drive(store: ScriptStore, name: str, in_flight: int) -> float:
    """CPU microseconds of this process for one exchange: admission and settlement."""
    limiter = RedisLimiter(store, load_scripts())

    async def worker(first: int) -> None:
        for number in range(first, EXCHANGES, in_flight):
            request = _request(name, number)
            await limiter.admit(request)
            account = Account(admission=request, cost_nano_usd=400_000, prompt_tokens=30, completion_tokens=50, event=EVENT)
            await limiter.settle(account)

    started = time.process_time()
    await asyncio.gather(*(worker(first) for first in range(in_flight)))
    return (time.process_time() - started) / EXCHANGES * 1e6


async def server_cpu_s(store: ScriptStore) -> float:
    info = (await store.command(b"INFO", b"cpu")).decode()
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])


async def main(url: str) -> None:
    own = RedisConnection(parse_address(url), timeout_ms=10_000)
    await own.open()
    client = redis.asyncio.Redis.from_url(url, max_connections=100)
    theirs = RedisPyScripts(client)
    for partition in range(PARTITIONS):
        await mark_partition(own, partition, "bench")
    run = f"{time.time_ns():x}"
    print(f"{'no store':32s} {await drive(NoStore(), run, 1):8.1f} us of CPU an exchange")
    for in_flight in (1, 32):
        for name, store in (("own connection", own), ("redis-py", theirs)):
            before = await server_cpu_s(own)
            cost = await drive(store, f"{run}-{name[:3]}-{in_flight}", in_flight)
            server = (await server_cpu_s(own) - before) / EXCHANGES / 2 * 1e6
            print(f"{f'{name}, {in_flight} in flight':32s} {cost:8.1f} us of CPU an exchange; server {server:6.1f} us a script")
    await client.aclose()
    await own.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
