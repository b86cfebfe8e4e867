"""The exact header set that goes up, and the one that comes down."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.gateway.headers import request_headers, response_headers
from proxy.gateway.request_head import build_request_head

KEY = [(b"authorization", b"Bearer upstream-key")]


def up(*headers: tuple[str, str], credentials=(), is_metered: bool = True) -> list[tuple[bytes, bytes]]:
    client = [(name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")) for name, value in headers]
    return request_headers(client, credentials=credentials, request_id="evt_1", is_metered=is_metered)


OURS_UP = [(b"accept-encoding", b"identity"), (b"x-request-id", b"evt_1"), (b"via", b"1.1 tallygate")]


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "X-Api-Key", "x-goog-api-key", "api-key", "Cookie", "Host", "Content-Length", "Transfer-Encoding"),
        *(
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Upgrade",
            "Expect",
            "X-Request-Id",
        ),
        *("X-Forwarded-For", "X-FORWARDED-HOST", "X-Forwarded-Anything", "X-Real-IP", "Forwarded", "Accept-Encoding"),
        *("Tallygate-Org", "HTTP2-Settings", "X-Original-URL"),
    ],
)
def test_what_never_goes_up(name: str) -> None:
    assert up((name, "SECRET")) == OURS_UP


@pytest.mark.parametrize(
    "name",
    [
        *("anthropic-version", "anthropic-beta", "OpenAI-Organization", "OpenAI-Beta", "X-Cache-TTL", "Idempotency-Key", "Accept"),
        *(
            "User-Agent",
            "x-stainless-retry-count",
            "Content-Type",
            "Content-Encoding",
            "Via",
            "Max-Forwards",
            "traceparent",
            "X-Own",
        ),
    ],
)
def test_what_goes_up_unchanged(name: str) -> None:
    assert up((name, "1.1 caf\udcc3\udca9"), (name, "b")) == [(name.encode(), b"1.1 caf\xc3\xa9"), (name.encode(), b"b"), *OURS_UP]


def test_headers_named_by_connection_stay_here() -> None:
    assert up(("Connection", "close, X-One"), ("connection", "x-two"), ("X-One", "1"), ("X-Two", "2"), ("X-Three", "3")) == [
        (b"X-Three", b"3"),
        *OURS_UP,
    ]


def test_the_upstreams_credentials_replace_the_clients() -> None:
    assert up(("Authorization", "Bearer client-key"), credentials=KEY) == [OURS_UP[0], *KEY, *OURS_UP[1:]]
    assert up(("X-Custom-Key", "mine"), credentials=[(b"x-custom-key", b"theirs")])[1] == (b"x-custom-key", b"theirs")


CALLER = "tg_acme-prod_" + "k7" * 26
ANOTHER = "tg_big.prod_1_" + "q2" * 26


@pytest.mark.parametrize(
    "name", ["X-Custom", "User-Agent", "anthropic-beta", "X-Stainless-Lang", "Referer", "traceparent", "Accept"]
)
@pytest.mark.parametrize(
    "value",
    [
        CALLER,
        ANOTHER,
        "tga_" + "a2" * 24,
        f"key={CALLER};x",
        f"Basic {CALLER}",
        f"https://x/?key={CALLER}",
        CALLER[:-20],
        CALLER.replace("_", "%5F"),
        CALLER.replace("t", "%74", 1),
        "tok%65n" + ANOTHER,
        "my-own-key-1234",
        "a my-own-key-1234 b",
    ],
)
def test_no_key_to_the_gateway_goes_up_in_another_header(name: str, value: str) -> None:
    keys = [("Authorization", f"Bearer {CALLER}"), ("x-api-key", "my-own-key-1234")]
    assert up((name, value), *keys, credentials=KEY, is_metered=False) == [*KEY, *OURS_UP[1:]]
    assert up(*keys, (name, value), credentials=KEY, is_metered=False) == [*KEY, *OURS_UP[1:]]


@pytest.mark.parametrize("value", ["sdk/1.0 tg_", "a tg_b", "strategytg_long_enough_text", "100%", "a", "the key of tga"])
def test_what_only_looks_a_little_like_a_key_passes(value: str) -> None:
    assert up(("X-Stainless-Lang", value), ("Authorization", "Bearer ab"))[0] == (b"X-Stainless-Lang", value.encode())


@pytest.mark.parametrize(
    "name",
    ["Anthropic-Api-Key", "OpenAI-Api-Key", "X-ApiKey", "X-Auth-Token", "X-Access-Token", "X-Authorization", "X-Cookie", "api_key"],
)
def test_a_header_that_is_a_key_by_its_name_stays_here(name: str) -> None:
    assert up((name, "anything")) == OURS_UP


def test_an_unmetered_answer_may_be_compressed() -> None:
    assert up(("Accept-Encoding", "br"), is_metered=False) == [(b"Accept-Encoding", b"br"), *OURS_UP[1:]]


VIA = (b"via", b"1.1 tallygate")


@pytest.mark.parametrize(
    "name",
    [
        *(
            b"Connection",
            b"Keep-Alive",
            b"Proxy-Authenticate",
            b"TE",
            b"Trailer",
            b"Transfer-Encoding",
            b"Upgrade",
            b"Content-Length",
        ),
        *(b"Set-Cookie", b"Alt-Svc", b"Tallygate-Cost-USD"),
    ],
)
def test_what_never_comes_down(name: bytes) -> None:
    assert response_headers([(name, b"x")], ours=[]) == [VIA]


def test_what_comes_down_unchanged_and_in_order() -> None:
    theirs = [(b"Content-Type", b"text/event-stream"), (b"Retry-After", b"3"), (b"openai-processing-ms", b"9"), (b"Date", b"now")]
    theirs += [(b"request-id", b"req_1"), (b"Content-Encoding", b"gzip"), (b"Link", b"a"), (b"link", b"b"), (b"Via", b"1.1 edge")]
    assert response_headers(theirs, ours=[(b"x-own", b"1")]) == [*theirs, (b"x-own", b"1"), VIA]


def test_headers_named_by_connection_do_not_come_down() -> None:
    assert response_headers([(b"connection", b"Close, X-One"), (b"X-One", b"1"), (b"X-Two", b"2")], ours=[]) == [
        (b"X-Two", b"2"),
        VIA,
    ]


RATES = [
    (b"X-RateLimit-Reset", b"9"),
    (b"anthropic-ratelimit-requests-limit", b"9"),
    (b"RateLimit", b"x"),
    (b"RateLimit-Policy", b"x"),
]


def test_the_upstreams_rate_limits_come_down_only_where_ours_do_not() -> None:
    assert response_headers(RATES, ours=[(b"server-timing", b"a")]) == [*RATES, (b"server-timing", b"a"), VIA]
    ours = [(b"ratelimit", b'"requests";r=1')]
    assert response_headers([*RATES, (b"Retry-After", b"3")], ours=ours) == [(b"Retry-After", b"3"), *ours, VIA]


def test_our_header_replaces_theirs_and_their_request_id_stays_findable() -> None:
    ours = [(b"x-request-id", b"evt_1"), (b"server-timing", b"gateway;dur=1")]
    theirs = [(b"X-Request-ID", b"req_1"), (b"Server-Timing", b"up;dur=2")]
    assert response_headers(theirs, ours=ours) == [theirs[1], (b"x-upstream-request-id", b"req_1"), *ours, VIA]


TOKENS = st.text("abcdefghij-XYZ", min_size=1, max_size=12)


@given(
    st.lists(
        st.tuples(TOKENS | st.sampled_from(["Connection", "Cookie", "TE", "Upgrade"]), st.text("ab, \xe9", max_size=8)), max_size=10
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_goes_up_can_be_sent(headers: list) -> None:
    sent = up(*headers, credentials=KEY)
    build_request_head("POST", "/", "h", sent, content_length=0)
    assert [value for name, value in sent if name.lower() == b"authorization"] == [b"Bearer upstream-key"]
