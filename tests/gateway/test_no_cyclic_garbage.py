"""What an exchange allocates is freed as it ends, by its reference counts: the garbage collector has nothing to do for it."""

import asyncio
import gc
from collections import Counter
from pathlib import Path

from aiohttp import web
from gateway_harness import ACME_KEY, BIG_KEY, running_gateway

_ROUNDS = 12
_CHAT = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Say hello to the harbour."}],"max_tokens":16'


def _request(path: str, body: bytes, key: str = ACME_KEY) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


REQUESTS = {
    "whole": _request("/v1/chat/completions", _CHAT + b"}"),
    "stream": _request("/v1/chat/completions", _CHAT + b',"stream":true}'),
    "unmetered": _request("/ai/data/v1/search", b'{"query":"hello"}', key=BIG_KEY),
    "refused": _request("/v1/chat/completions", b'{"model":"gpt-4o-mini"}'),
    "unknown key": _request("/v1/chat/completions", _CHAT + b"}", key="tg_nobody_nothing"),
}


async def test_an_exchange_leaves_no_cycles_behind(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
        for request in REQUESTS.values():  # what is made once, and kept, is made now
            await _exchanges(reader, writer, request, 2)
        for name, request in REQUESTS.items():
            found = await _garbage_of(reader, writer, request)

            assert not found, f"{name}: {_ROUNDS} exchanges left {dict(found)}"
        writer.close()
        await writer.wait_closed()


async def _garbage_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Counter[str]:
    """Objects of the data plane that only the collector could free, by type."""
    gc.freeze()  # what other tests have left in memory is neither walked nor found
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await _exchanges(reader, writer, request, _ROUNDS)
        gc.collect()
        return Counter(type(each).__qualname__ for each in gc.garbage if _is_of_the_data_plane(each))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.unfreeze()


def _is_of_the_data_plane(each: object) -> bool:
    module = type(each).__module__
    return type(each) is web.BaseRequest or (module.startswith("tallygate.") and not module.startswith("tallygate.simulator"))


async def _exchanges(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, count: int) -> None:
    for _ in range(count):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ")
        if b"transfer-encoding: chunked" in head:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    await asyncio.sleep(0.01)  # the handler of the last one has returned


async def test_a_client_that_leaves_within_its_body_leaves_nothing_of_it_behind(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        gc.collect()
        gc.freeze()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(3):
                _, writer = await asyncio.open_connection("127.0.0.1", harness.port)
                writer.write(_request("/v1/chat/completions", b" " * 2_000_000)[:-1])
                await writer.drain()
                writer.transport.abort()
            await asyncio.sleep(0.2)
            await harness.at_rest()
            gc.collect()
            pieces = [piece for each in gc.garbage if type(each) is list for piece in each if isinstance(piece, bytes)]
            assert sum(map(len, pieces)) < 100_000
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
            gc.unfreeze()
