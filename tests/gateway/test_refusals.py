import dataclasses

import pytest
from msgspec.structs import replace

from tallygate.dialects.dialect import Dialect
from tallygate.dialects.errors import retry_headers
from tallygate.dialects.registry import dialects
from tallygate.domain.admission import LEDGER_BACKLOG, Decision, RateState, SpendState
from tallygate.domain.errors import ErrorCode
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.rate_limit import LimitScope, Quantity, RateLimit
from tallygate.domain.spend_limit import SpendLimit
from tallygate.gateway.exchange.caller_limits import CallerLimits, limits_of
from tallygate.gateway.exchange.limit_headers import limit_headers
from tallygate.gateway.refusals import limiter_refusal
from tallygate.http1.header import Header, headers_of, names_of

REQUESTS = RateLimit(name="requests_per_1m", quantity=Quantity.REQUESTS, capacity=60, refill_units=60, window_ms=60_000)
TOKENS = RateLimit(name="tokens_per_1m", quantity=Quantity.TOKENS, capacity=1000, refill_units=1000, window_ms=60_000)
OPEN = RateLimit(
    name="open_requests", quantity=Quantity.OPEN_REQUESTS, capacity=2, refill_units=0, window_ms=0, scope=LimitScope.CREDENTIAL
)
SPEND = SpendLimit(name="spend_7d", limit_nano_usd=25 * 10**9, warn_at_permille=(500, 800, 950))
PLAN = Plan(id="p", rate_limits=(REQUESTS, TOKENS, OPEN), spend_limits=(SPEND,))
ACME = Organization(id="acme", name="Acme", plan=PLAN)
KEY = Credential(id="prod", org="acme", key_sha256=b"")
NOW = 1_800_000_000_000

QUIET = dialects().unmetered("/v1/models", {})  # has no headers of its own


def limits() -> CallerLimits:
    return limits_of(ACME, KEY, "chat")


def decision(refused_by: str | None, *, retry: int = 0, spent: int = 0, held: int = 0, resume: int = 0) -> Decision:
    return Decision(
        reservation_id="r",
        admitted=refused_by is None,
        refused_by=refused_by,
        shadow_refused_by=(),
        retry_after_ms=retry,
        held_nano_usd=0,
        now_ms=NOW,
        rate=tuple(RateState(remaining=limit.capacity - 1, reset_ms=12) for _, limit in limits().rate),
        spend=(
            SpendState(
                spent_nano_usd=spent,
                held_nano_usd=held,
                limit_nano_usd=SPEND.limit_nano_usd,
                resume_at_ms=resume,
            ),
        ),
    )


def headers_shown(decided: Decision, bound: CallerLimits, dialect: Dialect) -> list[Header]:
    names, text = limit_headers(decided, bound, dialect)
    headers = headers_of(text)
    assert names == names_of(headers)
    return headers


def test_every_limit_has_its_own_bucket_key() -> None:
    narrowed = RateLimit(
        name="requests_per_1m", quantity=Quantity.REQUESTS, capacity=1, refill_units=1, window_ms=60_000, capability="search"
    )
    plan = Plan(id="p", rate_limits=(REQUESTS, OPEN, narrowed), spend_limits=(SPEND,))
    own = Credential(id="prod", org="acme", key_sha256=b"", rate_limits=(OPEN,), spend_limits=(SPEND,))
    organization = Organization(id="acme", name="Acme", plan=plan)

    assert [key for key, _ in limits_of(organization, own, "chat").rate] == [
        "org:requests_per_1m",
        "cred:prod:open_requests",
        "cred:prod:own:open_requests",
    ]
    searching = limits_of(organization, own, "search")
    assert "org:requests_per_1m:search" in [key for key, _ in searching.rate]
    assert [key for key, _ in searching.spend] == ["org:spend_7d", "cred:prod:spend_7d"]


def test_a_short_rate_refusal_asks_sdks_to_retry_at_the_true_time() -> None:
    refusal = limiter_refusal(decision("org:requests_per_1m", retry=1_234), limits(), hold_nano_usd=0)

    assert (refusal.status, refusal.code, refusal.should_retry) == (429, ErrorCode.RATE_LIMIT_EXCEEDED, True)
    assert refusal.details["limit"] == "requests_per_1m"
    assert retry_headers(refusal) == [(b"retry-after", b"2"), (b"retry-after-ms", b"1234"), (b"x-should-retry", b"true")]


@pytest.mark.parametrize(
    ("retry", "said"),
    [
        (1, "1 second"),
        (1_001, "2 seconds"),
        (59_999, "1 minute"),
        (60_000, "1 minute"),
        (89_001, "1 minute 30 seconds"),
        (3_599_001, "1 hour"),
        (7_260_000, "2 hours 1 minute"),
        (86_400_000, "1 day"),
        (2_667_549_000, "30 days 21 hours"),  # what a clock 31 days ahead led to
    ],
)
def test_how_long_to_wait_is_said_in_whole_units(retry: int, said: str) -> None:
    refusal = limiter_refusal(decision("org:tokens_per_1m", retry=retry), limits(), hold_nano_usd=0)

    assert refusal.message == f"Rate limit reached: 1000 tokens per minute. Try again in {said}."


def test_a_long_rate_refusal_does_not_make_sdks_wait() -> None:
    assert limiter_refusal(decision("org:tokens_per_1m", retry=600_000), limits(), hold_nano_usd=0).should_retry is False


def test_a_spend_refusal_says_what_is_spent_and_when_access_resumes() -> None:
    resume = NOW + 86_400_000
    refusal = limiter_refusal(
        decision("org:spend_7d", spent=24 * 10**9, held=10**9, resume=resume), limits(), hold_nano_usd=2 * 10**9
    )

    assert refusal.code is ErrorCode.SPEND_LIMIT_EXCEEDED
    assert refusal.should_retry is False
    assert refusal.retry_after_ms == 86_400_000
    assert refusal.details == {
        "limit": "spend_7d",
        "spent_usd": "24.00",
        "held_usd": "1.00",
        "limit_usd": "25.00",
        "needed_usd": "2.00",
        "available_usd": "0.00",
        "resumes_at": "2027-01-16T08:00:00Z",
    }


def test_a_request_above_the_limit_itself_has_nothing_to_wait_for() -> None:
    refusal = limiter_refusal(decision("org:spend_7d", resume=-1), limits(), hold_nano_usd=26 * 10**9)

    assert (refusal.retry_after_ms, refusal.should_retry) == (None, False)
    assert "lower its maximum output" in refusal.message


def test_only_open_requests_in_the_way_is_a_short_wait() -> None:
    refusal = limiter_refusal(
        decision("org:spend_7d", retry=1_000, spent=10**9, held=24 * 10**9, resume=-1), limits(), hold_nano_usd=10**9
    )

    assert (refusal.retry_after_ms, refusal.should_retry, refusal.details["waits_for"]) == (1_000, True, "open_requests")


@pytest.mark.parametrize(("key", "quantity"), [("org:tokens_per_1m", "tokens"), ("cred:prod:open_requests", "open_requests")])
def test_what_only_waits_for_open_requests_says_so(key: str, quantity: str) -> None:
    found = decision(key, retry=1_000)
    states = tuple(
        replace(state, retry_after_ms=1_000, waits_for_others=True) if bound == key else state
        for (bound, _), state in zip(limits().rate, found.rate, strict=True)
    )
    refusal = limiter_refusal(replace(found, rate=states), limits(), hold_nano_usd=0)

    assert (refusal.code, refusal.retry_after_ms, refusal.should_retry) == (ErrorCode.RATE_LIMIT_EXCEEDED, 1_000, True)
    assert refusal.details == {"limit": key.rpartition(":")[2], "quantity": quantity, "waits_for": "open_requests"}
    assert "equests" in refusal.message


def test_a_full_event_stream_is_not_the_clients_fault() -> None:
    assert limiter_refusal(decision(LEDGER_BACKLOG), limits(), hold_nano_usd=0).status == 503


def test_headers_name_every_bucket_and_warn_near_the_spend_limit() -> None:
    headers = dict(headers_shown(decision(None, spent=21 * 10**9), limits(), QUIET))

    assert headers[b"ratelimit-policy"] == b'"requests_per_1m";q=60;w=60, "tokens_per_1m";q=1000;qu="model-tokens";w=60'
    assert headers[b"ratelimit"] == b'"requests_per_1m";r=59;t=1, "tokens_per_1m";r=999;t=1'
    assert headers[b"tallygate-spend-warning"] == b'"spend_7d";crossed=0.8;used=0.84'
    assert headers[b"tallygate-spend-used-usd"] == b"21.00"


@pytest.mark.parametrize(
    ("spent", "named"),
    [
        ((21 * 10**9, 8 * 10**9), b'"spend_7d";crossed=0.8;used=0.84'),
        ((21 * 10**9, 9 * 10**9), b'"spend_day";crossed=0.9;used=0.9'),
        ((12 * 10**9, 7_500_000_000), b'"spend_day";crossed=0.7;used=0.75'),
        ((12 * 10**9, 9 * 10**9), b'"spend_day";crossed=0.9;used=0.9'),  # the other has crossed nothing
    ],
)
def test_of_several_spend_limits_the_fullest_is_warned_of(spent: tuple[int, int], named: bytes) -> None:
    daily = SpendLimit(name="spend_day", limit_nano_usd=10 * 10**9, window_ms=86_400_000, warn_at_permille=(700, 900))
    bound = limits_of(dataclasses.replace(ACME, plan=dataclasses.replace(PLAN, spend_limits=(SPEND, daily))), KEY, "chat")
    decided = decision(None)
    states = [
        replace(decided.spend[0], spent_nano_usd=nano_usd, limit_nano_usd=limit.limit_nano_usd)
        for nano_usd, (_, limit) in zip(spent, bound.spend, strict=True)
    ]
    headers = dict(headers_shown(replace(decided, spend=tuple(states)), bound, QUIET))

    assert headers[b"tallygate-spend-warning"] == named


@pytest.mark.parametrize(
    ("remaining", "reset_ms", "retry_after_ms", "said"),
    [
        (0, 57_350, 27_350, b"r=0;t=28"),  # refused: as Retry-After says, not a whole refill of one unit
        (0, 57_350, 0, b"r=0;t=28"),  # refused by another limit: the same bucket, the same time
        (0, 90_000, 0, b"r=0;t=60"),  # overdrawn by one unit
        (0, 90_000, 75_000, b"r=0;t=75"),  # refused for more than one unit
        (1, 30_000, 0, b"r=1;t=30"),
        (2, 0, 0, b"r=2;t=0"),
    ],
)
def test_the_ietf_header_tells_when_the_next_unit_is_there(remaining: int, reset_ms: int, retry_after_ms: int, said: bytes) -> None:
    slow = RateLimit(name="two", quantity=Quantity.REQUESTS, capacity=2, refill_units=2, window_ms=60_000)
    organization = Organization(id="acme", name="Acme", plan=Plan(id="p", rate_limits=(slow,)))
    state = RateState(remaining=remaining, reset_ms=reset_ms, retry_after_ms=retry_after_ms)

    headers = dict(headers_shown(replace(decision(None), rate=(state,)), limits_of(organization, KEY, "chat"), QUIET))

    assert headers[b"ratelimit"] == b'"two";' + said


def test_a_small_burst_refills_at_its_own_rate() -> None:
    burst = RateLimit(name="burst", quantity=Quantity.REQUESTS, capacity=10, refill_units=60, window_ms=60_000)
    organization = Organization(id="acme", name="Acme", plan=Plan(id="p", rate_limits=(burst,)))
    state = RateState(remaining=0, reset_ms=10_000, retry_after_ms=0)

    headers = dict(headers_shown(replace(decision(None), rate=(state,)), limits_of(organization, KEY, "chat"), QUIET))

    assert headers[b"ratelimit"] == b'"burst";r=0;t=1'


def test_far_from_the_limit_only_what_is_left_is_said_of_spend() -> None:
    headers = headers_shown(decision(None, spent=10**9), limits(), QUIET)
    assert [header for header in headers if header[0].startswith(b"tallygate-spend")] == [
        (b"tallygate-spend-remaining-usd", b"24.00")
    ]


def test_what_is_left_is_the_least_that_an_enforced_limit_leaves() -> None:
    plan = Plan(
        id="p",
        spend_limits=(
            SpendLimit(name="wide", limit_nano_usd=90 * 10**9),
            SpendLimit(name="tight", limit_nano_usd=20 * 10**9),
            SpendLimit(name="shadow", limit_nano_usd=10**9, shadow=True),
        ),
    )
    bound = limits_of(Organization(id="acme", name="Acme", plan=plan), KEY, "chat")
    states = tuple(
        SpendState(spent_nano_usd=7 * 10**9, held_nano_usd=10**9, limit_nano_usd=limit.limit_nano_usd, resume_at_ms=0)
        for _, limit in bound.spend
    )
    headers = dict(headers_shown(replace(decision(None), rate=(), spend=states), bound, QUIET))
    assert headers[b"tallygate-spend-remaining-usd"] == b"12.00"

    overdrawn = tuple(replace(state, spent_nano_usd=30 * 10**9) for state in states)
    headers = dict(headers_shown(replace(decision(None), rate=(), spend=overdrawn), bound, QUIET))
    assert headers[b"tallygate-spend-remaining-usd"] == b"0.00"
