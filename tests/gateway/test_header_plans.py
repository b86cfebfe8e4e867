"""Plans by names against the rules applied header by header: whatever comes, in any order and however often, both are equal."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refusal_of
from search import cases

from tallygate.dialects.limits import RATE_LIMIT_PREFIXES, RESET_HEADER
from tallygate.gateway import header_plans
from tallygate.gateway.callers.key_traces import gives_away, key_words
from tallygate.gateway.exchange.answer_reader import head_of
from tallygate.gateway.header_ways import Way, downward, upward
from tallygate.gateway.headers import check_form, request_headers, response_headers
from tallygate.gateway.passages import FormPassage, MediaPassage, Passage, ReadablePassage, readable_accept
from tallygate.http1.content_codings import answer_codings
from tallygate.http1.header import headers_of, lines_of, names_of

Headers = Sequence[tuple[bytes, bytes]]

KEY = "tg_acme-prod_" + "k7" * 26
NAMES = [
    *("Connection", "connection", "Keep-Alive", "TE", "Authorization", "x-api-key", "Cookie", "Host", "Content-Length"),
    *("X-Request-Id", "x-request-id", "Accept", "accept", "Content-Type", "Accept-Encoding", "User-Agent", "X-One", "X-Two"),
    *("OpenAI-Organization", "Idempotency-Key", "Prefer", "Range", "Date", "date", "Vary", "vary", "Via", "traceparent"),
    *("X-RateLimit-Reset", "RateLimit", "x-ratelimit-limit-requests", "Server-Timing", "Set-Cookie", "Tallygate-Cost-USD"),
    *("Content-Encoding", "Transfer-Encoding", "Forwarded"),
]
VALUES = [
    *("", "1", "close", "X-One, x-two", "accept, Date", "application/json", "application/json, text/html", "text/html", "gzip, br"),
    *(KEY, f"Bearer {KEY}", "my-own-key-1234", "a my-own-key-1234 b", "100%", "tg", "vary, ratelimit", "\xe9"),
    KEY.replace("_", "%5F"),
]
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=12).map(
    lambda pairs: [(name.encode(), value.encode("latin-1")) for name, value in pairs]
)
OURS = [b"x-request-id", b"server-timing", b"ratelimit", b"x-ratelimit-reset", b"vary", b"x-one"]
MORE = [frozenset(), frozenset({b"x-one", b"accept"}), frozenset({b"prefer", b"openai-organization", b"content-type"})]
SEARCH = settings(max_examples=cases(short=150, steady=800, deep=5_000), deadline=None)


def named_by(headers: Headers) -> set[bytes]:
    values = [value for name, value in headers if name.lower() == b"connection"]
    return {token.strip().lower() for value in values for token in value.split(b",")}


def one_by_one_up(client: Headers, credentials: Headers, passage: Passage, query_key: str) -> Headers:
    dropped = {name.lower() for name, _ in credentials} | passage.replaced | named_by(client)
    keys = [query_key.encode()] if query_key else []
    for name, value in client:
        if upward(name)[1] is Way.KEY:
            keys += key_words(value)
    sent = []
    for name, value in client:
        lower, way = upward(name)
        if lower in dropped or way in (Way.CONNECTION, Way.KEY, Way.ENDS):
            continue
        if way is not Way.PASSES and lower not in passage.more:
            way = passage.decided(way, is_own_key=passage.is_own_key)
            if way is Way.ENDS:
                continue
            if way is Way.ACCEPT:
                value = readable_accept(value)  # noqa: PLW2901
            if way is Way.IDEMPOTENT:
                value = passage.idempotent((name, value))[1]  # noqa: PLW2901
        if not gives_away(value, keys):
            sent.append((name, value))
    return [*sent, *passage.ours, *credentials, (b"x-request-id", b"evt_1"), (b"via", b"1.1 tallygate")]


def one_by_one_down(upstream: Headers, ours: Headers, status: int, now: bytes) -> Headers:
    own = {name.lower() for name, _ in ours}
    replaced = own - {b"server-timing", b"vary"}
    is_limited = any(name.startswith(RATE_LIMIT_PREFIXES) for name in own)
    named = named_by(upstream)
    down, ids, has_date = [], [], False
    for name, value in upstream:
        lower, way = downward(name)
        has_date |= lower == b"date"
        if way in (Way.ENDS, Way.CONNECTION):
            continue
        if lower == b"x-request-id" and lower in replaced:
            ids.append((b"x-upstream-request-id", value))
            continue
        if way is Way.RATE_LIMIT and is_limited and not (status == 429 and lower == RESET_HEADER):
            continue
        if lower not in replaced and lower not in named:
            down.append((name, value))
    return [*down, *ids[:1], *([] if has_date else [(b"date", now)]), *ours, (b"via", b"1.1 tallygate")]


@given(
    HEADERS,
    st.sampled_from([(), ((b"authorization", b"Bearer up"),), ((b"x-one", b"up"),), ((b"X-Api-Key", b"up"), (b"accept", b"up"))]),
    st.sampled_from([Passage, ReadablePassage, MediaPassage, FormPassage]),
    st.booleans(),
    st.sampled_from(MORE),
    st.sampled_from(["", "my-own-key-1234"]),
)
@SEARCH
def test_a_plan_sends_up_what_the_rules_send(
    client: Headers, credentials: Headers, kind: type[Passage], is_own_key: bool, more: frozenset[bytes], query_key: str
) -> None:
    extra = {"content_type": b"multipart/form-data; boundary=b"} if kind is FormPassage else {}
    passage = kind(is_own_key=is_own_key, org="acme", more=more, **extra)
    sent = request_headers(client, credentials=credentials, request_id="evt_1", passage=passage, query_key=query_key)
    assert sent == one_by_one_up(client, credentials, passage, query_key)
    assert names_of(sent) == tuple(name for name, _ in sent)


@given(HEADERS, st.lists(st.sampled_from(OURS), unique=True), st.sampled_from([200, 404, 429, 500]))
@SEARCH
def test_a_plan_sends_down_what_the_rules_send(upstream: Headers, own: list[bytes], status: int) -> None:
    ours = [(name, b"ours") for name in own]
    expected = one_by_one_down(upstream, ours, status, b"Thu, 01 Jan 1970 00:00:00 GMT")
    assert headers_of(response_headers(upstream, ours=lines_of(ours), status=status, now_ms=0)) == expected


@given(HEADERS, st.sampled_from([(), (b"prefer",), (b"accept", b"range")]), st.booleans())
@SEARCH
def test_a_plan_refuses_the_first_header_that_the_rules_refuse(client: Headers, more: tuple[bytes, ...], is_media: bool) -> None:
    def is_refused(name: bytes, value: bytes) -> bool:
        lower, way = upward(name)
        is_unreadable = way is Way.ACCEPT and not is_media and value != b"" and not readable_accept(value)
        return (way is Way.FORM or is_unreadable) and lower not in more

    first = next((name.lower().decode() for name, value in client if is_refused(name, value)), None)
    refusal = refusal_of(lambda: check_form(client, more, is_media=is_media))
    assert (None if refusal is None else refusal.param) == first


@given(HEADERS)
@SEARCH
def test_a_head_is_described_by_its_first_type_and_all_its_codings(upstream: Headers) -> None:
    head = head_of(200, list(upstream), content_length=None, is_http_1_0=False)
    types = [value.decode("latin-1") for name, value in upstream if name.lower() == b"content-type"]
    assert head.content_type == (types[0] if types else "")
    assert head.codings == tuple(
        coding for name, value in upstream if name.lower() == b"content-encoding" for coding in answer_codings(value)
    )


@pytest.mark.parametrize("plan", ["upward_plan", "downward_plan", "form_places"])
def test_plans_are_bounded(plan: str) -> None:
    cached = getattr(header_plans, plan)
    rest = {"upward_plan": (Passage, False, frozenset(), ()), "downward_plan": ((), False), "form_places": ()}[plan]
    for number in range(1_000):
        cached((b"x-%d" % number,), *rest)
    assert cached.cache_info().currsize <= 256
