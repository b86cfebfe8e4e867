"""What crosses the gateway in headers, each way: exactly what should, and no key, whoever it belongs to."""

from pathlib import Path

import pytest
from gateway_harness import ACME_KEY, OWN_KEY, running_gateway
from hostile_upstream import JSON_BODY, saying, scripted, whole
from raw_client import CHAT, KEY, ask, chat, converse

UPSTREAM_KEY = "sk-upstream-CANARY"
HOSTILE = b"".join(
    name + b": evil\r\n"
    for name in (
        *(b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Real-IP", b"Forwarded", b"True-Client-IP", b"Cookie"),
        *(b"X-Original-URL", b"X-Rewrite-URL", b"Proxy-Authorization", b"Proxy-Connection", b"Keep-Alive", b"TE", b"Trailer"),
        *(b"tallygate-anything", b"HTTP2-Settings", b"X-Hop", b"X-Request-Id"),
    )
)
SENT = ["accept-encoding", "authorization", "content-length", "content-type", "host", "via", "x-request-id", "x-stainless-lang"]


@pytest.fixture
def _upstream_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", UPSTREAM_KEY)


BEARER = {"upstreams": {"upstreams": {"default": {"auth": {"kind": "bearer", "secret_env": "SCRIPTED_KEY"}}}}}


@pytest.mark.usefixtures("_upstream_key")
async def test_exactly_the_expected_headers_go_up(tmp_path: Path) -> None:
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, config=BEARER, upstream_url=upstream.url) as harness,
    ):
        headers = KEY + HOSTILE + b"Connection: keep-alive, X-Hop\r\nAccept-Encoding: gzip, br\r\nX-Stainless-Lang: python\r\n"
        assert (await ask(harness.port, chat(headers=headers))).status == 200

        assert upstream.header_names() == SENT
        assert upstream.heads[-1].startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:")
        assert upstream.header("authorization") == f"Bearer {UPSTREAM_KEY}"
        assert upstream.header("accept-encoding") == "identity"
        assert upstream.header("x-request-id") == harness.events()[0]["event_id"]
        assert upstream.header("via") == "1.1 tallygate"
        assert int(upstream.header("content-length") or 0) == len(upstream.bodies[-1])
        assert b"acmesecret" not in upstream.heads[-1] + upstream.bodies[-1]
        assert b"evil" not in upstream.heads[-1]


async def test_a_gateway_key_never_goes_up_in_any_place(tmp_path: Path) -> None:
    key = ACME_KEY.encode()
    async with scripted(saying(whole())) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        for given in (
            KEY,
            b"x-api-key: " + key + b"\r\n",
            b"x-goog-api-key: " + key + b"\r\n",
            b"api-key: " + key + b"\r\n",
            KEY + b"x-api-key: " + key + b"\r\nx-goog-api-key: " + key + b"\r\n",
            b"authorization: bEaReR  " + key + b"  \r\n",
            KEY + b"X-Copy: " + key + b"\r\nX-Other: Bearer " + key + b"; x\r\n",
        ):
            for path in (
                "/v1/chat/completions",
                f"/v1/chat/completions?key={ACME_KEY}",
                f"/v1/chat/completions?api-version=1&%6bey={ACME_KEY}",
            ):
                assert (await ask(harness.port, chat(headers=given, path=path))).status == 200
                assert b"acmesecret" not in upstream.heads[-1] + upstream.bodies[-1]
                assert "authorization" not in upstream.header_names()


async def test_a_key_of_the_callers_own_goes_up_once(tmp_path: Path) -> None:
    async with scripted(saying(whole())) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        own = f"Authorization: Bearer {OWN_KEY}\r\n".encode()
        assert (await ask(harness.port, chat(headers=own))).status == 200
        assert upstream.heads[-1].count(OWN_KEY.encode()) == 1


@pytest.mark.usefixtures("_upstream_key")
async def test_the_upstreams_key_never_comes_down(tmp_path: Path) -> None:
    """Not in an answer of ours, whatever the upstream does."""
    answers = (
        saying(whole()),
        saying(whole(b'{"error":{"message":"no"}}', status=b"401 Unauthorized")),
        saying(b"", closes=True),
        saying(b"garbage\r\n\r\n", closes=True),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", closes=True),
    )
    for number, answering in enumerate(answers):
        async with scripted(answering) as upstream:
            place = tmp_path / str(number)
            place.mkdir()
            async with running_gateway(place, config=BEARER, upstream_url=upstream.url) as harness:
                found = await converse(harness.port, chat())
                assert UPSTREAM_KEY.encode() in upstream.heads[-1]
                assert b"CANARY" not in found.data
                assert "CANARY" not in str(harness.events())
                assert upstream.url.removeprefix("http://").encode() not in found.data


async def test_what_comes_down_is_the_upstreams_less_what_is_not_the_clients(tmp_path: Path) -> None:
    odd = (
        *(
            b"X-Latin: caf\xe9",
            b"X-UTF: caf\xc3\xa9",
            b"X-Tab: a\tb",
            b"X-Empty:",
            b"X-Long: " + b"a" * 7_000,
            b"OpenAI-Version: 1",
        ),
        *(
            b"Set-Cookie: a=CANARY",
            b"Alt-Svc: h2",
            b"Keep-Alive: timeout=5",
            b"X-Hop: CANARY",
            b"Connection: X-Hop",
            b"Upgrade: h2c",
        ),
        *(b"tallygate-cost-usd: CANARY", b"x-request-id: req_up", b"X-RateLimit-Limit-Requests: 7", b"Vary: a", b"Vary: b"),
    )
    async with (
        scripted(saying(whole(JSON_BODY, *odd))) as upstream,
        running_gateway(tmp_path, upstream_url=upstream.url) as harness,
    ):
        answer = await ask(harness.port, chat())

        assert answer.status == 200
        assert answer.body == JSON_BODY
        assert answer.header("x-latin") == "caf\xe9"
        assert answer.header("x-utf") == "caf\xc3\xa9"
        assert answer.header("x-tab") == "a\tb"
        assert answer.header("x-empty") == ""
        assert len(answer.header("x-long") or "") == 7_000
        assert answer.header("x-upstream-request-id") == "req_up"
        assert [value for name, value in answer.headers if name == "vary"] == ["a", "b"]
        assert "CANARY" not in str(answer.headers)
        assert not {"set-cookie", "alt-svc", "keep-alive", "x-hop", "upgrade", "trailer"} & {name for name, _ in answer.headers}
        assert sum(name == "content-length" for name, _ in answer.headers) == 1


FOR_OTHERS = (
    *(b"Cache-Control: public, max-age=60", b"Surrogate-Control: max-age=60", b"CDN-Cache-Control: max-age=60"),
    *(
        b"X-Accel-Redirect: /internal",
        b"X-Accel-Expires: 60",
        b"X-Sendfile: /etc/x",
        b"X-Reproxy-URL: http://x",
        b"X-Accel-Buffering: no",
    ),
    *(b"OpenAI-Organization: operator", b"OpenAI-Project: operator", b"anthropic-organization-id: operator"),
)


@pytest.mark.usefixtures("_upstream_key")
async def test_nothing_in_front_keeps_or_redirects_an_answer_and_it_says_nothing_of_the_operator(tmp_path: Path) -> None:
    """RFC 9111 section 3.5 keeps shared caches from answers to Authorization alone, and a key may come in another header."""
    read = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: " + ACME_KEY.encode() + b"\r\n\r\n"
    async with (
        scripted(saying(whole(JSON_BODY, *FOR_OTHERS))) as upstream,
        running_gateway(tmp_path, config=BEARER, upstream_url=upstream.url) as harness,
    ):
        asked, listed = await ask(harness.port, chat()), await ask(harness.port, read)
        refused = await ask(harness.port, read.replace(b"/v1/models", b"/v1/files/file_1"))
        assert (asked.status, listed.status, refused.status) == (200, 200, 404)
        for answer in (listed, refused):
            assert [value for name, value in answer.headers if name == "cache-control"] == ["no-store"]
        for answer in (asked, listed):
            names = {name for name, _ in answer.headers}
            assert not names & {"surrogate-control", "cdn-cache-control", "x-accel-redirect", "x-accel-expires", "x-sendfile"}
            assert "x-reproxy-url" not in names
            assert answer.header("x-accel-buffering") == "no"
            assert "operator" not in str(answer.headers)


async def test_a_callers_own_account_is_named_to_it(tmp_path: Path) -> None:
    async with (
        scripted(saying(whole(JSON_BODY, *FOR_OTHERS))) as upstream,
        running_gateway(tmp_path, upstream_url=upstream.url) as harness,
    ):
        answer = await ask(harness.port, chat(headers=f"Authorization: Bearer {OWN_KEY}\r\n".encode()))
        assert answer.header("openai-organization") == answer.header("anthropic-organization-id") == "operator"


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"X-Odd: a\x00b",
            b"X-Odd: a\x01b",
            b"X-Odd: a\rb",
            b"X-Odd: a\x7fb",
            b"X Odd: a",
            b"X-Odd : a",
            b": a",
            b"X-Odd: a\r\n b",
        ),
        *(b"Content-Length: 5", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"X(: a"),
        *(b"X-A: " + b"a" * 70_000, b"\r\n".join(b"X-%d: a" % number for number in range(300))),
    ],
)
async def test_an_upstreams_head_that_splits_or_smuggles_is_a_502(tmp_path: Path, line: bytes) -> None:
    answering = saying(whole(JSON_BODY, line), closes=True)
    async with scripted(answering) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        answer = await ask(harness.port, chat())
        assert (answer.status, answer.code) == (502, "upstream_invalid_response")
        assert "x-odd" not in str(answer.headers).lower()
        assert len(harness.events()) == 1


async def test_what_the_client_writes_cannot_break_out_of_its_header(tmp_path: Path) -> None:
    async with scripted(saying(whole())) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        for value in (b"caf\xe9", b"caf\xc3\xa9", b"\xff\xfe\x80", b"a\tb", b'"quoted"', b"a" * 8_000):
            assert (await ask(harness.port, chat(CHAT, headers=KEY + b"X-Odd: " + value + b"\r\n"))).status == 200
            assert b"\r\nX-Odd: " + value + b"\r\n" in upstream.heads[-1]
        assert upstream.header_names().count("x-odd") == 1
