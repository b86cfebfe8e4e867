"""The least rate of a request's body, on a clock of the test's own."""

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp import web

from tallygate.http1.client_connection import ClientConnection, ClientTimeouts
from tallygate.http1.open_connections import OpenConnections

TIMEOUTS = ClientTimeouts(head=5, idle=60, body_grace=30, body_bytes_per_second=1_000, write=60)
HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"


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
    loop = asyncio.get_running_loop()
    connection = ClientConnection(
        web.Server(Mock(), loop=loop),
        loop=loop,
        open_connections=OpenConnections(1),
        head_bytes_max=1_000,
        answer_fault=Mock(),
        access_log=None,
    )
    connection.connection_made(Mock(spec=asyncio.Transport, is_closing=Mock(return_value=False)))
    connection.data_received(HEAD)
    connection.await_body(1_000_000)
    begun = connection.reading_since
    connection.data_received(b"x" * came)

    assert connection.is_overdue(begun + after_s, TIMEOUTS) is is_cut
    connection.connection_lost(None)
