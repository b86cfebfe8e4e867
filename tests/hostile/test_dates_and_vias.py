"""Every answer has one Date; Via stands on what is passed on, each way, and on nothing else (RFC 9110 sections 6.6.1 and 7.6.3)."""

from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from gateway_harness import running_gateway
from hostile_upstream import JSON_BODY, saying, scripted, whole
from raw_client import BIG, KEY, Answer, asking, chat, converse

from tallygate.http1.faults import BAD_HOST

OLD_DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT"
EVENTS = b'data: {"choices":[{"index":0,"delta":{"content":"one"}}]}\n\ndata: [DONE]\n\n'


def values(answer: Answer, name: str) -> list[str]:
    return [value for found, value in answer.headers if found == name]


def assert_dated(answer: Answer) -> None:
    (date,) = values(answer, "date")
    assert date.endswith(" GMT")
    assert parsedate_to_datetime(date).year >= 2020


async def test_what_the_gateway_says_itself_has_a_date_and_no_via(tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9"
    async with running_gateway(tmp_path, upstream_url=closed) as harness:
        for request, status in (
            (chat(headers=b""), 401),
            (chat(headers=BIG, path="/v1/nothing"), 404),
            (b"GET /v1/embeddings HTTP/1.1\r\nHost: gateway\r\n\r\n", 405),
            (chat(b"{", headers=BIG), 400),
            (chat(headers=BIG + b"Content-Encoding: br\r\n"), 415),
            (chat(headers=BIG + b"Expect: a-miracle\r\n"), 417),
            (chat(headers=BIG + b"Via: 1.1 a, 1.0 TallyGate\r\n"), 508),
            (chat(headers=BIG), 502),
            (b"GET /v1/models HTTP/1.0\r\n\r\n", 401),
            (b"\r\n\x00\r\n\r\n", 400),
        ):
            (answer,) = (await converse(harness.port, request)).answers()
            assert answer.status == status
            assert_dated(answer)
            assert values(answer, "via") == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"])
async def test_an_answer_that_is_passed_on_has_its_own_date_and_a_via(
    tmp_path: Path, stream: bool, version: bytes, status: bytes
) -> None:
    content = (EVENTS, b"text/event-stream") if stream else (JSON_BODY, b"application/json")
    body, content_type = content
    undated = whole(body, status=status, content_type=content_type).replace(b"HTTP/1.1", b"HTTP/" + version, 1)
    dated = undated.replace(b"\r\n", b"\r\n" + OLD_DATE + b"\r\nVIA: 1.1 cdn, 2 edge (a, b)\r\n", 1)
    for said in (undated, dated):
        async with scripted(saying(said, closes=True)) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
            (answer,) = (await converse(harness.port, chat(headers=BIG, stream=stream))).answers()
            assert answer.status == int(status[:3])
            own = f"{version.decode()} tallygate"
            if said is dated:
                assert values(answer, "date") == [OLD_DATE.decode().partition(": ")[2]]
                assert values(answer, "via") == ["1.1 cdn, 2 edge (a, b)", own]
            else:
                assert_dated(answer)
                assert values(answer, "via") == [own]


async def test_a_request_that_is_passed_on_tells_by_which_version_it_came(tmp_path: Path) -> None:
    async with scripted(saying(whole())) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        given = b"Via: 1.0 fred, 1.1 p.example.net (tallygate)\r\nvia: 2 tallygate.example.net\r\n"
        for version in (b"1.1", b"1.0"):
            request = chat(headers=KEY + given).replace(b"HTTP/1.1", b"HTTP/" + version, 1)
            (answer,) = (await converse(harness.port, request)).answers()
            assert answer.status == 200
            lines = [line for line in upstream.heads[-1].split(b"\r\n") if line.lower().startswith(b"via:")]
            assert [line.partition(b": ")[2] for line in lines] == [
                *(b"1.0 fred, 1.1 p.example.net (tallygate)", b"2 tallygate.example.net"),
                version + b" tallygate",
            ]
            assert b"date" not in upstream.header_names()


async def test_a_host_that_is_none_is_refused_and_told(tmp_path: Path) -> None:
    hosts = [b"a b", b"a/v1", b"user@a", b"a, b", b"a,b", b"http://a", b"a?x", b"a:x", b"a:70000", b"[::1", b"::1", b"", b"a..b"]
    async with running_gateway(tmp_path) as harness:
        for host in hosts:
            for request in (chat(headers=BIG), b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n" + BIG + b"\r\n"):
                found = await converse(harness.port, request.replace(b"Host: gateway", b"Host: " + host))
                (answer,) = found.answers()
                assert (answer.status, answer.code) == (400, "invalid_request"), host
                assert BAD_HOST.message.encode() in answer.body
                assert found.is_closed
        assert not harness.ledger.records
        for host in (b"localhost:8080", b"a.example.:443", b"127.0.0.1:1", b"[::1]:8080", b"[::1]", b"a:"):
            request = chat(asking("tokens=1"), headers=BIG + b"Connection: close\r\n").replace(b"Host: gateway", b"Host: " + host)
            (answer,) = (await converse(harness.port, request)).answers()
            assert answer.status == 200, host
