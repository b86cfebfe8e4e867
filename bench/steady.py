"""Requests at a fixed rate, whatever the answers do: an open loop, so that a slow answer delays no later request."""

import asyncio
import re
import time

from bench.workload import Target, http_request

PATIENCE_SECONDS = 10.0
WARM_CONNECTIONS = 8
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def answer_length(data: bytes) -> int | None:
    """Bytes of the answer that starts with data, head included; None if the head is not complete or states no length."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    length = _LENGTH.search(data, 0, head_end + 2)
    return head_end + 4 + int(length[1]) if length else None


class SteadyClient(asyncio.Protocol):
    """One keep-alive connection, used for one request at a time."""

    def __init__(self, load: "SteadyLoad") -> None:
        self._load = load
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes) -> None:
        self._sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._received += data
        if self._received.endswith(b"\r\n0\r\n\r\n") or len(self._received) == answer_length(self._received):
            self._load.answered((now - self._sent_at) * 1e3, ok=self._received.startswith(b"HTTP/1.1 200"))
            self._received = b""
            self._load.idle.append(self)

    def connection_lost(self, _error: Exception | None) -> None:
        if self in self._load.idle:
            self._load.idle.remove(self)


class SteadyLoad:
    """One measurement: latencies in ms, failures."""

    def __init__(self, target: Target, bodies: list[bytes]) -> None:
        self._target = target
        self._requests = [http_request(target, body, turn=turn) for turn, body in enumerate(bodies)]
        self.idle: list[SteadyClient] = []
        self.latencies_ms: list[float] = []
        self.failed = 0

    def answered(self, latency_ms: float, *, ok: bool) -> None:
        self.latencies_ms.append(latency_ms)
        self.failed += not ok

    async def run(self, *, per_second: int, seconds: float) -> None:
        """Send at the rate; return when all is answered. What is never answered counts as failed."""
        loop = asyncio.get_running_loop()
        for _ in range(WARM_CONNECTIONS):
            self.idle.append(await self._connect())
        count = int(per_second * seconds)
        started = loop.time()
        for number in range(count):
            ahead = started + number / per_second - loop.time()
            if ahead > 0:
                await asyncio.sleep(ahead)
            client = self.idle.pop() if self.idle else await self._connect()
            client.send(self._requests[number % len(self._requests)])
        until = loop.time() + PATIENCE_SECONDS
        while len(self.latencies_ms) < count and loop.time() < until:  # noqa: ASYNC110 - an event would cost every answer
            await asyncio.sleep(0.01)
        self.failed += count - len(self.latencies_ms)
        for client in self.idle:
            client.transport.close()

    async def _connect(self) -> SteadyClient:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: SteadyClient(self), "127.0.0.1", self._target.port)
        return client
