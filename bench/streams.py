"""Many event streams at once, read by a client that looks at no more than it must."""

import asyncio
import re
import time
from dataclasses import dataclass, field

from bench.workload import Target, http_request, stream_body

SAMPLE_EVERY = 10  # of the streams, one in so many has the delay of each read measured
PATIENCE_SECONDS = 120.0
STARTS_PER_SECOND = 400
_WRITTEN_AT = re.compile(rb'" (\d{19})"')
_END = b"\r\n0\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class EventCount:
    """Counts event ends in a byte stream that may be cut anywhere, and sees the end of the chunked body."""

    events: int = 0
    ended: bool = False
    _tail: bytes = b""

    def feed(self, data: bytes) -> None:
        self.events += data.count(b"\n\n") + (self._tail[-1:] == b"\n" and data[:1] == b"\n")
        self._tail = (self._tail + data)[-len(_END) :] if len(data) < len(_END) else data[-len(_END) :]
        self.ended = self._tail == _END


@dataclass(slots=True, kw_only=True)
class StreamTimes:
    """What the streams of one measurement met. first_byte_ms from sending the request; delay_ms from the upstream's write."""

    first_byte_ms: list[float] = field(default_factory=list)
    delay_ms: list[float] = field(default_factory=list)
    events: int = 0
    complete: int = 0
    broken: int = 0


class StreamClient(asyncio.Protocol):
    """One connection, one stream."""

    def __init__(self, request: bytes, times: StreamTimes, done: asyncio.Future[None], *, sampled: bool) -> None:
        self._request = request
        self._times = times
        self._done = done
        self._sampled = sampled
        self._count = EventCount()
        self._status_ok: bool | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._sent_at = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._status_ok is None:
            self._status_ok = data.startswith(b"HTTP/1.1 200")
            self._times.first_byte_ms.append((time.perf_counter() - self._sent_at) * 1e3)
        if self._sampled:
            written = _WRITTEN_AT.search(data)
            if written is not None:
                self._times.delay_ms.append((time.monotonic_ns() - int(written[1])) / 1e6)
        self._count.feed(data)
        if self._count.ended or not self._status_ok:
            self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._times.events += self._count.events
        if self._status_ok and self._count.ended:
            self._times.complete += 1
        else:
            self._times.broken += 1
        if not self._done.done():
            self._done.set_result(None)


async def run_streams(target: Target, *, streams: int, chunks: int, every_ms: int) -> StreamTimes:
    """All streams to their ends; they start at a steady rate, not as one burst."""
    times = StreamTimes()
    spread_seconds = streams / STARTS_PER_SECOND
    opened = await _open(target, times, streams=streams, chunks=chunks, every_ms=every_ms, spread_seconds=spread_seconds)
    async with asyncio.timeout(PATIENCE_SECONDS + chunks * every_ms / 1000):
        await asyncio.gather(*(done for _, done in opened))
    return times


class HeldStreams:
    """Open streams that hardly say anything, for their weight."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._times = StreamTimes()
        self._opened: list[tuple[StreamClient, asyncio.Future[None]]] = []

    async def hold(self, streams: int, *, every_ms: int, seconds: float) -> None:
        """Open so many that last so long, and return when each has had its first event."""
        self._opened += await _open(
            self._target,
            self._times,
            streams=streams,
            chunks=round(seconds * 1000 / every_ms),
            every_ms=every_ms,
            spread_seconds=streams / STARTS_PER_SECOND,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self._times.first_byte_ms) < len(self._opened):  # noqa: ASYNC110 - an event would cost every read
                await asyncio.sleep(0.05)

    async def release(self) -> int:
        """Hang up on all of them; how many had not been served."""
        already_broken = self._times.broken
        for client, _ in self._opened:
            client.transport.abort()
        await asyncio.gather(*(done for _, done in self._opened))
        return already_broken


async def _open(
    target: Target, times: StreamTimes, *, streams: int, chunks: int, every_ms: int, spread_seconds: float
) -> list[tuple[StreamClient, asyncio.Future[None]]]:
    loop = asyncio.get_running_loop()
    started = loop.time()
    opened = []
    for number in range(streams):
        body = stream_body(chunks=chunks, every_ms=every_ms, seed=number)
        done = loop.create_future()
        client = StreamClient(http_request(target, body, turn=number), times, done, sampled=number % SAMPLE_EVERY == 0)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", target.port)
        opened.append((client, done))
        ahead = started + spread_seconds * (number + 1) / streams - loop.time()
        if ahead > 0.001:
            await asyncio.sleep(ahead)
    return opened
