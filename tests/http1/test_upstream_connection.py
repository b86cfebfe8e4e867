"""One upstream connection against a scripted server: reuse, failures, early answers, backpressure, cancelling."""

import asyncio
import os
import socket

import pytest
from recording_sink import RecordingSink
from scripted_upstream import FAIL_SAFE_S, Peer, a_head, a_pool, an_upstream, answering

from tallygate.http1.upstream_failure import FailureKind, UpstreamUnreachableError
from tallygate.http1.upstream_pool import UpstreamPool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = a_head("GET")


async def exchange(pool: UpstreamPool, head: bytes = GET, body: bytes = b"") -> RecordingSink:
    connection = await pool.acquire()
    sink = RecordingSink()
    connection.send(head, body, sink)
    await sink.end()
    return sink


async def until(condition) -> None:
    async with asyncio.timeout(FAIL_SAFE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_request_arrives_whole_and_the_connection_is_used_again() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            seen.append((peer.number, request))
            await peer.send(OK)

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        for body in (b"", b"{}", b"x" * 300_000):
            head = a_head(content_length=len(body))
            sink = await exchange(pool, head, body)
            assert (sink.status, sink.body, sink.completed) == (200, b"ok", True)
            assert seen.pop() == (0, head + body)
        assert pool.idle_count == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"\r\n",
        OK + OK,
        STREAM + b"2\r\nok\r\n0\r\nTrailer: x\r\n\r\n",
    ],
    ids=["connection close", "HTTP/1.0", "stray line break", "second answer", "trailers"],
)
async def test_only_a_clean_end_returns_the_connection(answer: bytes) -> None:
    async with an_upstream(answering(answer)) as upstream, a_pool(upstream) as pool:
        for number in range(2):
            sink = await exchange(pool)
            assert (sink.body, sink.completed) == (b"ok", True)
            assert pool.idle_count == 0
            assert len(upstream.peers) == number + 1


async def test_a_close_delimited_answer_completes_at_the_end_of_file() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n", b"until ", b"the end")

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        sink = await exchange(pool)
        assert (sink.body, sink.completed, sink.keep_alive) == (b"until the end", True, False)
        assert pool.idle_count == 0


@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", FailureKind.RESET),
        (b"HTTP/1.1 200 OK\r\nContent-Le", FailureKind.RESET),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", FailureKind.RESET),
        (OK[:-1], FailureKind.TRUNCATED),
        (STREAM, FailureKind.TRUNCATED),
        (STREAM + b"5\r\nab", FailureKind.TRUNCATED),
        (STREAM + b"2\r\nab\r\n", FailureKind.TRUNCATED),
        (STREAM + b"2\r\nab\r\n0\r\n", FailureKind.TRUNCATED),
    ],
)
async def test_a_cut_answer_fails_and_is_never_complete(answer: bytes, kind: FailureKind, is_reset: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        if is_reset:
            peer.reset()

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        sink = await exchange(pool)
        assert sink.failure is not None
        assert sink.failure.request_sent
        assert sink.failure.headers_seen == (kind is FailureKind.TRUNCATED) == bool(sink.status)
        assert sink.kind is kind
        assert not sink.completed
        assert pool.idle_count == 0


async def test_an_invalid_response_fails_and_closes_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        await peer.until_closed()

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        sink = await exchange(pool)
        assert sink.kind is FailureKind.INVALID_RESPONSE
        await upstream.peers[0].closed.wait()


async def test_an_answer_is_relayed_read_by_read() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM, b"1\r\na\r\n")
        await gate.wait()
        await peer.send(b"1\r\nb\r\n0\r\n\r\n")

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        connection, sink = await pool.acquire(), RecordingSink()
        connection.send(GET, b"", sink)
        await until(lambda: sink.pieces == [b"a"])  # before the server has sent any more
        gate.set()
        await sink.end()
        assert sink.pieces == [b"a", b"b"]


async def test_a_closed_idle_connection_is_not_used_even_before_the_loop_has_seen_the_close() -> None:
    async with an_upstream(answering(OK, then_close=True)) as upstream, a_pool(upstream) as pool:
        assert (await exchange(pool)).completed
        await until(lambda: pool.idle_count == 0)
        assert (await exchange(pool)).completed
        assert len(upstream.peers) == 2


async def test_a_connection_that_sat_idle_is_probed_before_use() -> None:
    now = 100.0
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream, clock=lambda: now) as pool:
        assert (await exchange(pool)).completed
        stale = next(iter(pool._idle))
        duplicate = socket.socket(fileno=os.dup(upstream.peers[0].writer.get_extra_info("socket").fileno()))
        with duplicate:
            duplicate.shutdown(socket.SHUT_WR)  # the close is in the kernel, not yet in the loop
        now += 1
        fresh = await pool.acquire()
        assert fresh is not stale
        fresh.abort()


async def test_bytes_on_an_idle_connection_close_it_and_reach_nobody() -> None:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(OK)
            if peer.number == 0:
                await asyncio.sleep(0.01)
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        assert (await exchange(pool)).body == b"ok"
        await until(lambda: pool.idle_count == 0)
        assert (await exchange(pool)).body == b"ok"
        assert len(upstream.peers) == 2


async def test_a_request_that_dies_on_a_reused_connection_is_not_repeated() -> None:
    requests = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            requests.append(request)
            if len(requests) == 2:
                peer.reset()
                return
            await peer.send(OK)

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        assert (await exchange(pool)).completed
        sink = await exchange(pool)
        assert sink.kind is FailureKind.RESET
        assert sink.failure.request_sent
        assert len(requests) == 2
        assert len(upstream.peers) == 1


async def test_sending_on_a_connection_that_died_says_that_nothing_was_sent() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream) as pool:
        connection = await pool.acquire()
        await until(lambda: upstream.peers)
        upstream.peers[0].reset()
        await until(lambda: not connection.is_usable)
        sink = RecordingSink()
        with pytest.raises(UpstreamUnreachableError) as failed:
            connection.send(GET, b"", sink)
        assert not failed.value.failure.request_sent
        assert not sink.ended.is_set()


async def test_aborting_is_seen_by_the_upstream_and_not_by_the_sink() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM, b"1\r\na\r\n")
        await peer.until_closed()

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        connection, sink = await pool.acquire(), RecordingSink()
        connection.send(GET, b"", sink)
        async with asyncio.timeout(FAIL_SAFE_S):
            await sink.got_body.wait()
        connection.abort()
        connection.abort()
        async with asyncio.timeout(1):
            await upstream.peers[0].closed.wait()
        await until(lambda: pool.open_count == 0)
        assert not sink.ended.is_set()
        assert pool.idle_count == 0


async def test_aborting_from_inside_the_sink_ends_all_calls() -> None:
    async with an_upstream(answering(STREAM + b"1\r\na\r\n0\r\n\r\n")) as upstream, a_pool(upstream) as pool:
        connection = await pool.acquire()

        class LeavingSink(RecordingSink):
            def on_headers(self, *arguments, **named):
                super().on_headers(*arguments, **named)
                connection.abort()

        sink = LeavingSink()
        connection.send(GET, b"", sink)
        await until(lambda: pool.open_count == 0)
        assert sink.status == 200
        assert not sink.pieces
        assert not sink.ended.is_set()


async def test_a_sink_may_start_the_next_exchange_from_on_complete() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream) as pool:
        connection, second = await pool.acquire(), RecordingSink()

        class EagerSink(RecordingSink):
            def on_complete(self):
                super().on_complete()
                assert pool._take_idle() is connection
                connection.send(GET, b"", second)

        connection.send(GET, b"", EagerSink())
        await second.end()
        assert second.completed
        assert len(upstream.peers) == 1


async def test_a_paused_sink_stops_the_upstream_and_loses_nothing() -> None:
    total, blocked = 50_000_000, asyncio.Event()
    written = 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while written < total:
            peer.writer.write(b"x" * 100_000)
            written += 100_000
            if peer.writer.transport.get_write_buffer_size():
                blocked.set()
            await peer.writer.drain()

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        connection = await pool.acquire()

        class SlowSink(RecordingSink):
            received = 0

            def on_body(self, data):
                self.received += len(data)
                if self.received == len(data):
                    connection.pause()

        sink = SlowSink()
        connection.send(GET, b"", sink)
        async with asyncio.timeout(FAIL_SAFE_S):
            await blocked.wait()
        stuck_at = -1
        while stuck_at != written:
            stuck_at = written
            await asyncio.sleep(0.05)
        assert written < total / 2  # the rest waits at the server: only socket buffers hold bytes between
        assert sink.received <= 262_144  # one read
        connection.resume()
        await sink.end()
        assert sink.completed
        assert sink.received == total
        assert pool.idle_count == 1


async def test_a_paused_connection_goes_back_to_the_pool_reading() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream) as pool:
        connection = await pool.acquire()

        class PausingSink(RecordingSink):
            def on_body(self, data):
                super().on_body(data)
                connection.pause()

        sink = PausingSink()
        connection.send(GET, b"", sink)
        await sink.end()
        assert (await exchange(pool)).completed
        assert len(upstream.peers) == 1


@pytest.mark.parametrize("content_length", [None, 7])
async def test_a_streamed_body_arrives_framed_as_promised(content_length: int | None) -> None:
    received = []

    async def script(peer: Peer) -> None:
        if content_length is None:
            received.append(await peer.reader.readuntil(b"0\r\n\r\n"))
        else:
            received.append(await peer.request())
        await peer.send(OK)
        await peer.request()

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        connection, sink = await pool.acquire(), RecordingSink()
        head = a_head(content_length=content_length, is_chunked=content_length is None)
        connection.send_stream(head, sink, content_length=content_length)
        for piece in (b"abc", b"", b"defg"):
            connection.write_body(piece)
            await connection.drain()
        connection.end_body()
        await sink.end()
        body = b"abcdefg" if content_length else b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
        assert received == [head + body]
        assert pool.idle_count == 1


async def test_a_streamed_body_can_be_neither_longer_nor_shorter_than_promised() -> None:
    async with an_upstream(answering(OK)) as upstream, a_pool(upstream) as pool:
        connection = await pool.acquire()
        connection.send_stream(a_head(content_length=3), RecordingSink(), content_length=3)
        with pytest.raises(ValueError, match="more body"):
            connection.write_body(b"GET / HTTP/1.1")
        connection.write_body(b"ab")
        with pytest.raises(ValueError, match="less body"):
            connection.end_body()
        connection.abort()


async def test_a_streamed_body_waits_for_a_slow_upstream() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await gate.wait()
        assert len(await peer.request()) > 30_000_000
        await peer.send(OK)

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        connection, sink = await pool.acquire(), RecordingSink()
        connection.send_stream(a_head(content_length=30_000_000), sink, content_length=30_000_000)
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(300):
                connection.write_body(b"x" * 100_000)
                written += 100_000
                await connection.drain()
            connection.end_body()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            stuck_at = -1
            while stuck_at != written:
                stuck_at = written
                await asyncio.sleep(0.05)
            assert 0 < written < 30_000_000
            assert connection._transport.get_write_buffer_size() < 1_000_000
            gate.set()
        await sink.end()
        assert sink.completed


async def test_an_answer_before_the_end_of_the_request_ends_the_exchange() -> None:
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"

    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(10)
        await peer.send(early)
        await peer.until_closed()

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        connection, sink = await pool.acquire(), RecordingSink()
        connection.send_stream(a_head(is_chunked=True), sink, content_length=None)
        pieces = 0
        async with asyncio.timeout(FAIL_SAFE_S):
            while connection.wants_body:
                connection.write_body(b"x" * 1000)
                pieces += 1
                await connection.drain()
                await asyncio.sleep(0)
        await sink.end()
        assert (sink.status, sink.body, sink.completed) == (413, b"no", True)
        connection.write_body(b"too late")
        connection.end_body()
        await connection.drain()
        assert pool.idle_count == 0
        await upstream.peers[0].closed.wait()


async def test_a_writer_that_waits_is_woken_when_the_upstream_dies() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(10)
        peer.reset()

    async with an_upstream(script) as upstream, a_pool(upstream) as pool:
        connection, sink = await pool.acquire(), RecordingSink()
        connection.send_stream(a_head(is_chunked=True), sink, content_length=None)
        async with asyncio.timeout(FAIL_SAFE_S):
            while connection.wants_body:
                connection.write_body(b"x" * 1_000_000)
                await connection.drain()
        await sink.end()
        assert sink.kind is FailureKind.RESET
        assert len(upstream.peers) == 1


async def test_each_silence_has_its_own_timeout() -> None:
    now = 100.0
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.request()
        while piece := await pieces.get():
            await peer.send(piece)

    limits = {"first_byte_ms": 10_000, "idle_ms": 3_000, "clock": lambda: now}
    async with an_upstream(script) as upstream, a_pool(upstream, **limits) as pool:

        async def start() -> RecordingSink:
            nonlocal connection
            connection, sink = await pool.acquire(), RecordingSink()
            connection.send(GET, b"", sink)
            return sink

        connection = None
        sink = await start()
        pieces.put_nowait(b"HTTP/1.1 200 OK\r\nContent-")  # headers that trickle in do not extend the time
        now += 9.9
        await asyncio.sleep(0.05)
        pool.expire(now)
        assert not sink.ended.is_set()
        now += 0.1
        pool.expire(now)
        assert sink.kind is FailureKind.TIMEOUT
        assert not sink.failure.headers_seen
        pieces.put_nowait(b"")

        sink = await start()
        pieces.put_nowait(STREAM)
        await until(lambda: sink.status)
        now += 2.9
        pieces.put_nowait(b"1\r\na\r\n")
        await until(lambda: sink.pieces)
        now += 2.9
        pool.expire(now)
        assert not sink.ended.is_set()
        connection.pause()  # the client is slow: not the upstream's fault
        now += 60
        pool.expire(now)
        assert not sink.ended.is_set()
        connection.resume()
        now += 2.9
        pool.expire(now)
        assert not sink.ended.is_set()
        now += 0.2
        pool.expire(now)
        assert sink.kind is FailureKind.TIMEOUT
        assert sink.failure.headers_seen
        pieces.put_nowait(b"")


async def test_an_upstream_that_takes_no_request_times_out() -> None:
    now = 100.0

    async def script(peer: Peer) -> None:
        await peer.closed.wait()

    async with an_upstream(script) as upstream, a_pool(upstream, idle_ms=3_000, clock=lambda: now) as pool:
        connection, sink = await pool.acquire(), RecordingSink()
        connection.send(a_head(content_length=30_000_000), b"x" * 30_000_000, sink)
        await until(lambda: connection._is_writing_paused)
        now += 3
        pool.expire(now)
        assert sink.kind is FailureKind.TIMEOUT
