"""A load without a clock, so that the same work is done in the same portions however slow the proxy is.

Requests go over a few connections, each the next one as soon as the last is answered. Streams come one after another, and the
upstream, which is in this process, writes an event when the client has received the one before: the proxy reads each by itself.
"""

import asyncio
from collections.abc import Callable

from bench.steady import answer_length
from bench.streams import EventCount
from bench.upstream import _CHUNK_HTTP, FixedAnswers, Generated
from bench.workload import Target, chat_bodies, http_request, stream_body

CONNECTIONS = 16
PATIENCE_SECONDS = 120.0


class Step:
    """What the upstream does next, once the client has received all that was written."""

    def __init__(self) -> None:
        self.next: Callable[[], None] | None = None

    def received(self) -> None:
        taken, self.next = self.next, None
        if taken is not None:
            taken()


class SteppedAnswers(FixedAnswers):
    """The bench's upstream; its streams go on with a Step instead of a timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, step: Step) -> None:
        super().__init__(loop, Generated())
        self._step = step

    def _emit(self, left: int, chunks: int, every: float, *, asks_usage: bool, is_billed: bool) -> None:
        if not left:
            super()._emit(left, chunks, every, asks_usage=asks_usage, is_billed=is_billed)
            return
        self._step.next = lambda: self._emit(left - 1, chunks, every, asks_usage=asks_usage, is_billed=is_billed)
        self._transport.write(_CHUNK_HTTP % left)


async def start_stepped_upstream(port: int) -> Step:
    loop, step = asyncio.get_running_loop(), Step()
    await loop.create_server(lambda: SteppedAnswers(loop, step), "127.0.0.1", port)
    return step


class InTurn(asyncio.Protocol):
    """One connection: all its requests, each when the last is answered. done: raises what went wrong."""

    def __init__(self, requests: list[bytes], done: asyncio.Future[None], step: Step | None = None) -> None:
        self._requests = requests
        self._done = done
        self._step = step

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if not self._requests:
            self._transport.close()
            self._done.set_result(None)
            return
        self._received = b""
        self._events = EventCount()
        self._transport.write(self._requests.pop())

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.startswith(b"HTTP/1.1 200"):
            self._transport.abort()
            if not self._done.done():
                self._done.set_exception(RuntimeError(f"refused: {self._received[:900]!r}"))
            return
        before = self._events.events
        self._events.feed(data)
        if self._events.ended or len(self._received) == answer_length(self._received):
            self._send()
        elif self._step is not None and self._events.events > before:
            self._step.received()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or RuntimeError("the proxy closed the connection"))


async def ask(target: Target, *, requests: int, seed: int) -> None:
    """So many chat requests over CONNECTIONS connections; no two are alike, nor like those of another seed."""
    bodies = chat_bodies(requests, seed=seed)
    heads = [http_request(target, body, turn=turn) for turn, body in enumerate(bodies)]
    await asyncio.gather(*(_go(target, heads[turn::CONNECTIONS]) for turn in range(CONNECTIONS)))


async def serves(target: Target) -> None:
    """Return once it answers requests: a gateway that has just started refuses some."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_SECONDS
    while True:
        try:
            await _go(target, [http_request(target, chat_bodies(1, seed=0)[0], turn=0)])
        except (OSError, RuntimeError):
            if loop.time() > until:
                raise
            await asyncio.sleep(0.2)
        else:
            return


async def stream(target: Target, step: Step, *, streams: int, chunks: int, seed: int) -> None:
    """So many streams, one after another."""
    bodies = [stream_body(chunks=chunks, every_ms=0, seed=seed * 1_000 + number) for number in range(streams)]
    await _go(target, [http_request(target, body, turn=turn) for turn, body in enumerate(bodies)], step)


async def _go(target: Target, requests: list[bytes], step: Step | None = None) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    await loop.create_connection(lambda: InTurn(requests, done, step), "127.0.0.1", target.port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done
