"""The pool: bounds in number and time, places passed on whatever is cancelled, TLS, many at once."""

import asyncio
import socket
import ssl

import pytest
import trustme
from recording_sink import RecordingSink
from scripted_upstream import FAIL_SAFE_S, Peer, a_head, a_pool, an_upstream, answering

from tallygate.http1 import upstream_pool
from tallygate.http1.upstream_address import UpstreamAddress
from tallygate.http1.upstream_failure import FailureKind, UpstreamPoolFullError, UpstreamUnreachableError
from tallygate.http1.upstream_pool import UpstreamPool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = a_head("GET")


async def exchange(pool: UpstreamPool) -> RecordingSink:
    connection = await pool.acquire()
    sink = RecordingSink()
    connection.send(GET, b"", sink)
    await sink.end()
    return sink


async def until(condition) -> None:
    async with asyncio.timeout(FAIL_SAFE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_never_more_connections_than_pool_max_and_those_waiting_are_served() -> None:
    most, gate = 0, asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal most
        while await peer.request():
            most = max(most, sum(not each.closed.is_set() for each in upstream.peers))
            await gate.wait()
            await peer.send(OK)

    async with an_upstream(script) as upstream, a_pool(upstream, pool_max=3) as pool, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(exchange(pool)) for _ in range(20)]
        await until(lambda: pool.waiting_count == 17)
        gate.set()
        assert all([(await each).completed for each in running])
        assert most == pool.open_count == pool.idle_count == 3


async def test_a_thousand_exchanges_at_once_all_get_their_own_answer() -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.request():
            body = request.rpartition(b"\r\n\r\n")[2]
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    async def echo(number: int) -> bool:
        connection, sink, body = await pool.acquire(), RecordingSink(), b"number %d" % number
        connection.send(a_head(content_length=len(body)), body, sink)
        await sink.end()
        return sink.completed and sink.body == body

    async with an_upstream(script) as upstream, a_pool(upstream, pool_max=200, connect_ms=60_000) as pool:
        assert all(await asyncio.gather(*(echo(number) for number in range(1000))))
        assert len(upstream.peers) <= 200
        assert pool.open_count == pool.idle_count


async def test_the_newest_idle_connection_is_used_first_and_the_oldest_expires_first() -> None:
    now = 100.0
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, pool_idle_ms=15_000, clock=lambda: now) as pool:
        connections = [await pool.acquire() for _ in range(2)]
        for connection in connections:
            sink = RecordingSink()
            connection.send(GET, b"", sink)
            await sink.end()
            now += 5
        assert await pool.acquire() is connections[1]
        sink = RecordingSink()
        connections[1].send(GET, b"", sink)
        await sink.end()
        now += 5
        pool.expire(now)
        assert pool.idle_count == 1
        assert await pool.acquire() is connections[1]
        connections[1].abort()


async def test_a_busy_connection_ends_at_its_age_and_the_next_goes_where_the_name_leads_then() -> None:
    now = 100.0
    async with (
        an_upstream(answering(OK)) as old,
        an_upstream(answering(OK)) as new,
        a_pool(old, pool_age_ms=300_000, clock=lambda: now) as pool,
    ):
        assert (await exchange(pool)).completed
        pool.address = UpstreamAddress.from_base_url(f"http://127.0.0.1:{new.port}")  # as if its name led there
        for _ in range(26):
            now += 10
            assert (await exchange(pool)).completed
        assert (len(old.peers), len(new.peers)) == (1, 0)
        for _ in range(5):
            now += 10
            assert (await exchange(pool)).completed
        assert (len(old.peers), len(new.peers)) == (1, 1)


async def test_an_answer_under_way_is_not_cut_by_its_connections_age() -> None:
    now, gate = 100.0, asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            await gate.wait()
            await peer.send(OK)

    async with an_upstream(script) as upstream, a_pool(upstream, pool_age_ms=1_000, clock=lambda: now) as pool:
        running = asyncio.create_task(exchange(pool))
        await until(lambda: upstream.peers)
        now += 50
        pool.expire(now)
        gate.set()
        assert (await running).completed
        await until(lambda: pool.open_count == 0)


async def test_connections_of_one_burst_do_not_end_together() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, pool_age_ms=160_000, clock=lambda: 0.0) as pool:
        connections = [await pool.acquire() for _ in range(16)]
        ages = sorted(connection.retire_at for connection in connections)
        assert len(set(ages)) == 16
        assert (ages[0] >= 140, ages[-1]) == (True, 160)
        for connection in connections:
            connection.abort()


async def test_a_new_connection_trusts_what_is_trusted_since_a_renewal(tmp_path, monkeypatch) -> None:
    authority, unused = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = tmp_path / "authorities.pem"
    unused.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with an_upstream(answering(OK), tls=context) as upstream, a_pool(upstream, scheme="https") as pool:
        with pytest.raises(UpstreamUnreachableError) as refused:
            await pool.acquire()
        assert refused.value.failure.reason == "its certificate is from an unknown authority"

        authority.cert_pem.write_to_path(str(trusted))
        pool.renew_tls()
        assert (await exchange(pool)).completed


async def test_the_timer_closes_idle_connections_and_then_rests() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, pool_idle_ms=20) as pool:
        assert (await exchange(pool)).completed
        await until(lambda: pool.open_count == 0)
        await until(lambda: pool._timer is None)


async def test_waiting_is_bounded_in_time() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, pool_max=1, connect_ms=2_000) as pool:
        held = await pool.acquire()
        pool._connect_s = 0.02
        with pytest.raises(UpstreamPoolFullError) as refused:
            await pool.acquire()
        assert (refused.value.failure.kind, refused.value.failure.request_sent) == (FailureKind.OVERLOADED, False)
        assert pool.waiting_count == 0
        held.abort()


async def test_waiting_is_bounded_in_number(monkeypatch) -> None:
    monkeypatch.setattr(upstream_pool, "WAITING_MAX", 2)
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, pool_max=1) as pool:
        held = await pool.acquire()
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(pool.acquire()) for _ in range(2)]
            await until(lambda: pool.waiting_count == 2)
            with pytest.raises(UpstreamPoolFullError):
                await pool.acquire()
            held.abort()
            (await waiting[0]).abort()
            (await waiting[1]).abort()


async def test_a_failed_connection_gives_its_place_to_the_next() -> None:
    async with an_upstream(answering(OK)) as upstream:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            async with a_pool(closed.getsockname()[1], pool_max=1) as pool:
                results = await asyncio.gather(*(pool.acquire() for _ in range(5)), return_exceptions=True)
                assert [type(result) for result in results] == [UpstreamUnreachableError] * 5
                assert {result.failure.kind for result in results} == {FailureKind.UNREACHABLE}
                pool.address = UpstreamAddress.from_base_url(f"http://127.0.0.1:{upstream.port}")
                assert (await exchange(pool)).completed


async def test_whoever_is_cancelled_at_any_turn_no_place_is_lost() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, pool_max=2) as pool:
        for turns in range(12):
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(exchange(pool)) for _ in range(6)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for each in running[::2]:
                    each.cancel()
                await asyncio.wait(running)
            for connection in list(pool._open - set(pool._idle)):
                connection.abort()  # what a cancelled caller had acquired is its own to abort
            await until(lambda: pool.open_count == pool.idle_count)
            assert pool._connecting == 0
            assert pool.waiting_count == 0
        assert (await exchange(pool)).completed


async def test_a_granted_connection_of_a_cancelled_waiter_serves_the_next() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, pool_max=1) as pool:
        held, sink = await pool.acquire(), RecordingSink()
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(pool.acquire()) for _ in range(2)]
            await until(lambda: pool.waiting_count == 2)

            class CancellingSink(RecordingSink):
                def on_complete(self):
                    super().on_complete()
                    waiting[0].cancel()  # it holds the connection already, and has not run yet

            sink = CancellingSink()
            held.send(GET, b"", sink)
            async with asyncio.timeout(FAIL_SAFE_S):
                assert await waiting[1] is held
        assert waiting[0].cancelled()
        held.abort()


async def test_closing_refuses_those_waiting_and_lets_exchanges_finish() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(OK)

    async with (
        an_upstream(script) as upstream,
        a_pool(upstream, pool_max=1, connect_ms=60_000) as pool,
        asyncio.TaskGroup() as tasks,
    ):
        running = tasks.create_task(exchange(pool))
        await until(lambda: upstream.peers)
        waiting = tasks.create_task(asyncio.wait_for(asyncio.gather(pool.acquire(), return_exceptions=True), FAIL_SAFE_S))
        await until(lambda: pool.waiting_count == 1)
        pool.close()
        assert [type(each) for each in await waiting] == [UpstreamPoolFullError]
        with pytest.raises(UpstreamPoolFullError):
            await pool.acquire()
        gate.set()
        assert (await running).completed
        await pool.wait_closed()


async def test_a_name_with_several_addresses_reaches_the_one_that_listens() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, host="localhost") as pool:
        assert (await exchange(pool)).completed


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls_carries_exchanges_and_keeps_alive(authority: trustme.CA) -> None:
    tls = server_context(authority, "localhost")
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"
    async with (
        an_upstream(answering(answer), tls=tls) as upstream,
        a_pool(upstream, scheme="https", host="localhost", ssl_context=client_context(authority)) as pool,
    ):
        for _ in range(3):
            sink = await exchange(pool)
            assert sink.body == b"x" * 1000
            assert pool.idle_count == 1
        assert len(upstream.peers) == 1


@pytest.mark.parametrize("trusts", [True, False], ids=["wrong host", "unknown authority"])
async def test_tls_refuses_a_wrong_host_and_an_unknown_authority(authority: trustme.CA, trusts: bool) -> None:
    tls = server_context(authority, "other.example" if trusts else "localhost")
    context = client_context(authority) if trusts else None
    async with (
        an_upstream(answering(OK), tls=tls) as upstream,
        a_pool(upstream, scheme="https", host="localhost", ssl_context=context) as pool,
    ):
        with pytest.raises(UpstreamUnreachableError) as refused:
            await pool.acquire()
        assert refused.value.failure.kind is FailureKind.UNREACHABLE
        assert "TLS" in refused.value.failure.message
        await until(lambda: pool.open_count == 0)


async def test_a_handshake_that_never_ends_times_out_and_is_closed() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_closed()

    async with (
        an_upstream(script) as upstream,
        a_pool(upstream, scheme="https", host="localhost", connect_ms=50) as pool,
    ):
        with pytest.raises(UpstreamUnreachableError) as failed:
            await pool.acquire()
        assert failed.value.failure.kind is FailureKind.TIMEOUT
        assert pool._connecting == 0
        async with asyncio.timeout(FAIL_SAFE_S):
            await upstream.peers[0].closed.wait()


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.openai.com", ("api.openai.com", 443, True, "api.openai.com", "")),
        ("http://10.0.0.1:8000/v1/", ("10.0.0.1", 8000, False, "10.0.0.1:8000", "/v1")),
        ("https://[2001:db8::1]:443/a/b", ("2001:db8::1", 443, True, "[2001:db8::1]", "/a/b")),
        ("http://[::1]:81", ("::1", 81, False, "[::1]:81", "")),
        ("HTTPS://Api.Example:443", ("api.example", 443, True, "api.example", "")),
    ],
)
def test_a_base_url_is_read_once(base_url: str, expected: tuple) -> None:
    address = UpstreamAddress.from_base_url(base_url)
    assert (address.host, address.port, address.is_tls, address.host_header, address.path_prefix) == expected


@pytest.mark.parametrize(
    "base_url",
    [
        *("", "api.example", "ftp://a", "http://", "http://a:b@c", "http://a:99999", "http://a?x=1", "http://a#x", "http://a b"),
        *("http://a/../b", "http://a/%2e%2e/b", "http://a//b", "http://a/é", "http://é", "http://[::1", "http://a/b c"),
    ],
)
def test_an_unusable_base_url_is_refused_without_being_shown(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"^base_url") as refused:
        UpstreamAddress.from_base_url(base_url)
    assert not base_url or base_url not in str(refused.value)
