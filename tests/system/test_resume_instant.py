"""A paused organization is admitted again at the instant it was told, and not before; on the limiter's clock, over a real store."""

from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from gateway_harness import ACME_KEY, Harness, running_gateway
from marked_partitions import mark_all

from tallygate.domain.spend_limit import SPEND_BUCKET_MS
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts

START_MS = 1_770_000_123_456
WEEK_MS = 7 * 86_400_000


class TestClock:
    """The time that scripts take instead of the server's."""

    __test__ = False

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms


async def ask(harness: Harness) -> tuple[int, Any, Any]:
    body = {"model": "gpt-4o-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "[[sim tokens=20]] Hello"}]}
    headers = {"Authorization": f"Bearer {ACME_KEY}"}
    async with ClientSession() as session, session.post(f"{harness.url}/v1/chat/completions", json=body, headers=headers) as answer:
        return answer.status, answer.headers, await answer.json()


async def test_access_resumes_at_the_told_instant_and_not_a_bucket_before(tmp_path: Path, valkey_url: str) -> None:
    clock = TestClock()
    connection = RedisConnection(parse_address(valkey_url), timeout_ms=20_000)
    await connection.open()
    await mark_all(connection, "g")
    limiter = RedisLimiter(connection, load_scripts(), now_ms=clock.now_ms)
    async with running_gateway(tmp_path, acme_usd="0.00005", limiter=limiter) as harness:
        first_at_ms = clock.ms
        while (outcome := await ask(harness))[0] == 200:
            clock.ms += 2 * SPEND_BUCKET_MS  # each in a bucket of its own: the first to leave frees enough for one more
        status, headers, body = outcome
        assert (status, body["error"]["code"]) == (429, "spend_limit_exceeded")
        told_ms = round(datetime.fromisoformat(body["error"]["resumes_at"]).timestamp() * 1000)

        bucket_end_ms = (first_at_ms // SPEND_BUCKET_MS + 1) * SPEND_BUCKET_MS  # its whole bucket has to be older than the window
        assert told_ms == bucket_end_ms + WEEK_MS
        assert int(headers["Retry-After"]) == -(-(told_ms - clock.ms) // 1000)
        for early_ms in (SPEND_BUCKET_MS, 1_000, 1):
            clock.ms = told_ms - early_ms
            status, _, body = await ask(harness)
            assert status == 429
            assert round(datetime.fromisoformat(body["error"]["resumes_at"]).timestamp() * 1000) == told_ms
        clock.ms = told_ms
        assert (await ask(harness))[0] == 200
        assert (await ask(harness))[0] == 429  # one has left, one fits
    await connection.close()
