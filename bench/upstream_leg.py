"""What the way to the upstream costs: aiohttp's ClientSession against tallygate's own connection, in one run.

Each proxy is a process of its own, pinned to one core; the upstream and the clients share the other. Printed is the proxy's CPU
time (user and system) per request and per relayed stream chunk: the median of several interleaved rounds, so that a noisy machine
disturbs all alike. "server" is an aiohttp server that answers by itself; the difference to it is the upstream leg.

    python -m bench.upstream_leg
"""

# ruff: noqa: ARG002, PLR0917 - sinks and responses have the shape of their protocols

import argparse
import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import aiohttp
import uvloop
from aiohttp import web

from tallygate.config.model import Upstream
from tallygate.http1.request_head import build_request_head
from tallygate.http1.upstream_failure import UpstreamFailure
from tallygate.http1.upstream_pool import UpstreamPool

BODY = b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"}}]}'
REQUEST = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Say hello to the world, and then some more."}]}'
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" token"}}]}\n\n'
KINDS = ("server", "session", "lean")


class MockUpstream(asyncio.Protocol):
    """Answers each read with a small JSON, or, for /stream, with `chunks` events, one write a millisecond."""

    chunks = 200

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST /stream"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.emit(self.chunks)
        elif data.startswith(b"POST"):
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 22 Nov 2026 15:54:47 GMT\r\n"
                b"x-request-id: req_1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
            )

    def emit(self, left: int) -> None:
        if left:
            self.transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            asyncio.get_running_loop().call_later(0.001, self.emit, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


class BenchClient(asyncio.Protocol):
    """One keep-alive client that sends its next request when `end` has arrived."""

    def __init__(self, request: bytes, end: bytes, requests: int, done: asyncio.Future) -> None:
        self.request, self.end, self.left, self.done, self.seen = request, end, requests, done, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.seen = (self.seen + data)[-512:]
        if self.seen.endswith(self.end):
            self.seen, self.left = b"", self.left - 1
            if self.left:
                self.transport.write(self.request)
            else:
                self.transport.close()
                self.done.set_result(None)


class BufferedSink:
    """Collects a small answer for one future."""

    def __init__(self, whole: asyncio.Future) -> None:
        self.whole, self.body = whole, b""

    def on_headers(self, status: int, headers: list, *, keep_alive: bool, content_length: int | None) -> None:
        self.status, self.headers = status, headers

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_complete(self) -> None:
        self.whole.set_result(None)

    def on_failure(self, failure: UpstreamFailure) -> None:
        self.whole.set_exception(RuntimeError(failure.message))


class RelaySink(BufferedSink):
    """Writes each read straight to the client's transport, inside the upstream's read callback."""

    def __init__(self, whole: asyncio.Future, client: asyncio.Transport) -> None:
        super().__init__(whole)
        self.client = client

    def on_headers(self, status: int, headers: list, *, keep_alive: bool, content_length: int | None) -> None:
        self.client.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self.client.write(b"%x\r\n%b\r\n" % (len(data), data))

    def on_complete(self) -> None:
        self.client.write(b"0\r\n\r\n")
        self.whole.set_result(None)


async def serve_proxy(kind: str, upstream_port: int, port: int, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    base_url = f"http://127.0.0.1:{upstream_port}"
    session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=1000))
    pool = UpstreamPool(Upstream(name="bench", base_url=base_url), loop=loop)

    async def own_answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(body=BODY, content_type="application/json")

    async def over_session(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = {"Content-Type": "application/json", "Accept": "*/*"}
        async with session.post(base_url + request.raw_path, data=body, headers=headers, allow_redirects=False) as answer:
            if request.raw_path != "/stream":
                return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")
            relayed = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await relayed.prepare(request)
            async for data in answer.content.iter_any():
                await relayed.write(data)
            await relayed.write_eof()
            return relayed

    async def over_pool(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = ((b"Content-Type", b"application/json"), (b"Accept", b"*/*"))
        head = build_request_head("POST", request.raw_path, pool.address.host_header, headers, content_length=len(body))
        connection = await pool.acquire()
        whole = loop.create_future()
        if request.raw_path != "/stream":
            sink = BufferedSink(whole)
            connection.send(head, body, sink)
            await whole
            return web.Response(body=sink.body, status=sink.status, content_type="application/json")
        connection.send(head, body, RelaySink(whole, request.transport))
        await whole
        return SentResponse()

    handler = {"server": own_answer, "session": over_session, "lean": over_pool}[kind]
    server = web.Server(handler, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    pipe.send("ready")
    while (await loop.run_in_executor(None, pipe.recv)) == "cpu":
        pipe.send(time.process_time())
    os._exit(0)


class SentResponse(web.StreamResponse):
    """Tells aiohttp that the answer was written past it."""

    async def prepare(self, request: web.BaseRequest) -> None:
        self._keep_alive = True

    async def write_eof(self, data: bytes = b"") -> None:
        return


def run_process(target: Callable, core: int, *arguments: object) -> None:
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {core})
    uvloop.run(target(*arguments))


async def serve_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(MockUpstream, "127.0.0.1", port)
    await server.serve_forever()


async def drive(port: int, path: str, clients: int, requests: int, end: bytes) -> None:
    loop = asyncio.get_running_loop()
    request = build_request_head(
        "POST",
        path,
        "127.0.0.1",
        ((b"Authorization", b"Bearer key"), (b"Content-Type", b"application/json"), (b"User-Agent", b"bench")),
        content_length=len(REQUEST),
    )
    finished = []
    for _ in range(clients):
        finished.append(loop.create_future())
        await loop.create_connection(lambda: BenchClient(request + REQUEST, end, requests, finished[-1]), "127.0.0.1", port)
    await asyncio.gather(*finished)


def cpu_seconds(pipe: Connection) -> float:
    pipe.send("cpu")
    return pipe.recv()


def measure(pipes: dict, ports: dict, rounds: int, kinds: tuple[str, ...], work: tuple[str, int, int, bytes], units: int) -> dict:
    path, clients, requests, end = work
    spent: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds + 1):
        for kind in kinds:
            before = cpu_seconds(pipes[kind])
            uvloop.run(drive(ports[kind], path, clients, requests, end))
            spent[kind].append((cpu_seconds(pipes[kind]) - before) / units * 1e6)
    return {kind: statistics.median(values[1:]) for kind, values in spent.items()}  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=int, default=18_700)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    upstream_port = options.port
    context.Process(target=run_process, args=(serve_upstream, 0, upstream_port), daemon=True).start()
    pipes, ports = {}, {}
    for index, kind in enumerate(KINDS):
        pipes[kind], theirs = context.Pipe()
        ports[kind] = upstream_port + 1 + index
        context.Process(target=run_process, args=(serve_proxy, 1, kind, upstream_port, ports[kind], theirs), daemon=True).start()
        pipes[kind].recv()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    requests = measure(pipes, ports, options.rounds, KINDS, ("/json", 16, 250, b"}]}"), 16 * 250)
    stream_units = 50 * 2 * MockUpstream.chunks
    streams = measure(pipes, ports, options.rounds, KINDS[1:], ("/stream", 50, 2, b"0\r\n\r\n"), stream_units)
    own = requests["server"]
    print(f"{'':24}{'CPU/request':>12}{'leg alone':>12}{'x server':>10}{'CPU/chunk':>12}")
    for kind, name in zip(KINDS, ("aiohttp server alone", "server + ClientSession", "server + own connection"), strict=True):
        chunk = f"{streams[kind]:9.1f} µs" if kind in streams else ""
        print(f"{name:24}{requests[kind]:9.1f} µs{requests[kind] - own:9.1f} µs{requests[kind] / own:10.2f}{chunk:>12}")
    print(f"session / own: leg {(requests['session'] - own) / (requests['lean'] - own):.1f} x", end="")
    print(f", chunk {streams['session'] / streams['lean']:.1f} x")
    for pipe in pipes.values():
        pipe.send("end")


if __name__ == "__main__":
    main()
