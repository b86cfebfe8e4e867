"""A client sees its answer's end only when the settlement is acknowledged: by the limiter, or past a deadline by the disk."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from aiohttp import ClientSession
from fault_proxy import FaultProxy
from gateway_harness import ACME_KEY, BIG_KEY, Harness, running_gateway
from marked_partitions import mark_all
from stack import events_in, window_in
from valkey_process import ValkeyProcess

from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.local_fallback import FailurePolicy, LocalFallback
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts

LONG_MS = 30_000  # a deadline that no test reaches


class Lossy:
    """A gateway over a real Valkey, with a proxy between them that loses what it is told to lose."""

    def __init__(self, harness: Harness, proxy: FaultProxy, store: redis.Redis) -> None:
        self.harness = harness
        self.proxy = proxy
        self.store = store
        self.writers: list[asyncio.StreamWriter] = []

    async def stream(self, key: str = ACME_KEY, directive: str = "tokens=6") -> asyncio.StreamReader:
        """A request on a connection of its own, answered up to the end of its head."""
        body = (
            b'{"model":"gpt-4o-mini","max_tokens":50,"stream":true,'
            b'"messages":[{"role":"user","content":"[[sim %s]] Hello"}]}' % directive.encode()
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", self.harness.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"\r\n\r\n")
        self.writers.append(writer)
        return reader

    async def status(self, key: str = ACME_KEY) -> tuple[int, dict[str, Any]]:
        body = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
        async with (
            ClientSession() as session,
            session.post(
                f"{self.harness.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}
            ) as answer,
        ):
            return answer.status, await answer.json()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)

    def assert_settled_once(self, count: int = 2) -> None:
        events = events_in(self.store)
        cost = sum(record.prompt_tokens * 150 + record.generated_tokens * 600 for record in self.harness.ledger.records)
        assert len(events) == len({event["event_id"] for event in events}) == count
        assert window_in(self.store) == {"spent": cost, "held": 0}


@asynccontextmanager
async def lossy_gateway(directory: Path, server: ValkeyProcess, *, deadline_ms: int = LONG_MS) -> AsyncIterator[Lossy]:
    proxy = FaultProxy(server.port)
    await proxy.start()
    connection = RedisConnection(parse_address(proxy.url), timeout_ms=deadline_ms)
    await connection.open()
    await mark_all(connection, "g")
    fallback = LocalFallback(FailurePolicy(), lambda: 0)
    limiter = RedisLimiter(connection, load_scripts())
    with server.client() as store:
        async with running_gateway(directory, limiter=limiter, fallback=fallback, spool_bytes_max=100_000_000) as harness:
            lossy = Lossy(harness, proxy, store)
            reader = await lossy.stream()  # the server knows every script from here on: a lost reply is not a lost NOSCRIPT
            assert b"[DONE]" in await reader.read()
            yield lossy
            for writer in lossy.writers:
                writer.close()
                await writer.wait_closed()
        await connection.close()
    await proxy.stop()


async def test_the_last_bytes_wait_for_the_acknowledgement(tmp_path: Path, valkey_server: ValkeyProcess, valkey_url: str) -> None:
    async with lossy_gateway(tmp_path, valkey_server) as lossy:
        reader = await lossy.stream(directive="tokens=6 tps=20")
        lossy.proxy.swallow = True  # admitted; from here on Valkey works and nobody hears of it
        seen = b""
        await lossy.until(lambda: len(events_in(lossy.store)) == 2)
        with suppress(TimeoutError):  # settled in the store, but not acknowledged: so not yet the end for the client
            async with asyncio.timeout(0.3):
                while chunk := await reader.read(65_536):
                    seen += chunk
        assert b"chat.completion.chunk" in seen
        assert b"[DONE]" not in seen

        lossy.proxy.swallow = False
        lossy.proxy.cut()  # the gateway asks again, under the same id

        assert b"[DONE]" in await reader.read()
        lossy.assert_settled_once()


async def test_past_the_deadline_the_disk_acknowledges_and_the_replay_counts_nothing_twice(
    tmp_path: Path, valkey_server: ValkeyProcess, valkey_url: str
) -> None:
    async with lossy_gateway(tmp_path, valkey_server, deadline_ms=1_000) as lossy:
        reader = await lossy.stream(directive="tokens=6 tps=20")
        lossy.proxy.swallow = True

        assert b"[DONE]" in await reader.read()
        assert (tmp_path / "0.spool").read_bytes().rstrip(b"\0")[8:]
        lossy.assert_settled_once()  # it was applied all the same
        lossy.proxy.swallow = False
        lossy.proxy.cut()
        await lossy.until(lambda: not (tmp_path / "0.spool").read_bytes().rstrip(b"\0")[8:])
        lossy.assert_settled_once()


async def test_a_lost_reply_is_asked_for_again(tmp_path: Path, valkey_server: ValkeyProcess, valkey_url: str) -> None:
    async with lossy_gateway(tmp_path, valkey_server) as lossy:
        for _ in range(5):
            reader = await lossy.stream(directive="tokens=6 tps=50")
            lossy.proxy.drop_replies = 1
            assert b"[DONE]" in await reader.read()
        lossy.assert_settled_once(6)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system with room for the spool's reserve and little else."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


async def test_a_full_disk_closes_admission_before_anything_is_lost(
    small_disk: Path, valkey_server: ValkeyProcess, valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with lossy_gateway(small_disk, valkey_server) as lossy:
        readers = [await lossy.stream(directive="tokens=10 tps=10") for _ in range(20)]
        with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(65_536))
        lossy.proxy.refuse = True
        lossy.proxy.cut()
        answers = await asyncio.gather(*(reader.read() for reader in readers))
        assert all(b"[DONE]" in answer for answer in answers)

        statuses: list[int] = []
        while 503 not in statuses:  # no spend limit: only the disk stands in its way
            statuses += [status for status, _ in await asyncio.gather(*(lossy.status(BIG_KEY) for _ in range(50)))]
            assert len(statuses) < 3_000
        assert statuses.count(200) > 100
        assert "settlement lost" not in caplog.text

        (small_disk / "filler").unlink()
        lossy.proxy.refuse = False
        async with asyncio.timeout(30):
            while (await lossy.status())[0] != 200:
                await asyncio.sleep(0.1)
        await lossy.until(lambda: len(events_in(lossy.store)) == 22 + statuses.count(200))
        costs = {event["event_id"]: int(event["_posted_nano_usd"]) for event in events_in(lossy.store)}
        for record in lossy.harness.ledger.records:
            assert costs[str(record.request_id)] == record.prompt_tokens * 150 + record.generated_tokens * 600
