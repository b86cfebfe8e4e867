"""What is not HTTP gets one constant answer: nothing comes back of what was sent, nothing is logged, the connection ends."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from gateway_harness import ACME_KEY, LIMITS, TIMEOUTS, Harness, running_gateway
from log_recorder import LogRecorder
from raw_client import BIG, CHAT, KEY, Answer, Conversation, asking, chat, connected, converse

from tallygate.gateway.cors import CorsPolicy
from tallygate.gateway.server import HEADER_COUNT_MAX, LINE_BYTES_MAX
from tallygate.http1.faults import HEAD_TOO_LARGE, LINE_TOO_LONG, NO_HOST, OTHER_VERSION, TLS, TWO_HOSTS, UNKNOWN_METHOD
from tallygate.telemetry.metrics import BAD_REQUESTS, REFUSED

GET = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n" + KEY


def get(*headers: bytes) -> bytes:
    return GET + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


def post(*headers: bytes, body: bytes = b"") -> bytes:
    start = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n" + KEY
    return start + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


MALFORMED = {
    "no request line": b"\r\n\r\nCANARY\r\n\r\n",
    "binary": bytes(range(128, 256)) + b"CANARY\r\n\r\n",
    "TLS hello": bytes.fromhex("16030100a5010000a10303") + b"CANARY" * 20 + b"\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /CANARY\r\n\r\n",
    "version 9": b"GET /v1/models HTTP/9.9\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "version text": b"GET /v1/models HTTP/x.1 CANARY\r\nHost: gateway\r\n\r\n",
    "two spaces": b"GET  /v1/models CANARY HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "space in target": b"GET /v1/models CANARY HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "control in method": b"G\x01T /v1/models HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "NUL in target": b"GET /v1/models\x00CANARY HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "NUL in header": get(b"X-Odd: a\x00CANARY"),
    "control in key": b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer CANARY\x01\r\n\r\n",
    "NUL in key": b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer CANARY\x00\r\n\r\n",
    "DEL in key": b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nx-api-key: CANARY\x7f\r\n\r\n",
    "CR in value": get(b"X-Odd: a\rCANARY: b"),
    "bare LF": b"GET /v1/models HTTP/1.1\nHost: gateway\nAuthorization: Bearer CANARY\n\n",
    "LF in value": get(b"X-Odd: a\nX-CANARY: b"),
    "folded header": get(b"X-Odd: a\r\n CANARY"),
    "folded key": b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer\r\n CANARY\r\n\r\n",
    "first header folded": b"GET /v1/models HTTP/1.1\r\n X: CANARY\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "space before colon": get(b"X-Odd : CANARY"),
    "tab before colon": get(b"X-Odd\t: CANARY"),
    "no colon": get(b"CANARY"),
    "empty name": get(b": CANARY"),
    "name with space": get(b"X CANARY: a"),
    "name with parentheses": get(b"X(CANARY): a"),
    "name with obs-text": get(b"X\xe9CANARY: a"),
    "no Host": b"GET /v1/models HTTP/1.1\r\n" + KEY + b"\r\n",
    "two Hosts": get(b"Host: CANARY"),
    "two Authorizations": get(b"Authorization: Bearer CANARY"),
    "underscore": get(b"X_CANARY: a"),
    "negative length": post(b"Content-Length: -1"),
    "signed length": post(b"Content-Length: +1", body=b"x"),
    "hexadecimal length": post(b"Content-Length: 0x1", body=b"x"),
    "text length": post(b"Content-Length: CANARY", body=b"x"),
    "empty length": post(b"Content-Length: ", body=b"x"),
    "list of lengths": post(b"Content-Length: 1, 1", body=b"x"),
    "huge length": post(b"Content-Length: " + b"9" * 30, body=b"x"),
    "length with space": post(b"Content-Length: 1 1", body=b"x"),
    "two lengths": post(b"Content-Length: 1", b"Content-Length: 2", body=b"xy"),
    "two equal lengths": post(b"Content-Length: 1", b"Content-Length: 1", body=b"x"),
    "length and chunked": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "unknown coding": post(b"Transfer-Encoding: CANARY", body=b"0\r\n\r\n"),
    "chunked not last": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "coding before chunked": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked in 1.0": b"POST /v1/chat/completions HTTP/1.0\r\n" + KEY + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "long line": b"GET /v1/models?" + b"a" * LINE_BYTES_MAX + b" HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "long value": get(b"X-Odd: " + b"a" * (LINE_BYTES_MAX + 1)),
    "long name": get(b"X" * (LINE_BYTES_MAX + 1) + b": a"),
    "unknown method": b"BREW /v1/models HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "small letters": b"get /v1/models HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "version 1.2": b"GET /v1/models HTTP/1.2\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "version 3": b"GET /v1/models HTTP/3.0\r\nHost: gateway\r\n" + KEY + b"\r\n",
    "other protocol": b"SSH-2.0-CANARY\r\n",
    "many headers": get(*[b"X-%d: a" % number for number in range(HEADER_COUNT_MAX + 10)]),
}
NOT_400 = {
    "HTTP/2 preface": 505,
    "version 9": 505,
    "version 1.2": 505,
    "version 3": 505,
    "unknown method": 501,
    "small letters": 501,
    "long line": 414,
    "long value": 431,
    "long name": 431,
    "many headers": 431,
}
TOLD = {
    **dict.fromkeys(("HTTP/2 preface", "version 9", "version 1.2", "version 3"), OTHER_VERSION.message),
    **dict.fromkeys(("unknown method", "small letters"), UNKNOWN_METHOD.message),
    **dict.fromkeys(("long value", "long name", "many headers"), HEAD_TOO_LARGE.message),
    "long line": LINE_TOO_LONG.message,
    "TLS hello": TLS.message,
    "no Host": NO_HOST.message,
    "two Hosts": TWO_HOSTS.message,
}
IN_BODY = {
    "bad chunk size": b"CANARY\r\n{}\r\n0\r\n\r\n",
    "negative chunk size": b"-2\r\n{}\r\n0\r\n\r\n",
    "prefixed chunk size": b"0x2\r\n{}\r\n0\r\n\r\n",
    "huge chunk size": b"F" * 20 + b"\r\n{}\r\n0\r\n\r\n",
    "chunk longer than said": b"1\r\n{}\r\n0\r\n\r\n",
    "chunk ended by LF": b"2\n{}\n0\n\n",
    "no line end": b"2\r\n{}CANARY0\r\n\r\n",
}


def assert_constant(found: Conversation, name: str) -> Answer:
    answers = found.answers()
    assert answers, name
    assert found.is_closed, name
    first = answers[0]
    assert first.status in {400, 431, 414, 501, 505}, (name, first.status)
    assert len(answers) == 1, (name, len(answers))
    assert first.header("connection") == "close", name
    assert b"CANARY" not in found.data, name
    assert ACME_KEY.encode() not in found.data, name
    assert b"aiohttp" not in found.data, name
    assert b"Python" not in found.data, name
    return first


async def test_a_malformed_head_gets_a_constant_answer_and_a_closed_connection(tmp_path: Path, log: LogRecorder) -> None:
    async with running_gateway(tmp_path) as harness:
        quiet = log.size
        found = await asyncio.gather(*[converse(harness.port, data) for data in MALFORMED.values()])
        answers = [assert_constant(one, name) for name, one in zip(MALFORMED, found, strict=True)]

        assert not harness.ledger.records
        assert not harness.events()
        refused = sum(1 for refusal in harness.metrics.counted[REFUSED] if refusal[3] == "invalid_request")
        assert len(harness.metrics.counted[BAD_REQUESTS]) + refused == len(MALFORMED)
        assert log.size - quiet <= 300 * len(MALFORMED)
        # What the parser refuses is answered by constants, which say what a person could mend and nothing of the input.
        parsed = {name: answer for name, answer in zip(MALFORMED, answers, strict=True) if answer.header("x-request-id") is None}
        assert len(parsed) == len(harness.metrics.counted[BAD_REQUESTS]) >= 25
        assert {name: answer.status for name, answer in parsed.items() if answer.status != 400} == NOT_400
        assert {name: json.loads(answer.body)["detail"] for name, answer in parsed.items()} == {
            name: TOLD.get(name, "The request is not valid HTTP/1.1.") for name in parsed
        }
        for name, answer in parsed.items():
            assert answer.code == "invalid_request", name
            assert answer.header("server") == "tallygate", name
            assert answer.header("content-type") == "application/problem+json", name
            assert answer.header("content-length") == str(len(answer.body)), name
        for name, one, answer in zip(MALFORMED, found, answers, strict=True):
            assert one.data.startswith(b"HTTP/1.1 %d " % answer.status), name
            assert answer.header("date"), name
            assert answer.header("via") is None, name


async def test_a_malformed_body_ends_the_connection_and_reaches_no_upstream(tmp_path: Path, log: LogRecorder) -> None:
    async with running_gateway(tmp_path) as harness:
        heads = post(b"Transfer-Encoding: chunked")
        together = [converse(harness.port, heads + body) for body in IN_BODY.values()]
        apart = [converse(harness.port, heads, body) for body in IN_BODY.values()]
        for found in await asyncio.gather(*together, *apart):
            assert found.is_closed
            assert b"CANARY" not in found.data
            assert all(answer.status == 400 for answer in found.answers())
        await harness.at_rest()

        assert not harness.ledger.records
        assert not harness.events()
        assert log.size < 300 * 2 * len(IN_BODY)
        assert (await converse(harness.port, chat())).only().status == 200


async def test_a_flood_of_malformed_requests_logs_nothing_for_each(tmp_path: Path, log: LogRecorder) -> None:
    async with running_gateway(tmp_path) as harness:
        quiet = log.size
        bad = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer CANARY\x01\r\n\r\n"
        for _ in range(10):
            await asyncio.gather(*[converse(harness.port, bad) for _ in range(30)])

        assert len(harness.metrics.counted[BAD_REQUESTS]) == 300
        assert log.size - quiet <= 3_000


@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_request_line_and_a_header_are_bounded_to_the_byte(tmp_path: Path, pieces: int) -> None:
    def cut(data: bytes) -> list[bytes]:
        size = -(-len(data) // pieces)
        return [data[start : start + size] for start in range(0, len(data), size)]

    async with running_gateway(tmp_path) as harness:
        for longer, status in ((0, 200), (1, 431)):
            value = b"X-Odd: " + b"a" * (LINE_BYTES_MAX + longer)
            assert (await converse(harness.port, *cut(get(value)))).only(b"GET").status == status
        target = b"/v1/models?" + b"a" * (LINE_BYTES_MAX - len("/v1/models?"))
        for longer, status in ((0, 200), (2, 414)):
            line = b"GET " + target + b"a" * longer + b" HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n"
            assert (await converse(harness.port, *cut(line))).only(b"GET").status == status


async def test_a_line_without_end_is_told_from_a_header_without_end(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for start, status in ((b"GET /", 414), (b"GET /v1/models HTTP/1.1\r\nX: ", 431), (b"GET /v1/models HTTP/1.1\r\nX", 431)):
            found = await converse(harness.port, start, b"a" * 5_000, b"a" * 5_000)
            assert found.only(b"GET").status == status


async def test_a_page_of_an_origin_that_is_let_in_can_read_why(tmp_path: Path) -> None:
    """A browser's requests are valid HTTP, but its lines may be too long."""
    request = MALFORMED["long line"].replace(b"Host:", b"Origin: https://app.example\r\nHost:", 1)
    for origins, told in ((("https://app.example",), "*"), ((), None)):
        async with running_gateway(tmp_path, cors=CorsPolicy(frozenset(origins))) as harness:
            answer = (await converse(harness.port, request)).only(b"GET")
            assert (answer.status, answer.header("access-control-allow-origin")) == (414, told)


async def test_a_malformed_head_request_gets_no_content(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for name in ("two Hosts", "long line", "no colon", "version 9"):
            found = await converse(harness.port, MALFORMED[name].replace(b"GET", b"HEAD", 1))
            assert found.only(b"HEAD").status == NOT_400.get(name, 400)
            assert found.data.endswith(b"\r\n\r\n")
            assert found.is_closed


async def test_what_comes_whole_before_what_is_malformed_does_not_hide_it(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for second, status in ((MALFORMED["long line"], 414), (MALFORMED["two Hosts"], 400), (MALFORMED["unknown method"], 501)):
            found = await converse(harness.port, chat() + second)
            assert found.answers()[-1].status == status


async def test_the_number_of_headers_is_bounded(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for count, status in ((HEADER_COUNT_MAX - 2, 200), (HEADER_COUNT_MAX - 1, 431)):
            request = get(*[b"X-%d: a" % number for number in range(count)])  # beside Host and Authorization
            assert (await converse(harness.port, request)).only(b"GET").status == status


async def test_a_head_is_bounded_as_a_whole(tmp_path: Path) -> None:
    limits = replace(LIMITS, head_bytes_max=4_000)
    async with running_gateway(tmp_path, limits=limits) as harness:
        start = b"Host: gateway\r\n" + KEY
        spare = 4_000 - len(start)
        for longer, status in ((0, 200), (1, 431)):
            padding = b"X-A: " + b"a" * (spare - 1_000 - 7 + longer) + b"\r\n" + b"X-B: " + b"b" * (1_000 - 7) + b"\r\n"
            request = b"GET /v1/models HTTP/1.1\r\n" + start + padding + b"\r\n"
            assert (await converse(harness.port, request)).only(b"GET").status == status


async def test_a_head_without_end_is_refused_before_it_is_whole(tmp_path: Path) -> None:
    limits = replace(LIMITS, head_bytes_max=4_000)
    async with running_gateway(tmp_path, limits=limits) as harness, connected(harness.port) as client:
        await client.send(GET)
        sent = len(GET)
        while sent <= 4_000:
            await client.send(b"X-%04d: %b\r\n" % (sent, b"a" * 100))
            sent += 110
            await asyncio.sleep(0.005)
        answer = (await client.read_to_close()).only(b"GET")

        assert answer.status == 431
        assert answer.code == "invalid_request"
        assert len(harness.metrics.counted[BAD_REQUESTS]) == 1


async def test_blank_lines_are_a_head_without_end_too(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, connected(harness.port) as client:
        try:
            for _ in range(400):
                await client.send(b"\r\n" * 50_000)
        except ConnectionError:
            pass
        found = await client.read(5.0)

        assert found.is_closed
        assert len(harness.metrics.counted[BAD_REQUESTS]) <= 1


async def test_a_second_head_without_end_spares_the_answer_before_it(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, connected(harness.port) as client:
        await client.send(chat(asking("tokens=5 tps=50")))
        await asyncio.sleep(0.03)
        await client.send(b"GET / HTTP/1.1\r\n")
        for number in range(37):
            await client.send(b"X-%02d: %b\r\n" % (number, b"a" * 900))
            await asyncio.sleep(0.001)
        first, second = (await client.read_to_close()).answers()

        assert (first.status, second.status) == (200, 431)
        assert len(harness.events()) == 1


async def test_endless_chunk_extensions_end_the_connection(tmp_path: Path) -> None:
    limits = replace(LIMITS, body_bytes_max=1_000)
    async with (
        running_gateway(tmp_path, limits=limits, timeouts=replace(TIMEOUTS, head=0.5)) as harness,
        connected(harness.port) as client,
    ):
        await client.send(post(b"Transfer-Encoding: chunked"))
        try:
            for _ in range(200):
                await client.send(b"1;" + b"a" * 4_000 + b"\r\nx\r\n")
        except ConnectionError:
            pass
        found = await client.read(10.0)

        assert found.is_closed
        assert all(answer.status in {400, 413} for answer in found.answers())
        assert not harness.ledger.records
        await harness.at_rest()


async def test_a_chunked_body_with_extensions_is_read(tmp_path: Path) -> None:
    raw = str(CHAT).replace("'", '"').encode()
    body = b'%x;name="value"\r\n%b\r\n0;last\r\n\r\n' % (len(raw), raw)
    async with running_gateway(tmp_path) as harness:
        found = await converse(harness.port, post(b"Transfer-Encoding: chunked", body=body))

        assert found.only().status == 200
        assert found.is_closed  # no request follows a chunked one: its trailers would be mixed into it
        (served,) = harness.ledger.records
        assert served.prompt_tokens


async def test_a_trailer_is_no_header_of_the_next_request(tmp_path: Path) -> None:
    raw = str(CHAT).replace("'", '"').encode()
    first = post(b"Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n" % (len(raw), raw) + KEY + b"\r\n")
    second = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n"
    async with running_gateway(tmp_path) as harness:
        for pieces in ([first + second], [first, second], [first[:-2], first[-2:] + second]):
            harness.ledger.reset()
            found = await converse(harness.port, *pieces)
            answers = found.answers()
            assert answers[0].status == 200
            assert all(answer.status == 401 for answer in answers[1:])
            assert found.is_closed
            assert [served.endpoint for served in harness.ledger.records] == ["openai_chat"] or len(harness.ledger.records) == 1


async def test_requests_may_be_pipelined(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        found = await converse(harness.port, chat() * 30 + GET + b"Connection: close\r\n\r\n", quiet_seconds=10)
        answers = found.answers()

        assert [answer.status for answer in answers] == [200] * 31
        assert len(harness.events()) == 31
        assert harness.ledger.totals.requests == 31
        assert max_open(harness) == 1


def max_open(harness: Harness) -> int:
    """The most requests that were open at the simulator at once. One that ended in the millisecond of its start was open then."""
    records = [record for record in harness.ledger.records if record.sequence]
    return max(
        1 + sum(before.ended_at_ms > record.started_at_ms for before in records if before.sequence < record.sequence)
        for record in records
    )


async def test_a_malformed_body_of_a_refused_request_is_read_away_in_silence(tmp_path: Path) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with running_gateway(tmp_path) as harness:
        found = await asyncio.gather(*[converse(harness.port, head, body) for body in IN_BODY.values()])

        assert {one.answers()[0].status for one in found} <= {400, 401}
        assert all(len(one.answers()) == 1 for one in found)
        assert all(one.is_closed for one in found)


async def test_a_malformed_body_that_streams_through_is_cut_off_at_the_upstream_too(tmp_path: Path) -> None:
    head = b"POST /ai/data/v1/search HTTP/1.1\r\nHost: gateway\r\n" + BIG + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with running_gateway(tmp_path) as harness:
        found = await converse(harness.port, head, b"CANARY\r\n")
        await harness.at_rest()

        assert found.only().status == 400
        assert found.is_closed
        assert not harness.ledger.totals.accepted
