"""Upstreams behind an HTTP proxy: a real small one, which tells what it was asked for."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from aiohttp import ClientError, ClientSession, web
from gateway_harness import ACME_KEY, running_gateway
from recording_sink import RecordingSink
from scripted_upstream import an_upstream, answering

from tallygate.config.load import ConfigSource
from tallygate.config.model import Upstream
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.gateway.upstream import UpstreamClient
from tallygate.gateway.upstream_auth import UpstreamCredentials
from tallygate.gateway.websocket.upstream_socket import dial
from tallygate.http1.upstream_failure import FailureKind, UpstreamError, UpstreamUnreachableError
from tallygate.http1.upstream_pool import UpstreamPool
from tallygate.outbound.session import open_session
from tallygate.outbound.way_out import ProxyServer, WayOut, way_out
from tallygate.shares.fair_places import FairPlaces
from tallygate.telemetry.metrics import UPSTREAM_ERRORS

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOGIN = "Basic dXNlcjpwQHNz"  # user:p@ss


@dataclass
class SmallProxy:
    """answer: what it says to CONNECT in place of opening the tunnel; port_of: where names lead."""

    port_of: dict[str, int]
    answer: bytes = b""
    heads: list[bytes] = field(default_factory=list)
    port: int = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if self.answer != b"":
                writer.write(self.answer)
                await reader.read()
                writer.close()
                return
            target = head.split()[1].decode().removeprefix("http://").partition("/")[0]
            there, back = await asyncio.open_connection("127.0.0.1", self.port_of[target.partition(":")[0]])
            if head.startswith(b"CONNECT"):
                writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 small\r\n\r\n")
            else:
                back.write(head)
            await asyncio.gather(pump(reader, back), pump(there, writer))
        writer.close()


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
    sink.close()


@asynccontextmanager
async def a_proxy(port_of: dict[str, int], answer: bytes = b"") -> AsyncIterator[SmallProxy]:
    proxy = SmallProxy(port_of, answer)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await asyncio.sleep(0.01)  # for what is being closed


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def server_context(authority: trustme.CA, name: str = "api.test") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def a_client(base_url: str, proxy: SmallProxy, *, ca_pem: str = "", login: str = LOGIN, connect_ms: int = 5_000) -> UpstreamClient:
    server = ProxyServer(host="127.0.0.1", port=proxy.port, authorization=login)
    config = Upstream(name="u", base_url=base_url, proxy=server, ca_pem=ca_pem, connect_ms=connect_ms)
    return UpstreamClient(
        config=config,
        pool=UpstreamPool(config, loop=asyncio.get_running_loop()),
        credentials=UpstreamCredentials(config.auth),
        drains=None,
        places=FairPlaces(1),
    )


async def asked(client: UpstreamClient) -> RecordingSink:
    connection = await client.pool.acquire()
    sink = RecordingSink()
    connection.send(client.head("GET", "/v1/models", [(b"authorization", b"Bearer sk")]), b"", sink)
    await sink.end()
    return sink


async def test_tls_goes_through_a_tunnel_which_is_kept_and_sees_nothing_of_the_request(authority: trustme.CA) -> None:
    async with (
        an_upstream(answering(OK, OK), tls=server_context(authority)) as upstream,
        a_proxy({"api.test": upstream.port}) as proxy,
    ):
        client = a_client("https://api.test", proxy, ca_pem=pem(authority))
        for _ in range(2):
            assert (await asked(client)).completed
        client.pool.close()
    assert [head.split(b"\r\n") for head in proxy.heads] == [
        [b"CONNECT api.test:443 HTTP/1.1", b"Host: api.test:443", f"Proxy-Authorization: {LOGIN}".encode(), b"", b""]
    ]
    assert client.pool.open_count <= 1


@pytest.mark.parametrize(("name", "trusted"), [("api.test", False), ("other.test", True)])
async def test_the_upstreams_certificate_is_verified_in_the_tunnel(authority: trustme.CA, name: str, *, trusted: bool) -> None:
    async with (
        an_upstream(answering(OK), tls=server_context(authority, name)) as upstream,
        a_proxy({"api.test": upstream.port}) as proxy,
    ):
        client = a_client("https://api.test", proxy, ca_pem=pem(authority) if trusted else "")
        with pytest.raises(UpstreamUnreachableError, match="TLS certificate"):
            await client.pool.acquire()
        assert not client.pool.open_count


async def test_a_plain_upstream_is_named_in_the_target() -> None:
    async with an_upstream(answering(OK)) as upstream, a_proxy({"api.test": upstream.port}) as proxy:
        client = a_client("http://api.test:81", proxy)
        assert (await asked(client)).completed
        client.pool.close()
    lines = proxy.heads[0].split(b"\r\n")
    assert lines[:2] == [b"GET http://api.test:81/v1/models HTTP/1.1", b"Host: api.test:81"]
    assert f"proxy-authorization: {LOGIN}".encode() in lines


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refused with status 407"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "refused with status 502"),
        (b"SSH-2.0-x\r\n\r\n", "no answer that can be read"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "out of turn"),
        (b"x" * 20_000, "no answer that can be read"),
    ],
)
async def test_a_proxy_that_refuses_is_a_failure_that_says_so_in_answer_and_log(answer: bytes, text: str) -> None:
    async with a_proxy({}, answer) as proxy:
        client = a_client("https://api.test", proxy)
        with pytest.raises(UpstreamUnreachableError, match=text) as caught:
            await client.pool.acquire()
    failure = caught.value.failure
    assert (failure.kind, failure.request_sent) == (FailureKind.UNREACHABLE, False)
    assert failure.reason == f"through the proxy 127.0.0.1:{proxy.port}: {failure.message}"
    assert "dXNlc" not in failure.reason + repr(client.config)


async def test_a_proxy_that_hangs_or_is_away_is_given_up() -> None:
    async with a_proxy({}, b" ") as proxy:
        client = a_client("https://api.test", proxy, connect_ms=50)
        with pytest.raises(UpstreamUnreachableError) as caught:
            await client.pool.acquire()
        assert caught.value.failure.kind is FailureKind.TIMEOUT
    with pytest.raises(UpstreamUnreachableError, match="cannot be reached"):
        await client.pool.acquire()


async def test_a_407_in_place_of_a_plain_upstreams_answer_is_a_failure() -> None:
    async with a_proxy({}, b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as proxy:
        sink = await asked(a_client("http://api.test", proxy))
        assert sink.failure is not None
        assert "status 407" in sink.failure.message


async def test_what_is_fetched_beside_requests_takes_the_same_way(authority: trustme.CA) -> None:
    async with (
        an_upstream(answering(OK), tls=server_context(authority)) as upstream,
        an_upstream(answering(OK)) as plain,
        a_proxy({"api.test": upstream.port, "plain.test": plain.port}) as proxy,
    ):
        server = ProxyServer(host="127.0.0.1", port=proxy.port, authorization=LOGIN)
        way = WayOut(by_scheme={"https": server, "http": server}, ca_pem=pem(authority), exempt="near.test")
        async with open_session(way) as session:
            for url in ("https://api.test/token", "http://plain.test/keys"):
                async with session.get(url) as answer:
                    assert await answer.text() == "ok"
            with pytest.raises(ClientError):
                await session.get("http://near.test/")
    lines = [head.split(b"\r\n")[0] for head in proxy.heads]
    assert lines == [b"CONNECT api.test:443 HTTP/1.1", b"GET http://plain.test/keys HTTP/1.1"]
    assert all(LOGIN.encode() in head for head in proxy.heads)


@asynccontextmanager
async def a_socket_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server whose sockets close as soon as they are open; its port."""

    async def serve(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close(code=4000)
        return socket

    app = web.Application()
    app.router.add_get("/v1/responses", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("is_tls", [True, False])
async def test_a_websocket_takes_the_same_way(authority: trustme.CA, *, is_tls: bool) -> None:
    tls = server_context(authority) if is_tls else None
    async with a_socket_server(tls) as port, a_proxy({"api.test": port}) as proxy:
        client = a_client(f"{'https' if is_tls else 'http'}://api.test", proxy, ca_pem=pem(authority))
        async with await dial(client, "/v1/responses", [(b"authorization", b"Bearer sk")], ()) as socket:
            assert (await socket.socket.receive()).data == 4000
        client.pool.close()
    (head,) = proxy.heads
    assert f"Proxy-Authorization: {LOGIN}".encode() in head
    assert head.startswith(b"CONNECT api.test:443 " if is_tls else b"GET http://api.test/v1/responses ")
    assert (b"Bearer sk" in head) is not is_tls


@pytest.mark.parametrize(("name", "trusted"), [("api.test", False), ("other.test", True)])
async def test_a_websockets_certificate_is_verified(authority: trustme.CA, name: str, *, trusted: bool) -> None:
    async with a_socket_server(server_context(authority, name)) as port, a_proxy({"api.test": port}) as proxy:
        client = a_client("https://api.test", proxy, ca_pem=pem(authority) if trusted else "")
        with pytest.raises(UpstreamError):
            await dial(client, "/v1/responses", [], ())


def test_the_environment_is_read_as_curl_reads_it() -> None:
    environ = {
        "HTTPS_PROXY": "http://user:p%40ss@Upper:3128",
        "https_proxy": "lower:8080",
        "ALL_PROXY": "http://all",
        "NO_PROXY": "x",
    }
    assert way_out(environ).by_scheme == {"https": ProxyServer(host="lower", port=8080), "http": ProxyServer(host="all", port=80)}
    del environ["https_proxy"]
    assert way_out(environ).by_scheme["https"] == ProxyServer(host="upper", port=3128, authorization=LOGIN)
    assert way_out({"HTTPS_PROXY": ""}).proxy_for("https://api.test") is None


async def test_a_client_behind_a_proxy_that_refuses_gets_502_and_nothing_stays_held(tmp_path: Path) -> None:
    async with a_proxy({}, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as proxy:
        way = WayOut(by_scheme={"https": ProxyServer(host="127.0.0.1", port=proxy.port)})
        chat = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
        async with running_gateway(tmp_path, upstream_url="https://api.test", way=way) as harness, ClientSession() as session:
            key = {"Authorization": f"Bearer {ACME_KEY}"}
            async with session.post(f"{harness.url}/v1/chat/completions", json=chat, headers=key) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (502, "upstream_unreachable")
            await harness.at_rest()
            window = await harness.window()
            assert (window.spent_nano_usd, window.held_nano_usd) == (0, 0)
            assert harness.metrics.counted[UPSTREAM_ERRORS] == [("default", "unreachable")]


def test_an_upstreams_own_authorities_are_read_with_its_file_and_line(tmp_path: Path, authority: trustme.CA) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    text = "upstreams:\n  default:\n    base_url: https://api.test\n    ca_file: {}\n"
    (tmp_path / "upstreams.yaml").write_text(text.format(tmp_path / "ca.pem"))
    proxy = ProxyServer(host="proxy", port=80)
    source = ConfigSource(
        directory=tmp_path,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        way=WayOut(by_scheme={"https": proxy}, ca_pem="all\n"),
    )
    found = source.load().upstreams["default"]
    assert (found.proxy, found.ca_pem) == (proxy, f"all\n\n{pem(authority)}")
    (tmp_path / "upstreams.yaml").write_text(text.format(tmp_path / "upstreams.yaml"))
    (problem,) = source.problems()
    assert problem.startswith("upstreams.yaml:4: upstreams.default.ca_file names the file ")
