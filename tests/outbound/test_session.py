"""One bounded reader of other servers' answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tallygate.outbound.session import FetchError, fetch, open_session
from tallygate.outbound.way_out import WayOut


@asynccontextmanager
async def hanging_up(answers: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers so many requests of each connection, and hangs up at the next; its URL, and the bodies that it got."""
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = answers
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            asked.append(await reader.readexactly(length))
            left -= 1
            if left < 0:
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def handle_quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(handle_quietly, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x", asked
    finally:
        server.close()


@pytest.mark.parametrize("may_repeat", [True, False])
async def test_a_kept_connection_that_ends_as_it_is_used_costs_one_more_question_where_that_may_be(may_repeat: bool) -> None:
    async with hanging_up(1) as (url, asked), open_session(WayOut()) as session:

        async def ask() -> bytes:
            return await fetch(
                session, "POST", url, whose="it", bytes_max=9, timeout_s=10, data={"token": "t"}, may_repeat=may_repeat
            )

        assert await ask() == b"ok"
        if may_repeat:
            assert await ask() == b"ok"
        else:
            with pytest.raises(FetchError, match="it could not be reached: ServerDisconnectedError"):
                await ask()
        assert asked == [b"token=t"] * (3 if may_repeat else 2)


async def test_a_question_is_repeated_once() -> None:
    async with hanging_up(0) as (url, asked), open_session(WayOut()) as session:
        with pytest.raises(FetchError, match="could not be reached"):
            await fetch(session, "POST", url, whose="it", bytes_max=9, timeout_s=10, data="x", may_repeat=True)
        assert asked == [b"x"] * 2
