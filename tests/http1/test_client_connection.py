"""Bodies that come slowly, on a clock of the test's own, and bodies that come faster than they are read."""

import asyncio
import sys
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web

from tallygate.http1.client_connection import ClientConnection, ClientTimeouts
from tallygate.http1.open_connections import OpenConnections

TIMEOUTS = ClientTimeouts(head=5, idle=60, body_grace=30, body_bytes_per_second=1_000, write=60)
HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"


def connected(handler: Any = None) -> tuple[ClientConnection, Mock]:
    """A connection, and its transport. handler: of its requests."""
    loop = asyncio.get_running_loop()
    connection = ClientConnection(
        web.Server(handler or Mock(), loop=loop),
        loop=loop,
        open_connections=OpenConnections(1),
        head_bytes_max=1_000,
        answer_fault=Mock(),
        access_log=None,
    )
    transport = Mock(spec=asyncio.Transport, is_closing=Mock(return_value=False))
    connection.connection_made(transport)
    return connection, transport


@pytest.mark.parametrize(
    ("came", "after_s", "is_cut"),
    [
        (0, 30.0, False),  # TALLYGATE_BODY_TIMEOUT_SECONDS: until then any rate will do
        (0, 30.1, True),
        (10_000, 40.0, False),  # from then on TALLYGATE_BODY_BYTES_PER_SECOND_MIN, averaged: a pause does no harm by itself
        (10_000, 40.1, True),
    ],
)
async def test_a_body_has_a_head_start_and_then_keeps_the_least_rate(came: int, after_s: float, *, is_cut: bool) -> None:
    connection, _ = connected()
    connection.data_received(HEAD)
    connection.await_body(1_000_000)
    begun = connection.reading_since
    connection.data_received(b"x" * came)

    assert connection.is_overdue(begun + after_s, TIMEOUTS) is is_cut
    connection.connection_lost(None)


async def test_reading_is_resumed_where_a_body_came_faster_than_it_was_read_and_nowhere_else() -> None:
    requests: list[web.BaseRequest] = []
    is_over = asyncio.Event()

    async def serve(request: web.BaseRequest) -> web.Response:
        requests.append(request)
        await is_over.wait()
        return web.Response()

    connection, transport = connected(serve)
    await asyncio.sleep(0)
    connection.data_received(HEAD)
    for _ in range(3):
        await asyncio.sleep(0)
    body = requests[0].content
    connection.data_received(b"x" * 1_000)
    assert len(await body.readany()) == 1_000
    assert (transport.pause_reading.call_count, transport.resume_reading.call_count) == (0, 0)

    for _ in range(3):
        connection.data_received(b"x" * 300_000)
    assert transport.pause_reading.called
    transport.resume_reading.assert_not_called()
    await body.readany()
    assert transport.resume_reading.called
    is_over.set()
    connection.connection_lost(None)


async def test_more_requests_than_the_parser_takes_at_once_are_all_served_behind_a_late_body() -> None:
    """Aiohttp counts the first, whose body comes after its handler has begun, as one that still waits."""
    served = 0

    async def serve(request: web.BaseRequest) -> web.Response:
        nonlocal served
        await request.content.read()
        served += 1
        return web.Response()

    connection, _ = connected(serve)
    await asyncio.sleep(0)
    request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"
    connection.data_received(request)
    for _ in range(3):
        await asyncio.sleep(0)
    connection.data_received(b"ok" + (request + b"ok") * 40)
    for _ in range(1_000):
        await asyncio.sleep(0)
    connection.connection_lost(None)

    assert served == 41


async def test_what_a_request_waits_for_can_be_bound_in_time() -> None:
    seen: list[str] = []

    async def serve(_request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0):
                await asyncio.Future()
        except TimeoutError:
            seen.append("late")
        return web.Response()

    connection, _ = connected(serve)
    await asyncio.sleep(0)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 2)
    async with asyncio.timeout(10):
        while len(seen) < 2:
            await asyncio.sleep(0)
    connection.connection_lost(None)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="aiohttp begins the task of a request at once there")
async def test_requests_are_handled_in_the_task_of_their_connection_and_those_that_come_together_take_turns_with_others() -> None:
    seen: list[Any] = []

    async def serve(_request: web.BaseRequest) -> web.Response:
        seen.append(asyncio.current_task())
        asyncio.get_running_loop().call_soon(seen.append, "another's turn")
        return web.Response()

    connection, _ = connected(serve)
    await asyncio.sleep(0)
    request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    for came in (request, request, request * 3):
        connection.data_received(came)
        for _ in range(20):
            await asyncio.sleep(0)
    connection.connection_lost(None)

    tasks = seen[::2]
    assert seen[1::2] == ["another's turn"] * 5
    assert tasks[0] is tasks[1] is tasks[4]
    assert len(set(tasks)) == 3  # two of the last three had another behind them
