"""Heads that are refused, at each boundary, and that ordinary ones are not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refusal_of
from search import cases

from tallygate.domain.errors import ErrorCode
from tallygate.gateway import request_checks
from tallygate.gateway.request_checks import HEADER_BYTES_MAX, HEADERS_MAX, TARGET_CHARS_MAX, check_headers, check_target
from tallygate.http1.faults import BAD_HOST, NO_HOST, TWO_HOSTS
from tallygate.http1.request_head import build_request_head

HOST = (b"Host", b"gateway.test")


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/",
            "/v1/models",
            "/v1beta/models/gemini-2.5-pro:generateContent?alt=sse",
            "/a?b=c#".rstrip("#"),
            "/a.b/..c/...",
            "/a/.b",
        ),
        *("/v1/models/ft:gpt-4o:a::b", "/a%20b?x=%2f%5c%00&y[]=1", "/a?../../b", "/~a/!$&'()*+,;=@", "//a", "/a?b?c"),
        "/" + "a" * (TARGET_CHARS_MAX - 1),
    ],
)
def test_an_ordinary_target_passes(target: str) -> None:
    assert refusal_of(check_target, target) is None


@pytest.mark.parametrize(
    "target",
    [
        *("", "*", "v1/models", "http://evil.example@a/v1/models", "ftp://x", "HTTP://", "evil.example:443", "?a=b"),
        *("/a#b", "/a?b#c", "/a\\b", "/a b", "/a\tb", "/a\x00", "/a\r\nb", "/a\x7f", "/é", '/"', "/<a>", "/a|b", "/{a}", "/a?b=\\"),
        *(
            "/a%5cb",
            "/a%5Cb",
            "/a%00",
            "/a%0d%0a",
            "/a%1f",
            "/a%7f",
            "/a%252e",
            "/a%2f..",
            "/a%2F%2e%2e%2fb",
            "/a%",
            "/a%2",
            "/a%zz",
            "/?%g1",
        ),
        *("/..", "/.", "/a/..", "/a/../b", "/a/./b", "/%2e%2e/a", "/a/.%2E", "/a/..;/b", "/a/..;x=y/b", "/a/%2e;/b"),
    ],
)
def test_a_target_that_two_servers_could_read_differently_is_refused(target: str) -> None:
    refusal = refusal_of(check_target, target)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, ErrorCode.INVALID_REQUEST)


def test_a_path_is_remembered_as_harmless_and_a_query_which_may_hold_a_key_is_not() -> None:
    request_checks._check_path.cache_clear()
    check_target("/v1/models?key=secret")
    assert request_checks._check_path.cache_info().currsize == 0
    check_target("/v1/models")
    check_target("/v1/models")
    assert request_checks._check_path.cache_info()[:2] == (1, 1)


def test_a_target_is_bounded() -> None:
    refusal = refusal_of(check_target, "/" + "a" * TARGET_CHARS_MAX)
    assert refusal is not None
    assert refusal.status == 414


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"Content-Length", b"12"), (b"Authorization", b"Bearer k"), (b"Max-Forwards", b"3")],
        [(b"Transfer-Encoding", b"Chunked")],
        [(b"Expect", b"100-Continue")],
        [(b"Accept", b"a"), (b"accept", b"b"), (b"Via", b"1.1 other, 1.0 nottallygate (tallygate)")],
        [(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade, HTTP2-Settings"), (b"HTTP2-Settings", b"AAMAAABkAAQAAP__")],
        [(b"X-Name", b"caf\xc3\xa9\tx")],
        [(b"X", b"y")] * (HEADERS_MAX - 1),
        [(b"X", b"y" * (HEADER_BYTES_MAX - len(b"Hostgateway.testX") - 8))],
    ],
    ids=range(9),
)
def test_ordinary_headers_pass(headers: list) -> None:
    assert refusal_of(check_headers, [HOST, *headers]) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([HOST], 400),
        ([(b"Content-Length", b"1"), (b"Content-Length", b"1")], 400),
        ([(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")], 400),
        ([(b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"chunked")], 400),
        ([(b"Transfer-Encoding", b"gzip, chunked")], 400),
        ([(b"Transfer-Encoding", b"identity")], 400),
        ([(b"Content-Length", b"-1")], 400),
        ([(b"Content-Length", b"+1")], 400),
        ([(b"Content-Length", b"1, 1")], 400),
        ([(b"Content-Length", b"")], 400),
        ([(b"Content-Length", b"1" * 19)], 400),
        ([(b"Authorization", b"Bearer a"), (b"authorization", b"Bearer b")], 400),
        ([(b"x-api-key", b"a"), (b"X-Api-Key", b"a")], 400),
        ([(b"x-goog-api-key", b"a"), (b"X-Goog-Api-Key", b"b")], 400),
        ([(b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"gzip")], 400),
        ([(b"Content_Length", b"1")], 400),
        ([(b"X_Forwarded-For", b"1")], 400),
        ([(b"X-Name", b"a\x00")], 400),
        ([(b"X-Name", b"a\rb")], 400),
        ([(b"X-Name", b"a\x7f")], 400),
        ([(b"Expect", b"200-ok")], 417),
        ([(b"X", b"y")] * HEADERS_MAX, 431),
        ([(b"X", b"y" * (HEADER_BYTES_MAX - len(b"Hostgateway.testX") - 7))], 431),
        ([(b"Via", b"1.1 tallygate")], 508),
        ([(b"Via", b"1.1 other"), (b"VIA", b"1.0 a, HTTP/1.1 TallyGate (comment)")], 508),
    ],
    ids=range(25),
)
def test_ambiguous_excessive_and_looping_heads_are_refused(headers: list, status: int) -> None:
    refusal = refusal_of(check_headers, [HOST, *headers])
    assert refusal is not None
    assert refusal.status == status
    assert (refusal.code is ErrorCode.LOOP_DETECTED) == (status == 508)


def test_http_1_1_needs_a_host_and_http_1_0_has_no_transfer_encoding() -> None:
    assert refusal_of(check_headers, []) is not None
    assert refusal_of(check_headers, [], is_http_1_0=True) is None
    assert refusal_of(check_headers, [(b"Transfer-Encoding", b"chunked")], is_http_1_0=True) is not None


def test_a_host_that_is_none_is_told() -> None:
    for hosts, told in (
        ([(b"Host", b"a b")], BAD_HOST),
        ([(b"Host", b"")], BAD_HOST),
        ([(b"Host", b"a"), (b"host", b"a")], TWO_HOSTS),
        ([], NO_HOST),
    ):
        refusal = refusal_of(check_headers, hosts)
        assert refusal is not None
        assert (refusal.status, refusal.message) == (400, told.message)
    assert refusal_of(check_headers, [(b"Host", b"a b")], is_http_1_0=True) is not None


def test_a_refusal_never_shows_what_it_refuses() -> None:
    for refusal in (
        refusal_of(check_headers, [HOST, (b"Authorization", b"Bearer SECRET\x00")]),
        refusal_of(check_target, "/SECRET#"),
    ):
        assert refusal is not None
        assert "SECRET" not in repr(refusal)


@given(st.text(max_size=30))
@settings(max_examples=cases(short=60, steady=300, deep=1_000), deadline=None)
def test_every_target_that_passes_can_be_sent_on(raw: str) -> None:
    if refusal_of(check_target, "/" + raw) is None:
        build_request_head("GET", "/" + raw, "h", [])


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=20))
@settings(max_examples=cases(short=60, steady=300, deep=1_000), deadline=None)
def test_any_headers_are_answered_without_an_error(headers: list) -> None:
    refusal_of(check_headers, headers)
    refusal_of(check_headers, [HOST, *headers])
