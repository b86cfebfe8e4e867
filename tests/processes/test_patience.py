"""The supervisor answers in the place of workers after five seconds without one, on their clock, and leaves when one is up."""

import asyncio
import socket

import pytest

from tallygate.processes import stand_in
from tallygate.processes.stand_in import PATIENCE_SECONDS, StandIn
from tallygate.processes.uptime import Uptime


class Clock:
    """Counts the looks at it."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now

    async def looked_at(self, times: int) -> None:
        until = self.looks + times
        async with asyncio.timeout(10):
            while self.looks < until:
                await asyncio.sleep(0)


class Client:
    """Asks once. answer: all that comes until the connection is closed."""

    def __init__(self, port: int) -> None:
        self.answer = asyncio.ensure_future(self._ask(port))

    async def _ask(self, port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer


async def test_it_waits_for_a_worker_answers_without_one_and_leaves_to_the_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stand_in, "LOOK_SECONDS", 0)
    clock = Clock()
    uptime = Uptime(clock)
    with socket.create_server(("127.0.0.1", 0)) as port:
        port.setblocking(False)
        number, loop = port.getsockname()[1], asyncio.get_running_loop()
        standing = loop.create_task(StandIn(port, uptime, is_crossed=False, new_id=lambda: "1").stand_in_forever())

        early = Client(number)
        clock.now = PATIENCE_SECONDS - 0.1
        await clock.looked_at(3)
        assert caplog.messages == []
        clock.now = PATIENCE_SECONDS
        assert (await early.answer).startswith(b"HTTP/1.1 503 "), "whoever has waited is answered, too"
        assert (await Client(number).answer).startswith(b"HTTP/1.1 503 ")

        uptime.came_up()
        async with asyncio.timeout(10):
            while len(caplog.messages) < 2:
                await asyncio.sleep(0)
        assert [(record.message, getattr(record, "fields", None)) for record in caplog.records] == [
            ("no worker is up: every request gets 503 until one is", None),
            ("a worker is up again", {"answered_503": 2}),
        ]
        later = Client(number)
        connection, _ = await loop.sock_accept(port)  # as the worker does
        assert await loop.sock_recv(connection, 99)
        connection.close()
        assert await later.answer == b""

        clock.now = 100.0
        uptime.went_down()
        clock.now = 100.0 + PATIENCE_SECONDS - 0.1
        await clock.looked_at(3)
        uptime.came_up()
        uptime.went_down()
        clock.now = 100.0 + PATIENCE_SECONDS + 0.1
        await clock.looked_at(3)
        assert len(caplog.messages) == 2, "one was up in between"

        clock.now = 200.0
        await clock.looked_at(1)  # it stands in, and nobody asks
        uptime.came_up()
        for _ in range(9):
            await asyncio.sleep(0)
        assert len(caplog.messages) == 2, "a long start without requests is silent"
        standing.cancel()
        await asyncio.wait({standing})
