"""The exact header set that goes up, and the one that comes down."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refusal_of
from search import cases

from tallygate.domain.errors import ErrorCode
from tallygate.gateway.headers import check_form, request_headers, response_headers
from tallygate.gateway.passages import Passage, ReadablePassage
from tallygate.http1.header import Header, headers_of, lines_of
from tallygate.http1.request_head import build_request_head

KEY = [(b"authorization", b"Bearer upstream-key")]


def up(
    *headers: tuple[str, str],
    credentials=(),
    is_metered: bool = True,
    is_own_key: bool = False,
    org: str = "acme",
    more: frozenset[bytes] = frozenset(),
) -> list[tuple[bytes, bytes]]:
    client = [(name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")) for name, value in headers]
    kind = ReadablePassage if is_metered else Passage
    passage = kind(is_own_key=is_own_key, org=org, more=more)
    return request_headers(client, credentials=credentials, request_id="evt_1", passage=passage)


READ_AS = [(b"content-type", b"application/json"), (b"accept-encoding", b"identity")]
OURS = [(b"x-request-id", b"evt_1"), (b"via", b"1.1 tallygate")]
OURS_UP = [*READ_AS, *OURS]


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
        *("anthropic-version", "anthropic-beta", "OpenAI-Beta", "X-Cache-TTL", "User-Agent", "x-stainless-helper-method", "Via"),
        *("x-stainless-retry-count", "Max-Forwards", "traceparent", "x-goog-api-client", "Accept-Language", "X-Client-Request-Id"),
    ],
)
def test_what_goes_up_unchanged(name: str) -> None:
    assert up((name, "1.1 caf\udcc3\udca9"), (name, "b")) == [(name.encode(), b"1.1 caf\xc3\xa9"), (name.encode(), b"b"), *OURS_UP]


ACTS_FOR = (
    *("OpenAI-Organization", "OpenAI-Project", "X-Goog-User-Project", "anthropic-workspace-id", "anthropic-organization-id"),
    *("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "X-Goog-Quota-User", "ChatGPT-Account-Id", "X-Tenant-Id"),
    *("Ocp-Apim-Subscription-Key", "X-Goog-Authenticated-User-Id"),
)


@pytest.mark.parametrize("name", ACTS_FOR)
def test_what_acts_for_somebody_goes_up_with_ones_own_key_alone(name: str) -> None:
    for is_metered, read_as in ((True, READ_AS), (False, [])):
        assert up((name, "x"), is_metered=is_metered) == [*read_as, *OURS]
        assert up((name, "x"), is_metered=is_metered, is_own_key=True) == [(name.encode(), b"x"), *read_as, *OURS]
        assert up((name, "x"), is_metered=is_metered, more=frozenset({name.lower().encode()}))[0] == (name.encode(), b"x")


def test_an_unknown_header_goes_up_at_a_metered_route_with_ones_own_key_alone() -> None:
    own = (b"X-Own", b"1")
    assert up(("X-Own", "1")) == OURS_UP
    assert up(("X-Own", "1"), is_own_key=True) == [own, *OURS_UP]
    assert up(("X-Own", "1"), more=frozenset({b"x-own"})) == [own, *OURS_UP]
    assert up(("X-Own", "1"), is_metered=False) == [own, *OURS]


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Idempotency-Key", "anthropic-idempotency-key"])
def test_an_idempotency_key_becomes_the_organizations_own(name: str) -> None:
    def sent(org: str, value: str = "key-1", **how: bool) -> bytes:
        ((_, found),) = [header for header in up((name, value), org=org, **how) if header[0] == name.encode()]
        return found

    assert sent("acme") == sent("acme") == sent("acme", is_metered=False)
    assert len({sent("acme"), sent("big"), sent("acme", "key-2"), b"key-1"}) == 4
    assert sent("acme", sent("big").decode()) != sent("big")
    assert sent("acme", is_own_key=True) == b"key-1"


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        ("application/json", b"application/json"),
        ("text/event-stream", b"text/event-stream"),
        ("*/*", b"*/*"),
        ("application/json, text/plain, */*;q=0.5", b"application/json, */*"),
        ("application/x-protobuf, application/json;q=0.1", b"application/json"),
        ("", b""),
    ],
)
def test_accept_names_what_can_be_metered(accept: str, sent: bytes) -> None:
    assert up(("Accept", accept)) == [(b"Accept", sent), *OURS_UP]
    assert up(("Accept", accept), is_metered=False) == [(b"Accept", accept.encode()), *OURS]
    assert refusal_of(check_form, [(b"Accept", accept.encode())], ()) is None


def test_a_metered_body_goes_up_as_the_json_it_was_read_as() -> None:
    for content_type in ("application/json; charset=utf-7", "text/plain", "application/x-www-form-urlencoded", "application/grpc"):
        assert up(("Content-Type", content_type)) == OURS_UP
    assert up(("Content-Type", "multipart/form-data; boundary=b"), is_metered=False)[0][1] == b"multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Goog-FieldMask", "candidates"),
        ("x-goog-fieldmask", ""),
        ("X-Goog-Encode-Response-If-Executable", "base64"),
        ("Prefer", "return=minimal"),
        ("Range", "bytes=0-9"),
        ("Accept", "application/x-protobuf"),
        ("Accept", "text/html"),
    ],
)
def test_a_header_that_changes_the_answers_form_is_refused_by_name(name: str, value: str) -> None:
    header = (name.encode(), value.encode())
    refusal = refusal_of(check_form, [header], ())
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.param) == (400, ErrorCode.INVALID_REQUEST, name.lower())
    assert name.lower() in refusal.message
    assert refusal_of(check_form, [header], {name.lower().encode()}) is None


def test_headers_named_by_connection_stay_here() -> None:
    named = (("Connection", "close, X-One"), ("connection", "x-two"), ("X-One", "1"), ("X-Two", "2"), ("X-Three", "3"))
    assert up(*named, is_own_key=True) == [(b"X-Three", b"3"), *OURS_UP]


def test_the_upstreams_credentials_replace_the_clients() -> None:
    assert up(("Authorization", "Bearer client-key"), credentials=KEY) == [*READ_AS, *KEY, *OURS]
    theirs = (b"x-custom-key", b"theirs")
    assert up(("X-Custom-Key", "mine"), credentials=[theirs], is_own_key=True) == [*READ_AS, theirs, *OURS]


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
    assert up((name, value), *keys, credentials=KEY, is_metered=False) == [*KEY, *OURS]
    assert up(*keys, (name, value), credentials=KEY, is_metered=False) == [*KEY, *OURS]


def test_a_key_that_came_in_the_query_goes_up_in_no_header() -> None:
    passage = Passage(is_own_key=False, org="acme")
    client = [(b"user-agent", b"my-own-key-1234"), (b"accept-language", b"en")]
    found = request_headers(client, credentials=KEY, request_id="evt_1", passage=passage, query_key="my-own-key-1234")
    assert found == [(b"accept-language", b"en"), *KEY, *OURS]


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
    assert up(("Accept-Encoding", "br"), is_metered=False) == [(b"Accept-Encoding", b"br"), *OURS]


VIA = (b"via", b"1.1 tallygate")


def came_down(theirs: Sequence[Header], *, ours: Sequence[Header], status: int = 200) -> list[Header]:
    return headers_of(response_headers(theirs, ours=lines_of(ours), status=status))


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
        *(b"Authorization", b"X-Api-Key", b"x-goog-api-key", b"api-key"),  # of an upstream that shows what it was sent
    ],
)
def test_what_never_comes_down(name: bytes) -> None:
    assert came_down([(name, b"x")], ours=[]) == [VIA]


def test_what_comes_down_unchanged_and_in_order() -> None:
    theirs = [(b"Content-Type", b"text/event-stream"), (b"Retry-After", b"3"), (b"openai-processing-ms", b"9"), (b"Date", b"now")]
    theirs += [(b"request-id", b"req_1"), (b"Content-Encoding", b"gzip"), (b"Link", b"a"), (b"link", b"b"), (b"Via", b"1.1 edge")]
    assert came_down(theirs, ours=[(b"x-own", b"1")]) == [*theirs, (b"x-own", b"1"), VIA]


def test_headers_named_by_connection_do_not_come_down() -> None:
    assert came_down([(b"connection", b"Close, X-One"), (b"X-One", b"1"), (b"X-Two", b"2")], ours=[]) == [
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
    assert came_down(RATES, ours=[(b"server-timing", b"a")]) == [*RATES, (b"server-timing", b"a"), VIA]
    ours = [(b"ratelimit", b'"requests";r=1')]
    assert came_down([*RATES, (b"Retry-After", b"3")], ours=ours) == [(b"Retry-After", b"3"), *ours, VIA]


def test_until_when_the_upstreams_own_429_asks_to_wait_comes_down() -> None:
    ours = [(b"ratelimit", b'"requests";r=1')]
    assert came_down(RATES, ours=ours, status=429) == [RATES[0], *ours, VIA]
    own = [*ours, (b"x-ratelimit-reset", b"7")]
    assert came_down(RATES, ours=own, status=429) == [*own, VIA]


def test_our_header_replaces_theirs_and_their_request_id_stays_findable() -> None:
    ours = [(b"x-request-id", b"evt_1"), (b"server-timing", b"gateway;dur=1")]
    theirs = [(b"X-Request-ID", b"req_1"), (b"Server-Timing", b"up;dur=2")]
    assert came_down(theirs, ours=ours) == [theirs[1], (b"x-upstream-request-id", b"req_1"), *ours, VIA]


TOKENS = st.text("abcdefghij-XYZ", min_size=1, max_size=12)


@given(
    st.lists(
        st.tuples(TOKENS | st.sampled_from(["Connection", "Cookie", "TE", "Upgrade"]), st.text("ab, \xe9", max_size=8)), max_size=10
    )
)
@settings(max_examples=cases(short=50, steady=200, deep=1_000), deadline=None)
def test_whatever_goes_up_can_be_sent(headers: list) -> None:
    sent = up(*headers, credentials=KEY)
    build_request_head("POST", "/", "h", sent, content_length=0)
    assert [value for name, value in sent if name.lower() == b"authorization"] == [b"Bearer upstream-key"]
