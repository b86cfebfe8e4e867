"""A body that has come whole is taken at once, under the same bounds as one that is still to come."""

import asyncio
from types import MappingProxyType
from typing import Any

import pytest
from aiohttp import HttpVersion11, StreamReader, web
from hypothesis import given
from hypothesis import strategies as st
from refused import awaited

from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.http1.request_body import ClientLeftError, read_body

BYTES_MAX = 20


class Protocol:
    """What a reader asks of its connection."""

    _reading_paused = False
    connected = True

    def resume_reading(self, **_how: Any) -> None:
        pass


class Connection:
    def await_body(self, _bytes_max: int) -> None:
        pass

    def body_read(self) -> None:
        pass


class Request:
    version = HttpVersion11
    headers = MappingProxyType[str, str]({})
    transport = None


async def read(pieces: list[bytes], *, is_whole: bool, length: int | None, error: Exception | None = None) -> tuple[Any, list[int]]:
    """What reading leads to, and what was reserved. is_whole: all of it has come before; else it comes piece by piece."""
    loop = asyncio.get_running_loop()
    content = StreamReader(Protocol(), 2**16, loop=loop)  # type: ignore[arg-type]
    reserved: list[int] = []
    options = {"length": length, "bytes_max": BYTES_MAX, "reserve": reserved.append}

    def end() -> None:
        if error is not None:
            content.set_exception(error)
        content.feed_eof()

    if is_whole:
        for piece in pieces:
            content.feed_data(piece)
        end()
        return await awaited(read_body(Request(), content, Connection(), **options)), reserved  # type: ignore[arg-type]
    reading = loop.create_task(awaited(read_body(Request(), content, Connection(), **options)))  # type: ignore[arg-type]
    for piece in pieces:
        await asyncio.sleep(0)
        content.feed_data(piece)
    await asyncio.sleep(0)
    end()
    return await reading, reserved


@given(st.lists(st.binary(min_size=1, max_size=12), max_size=3), st.booleans())
def test_a_body_at_hand_is_read_as_one_that_comes(pieces: list[bytes], is_length_known: bool) -> None:
    body = b"".join(pieces)

    async def both() -> None:
        length = len(body) if is_length_known else None
        (at_hand, reserved), (coming, reserved_later) = [
            await read(pieces, is_whole=is_whole, length=length) for is_whole in (True, False)
        ]
        if len(body) > BYTES_MAX:
            assert isinstance(at_hand, Refusal)
            assert at_hand == coming
            return
        assert at_hand == coming == body
        assert sum(reserved) == sum(reserved_later) == len(body)

    asyncio.run(both())


async def test_a_malformed_body_at_hand_is_refused() -> None:
    refusal, _ = await read([b"abc"], is_whole=True, length=None, error=web.RequestPayloadError("malformed"))
    assert (refusal.status, refusal.code) == (400, ErrorCode.INVALID_REQUEST)


async def test_a_client_that_has_left_is_no_fault() -> None:
    with pytest.raises(ClientLeftError):
        await read([b"abc"], is_whole=True, length=3, error=ConnectionError())
