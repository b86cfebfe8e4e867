"""The limits of a caller: what the head of a request tells of them, and what only its call does."""

from typing import Any

import pytest

from tallygate.domain.calendar_months import month_at
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.rate_limit import FREE_REQUESTS, Quantity, RateLimit, Taken
from tallygate.domain.spend_limit import SpendLimit
from tallygate.gateway.exchange.caller_limits import CallerLimits, limits_of
from tallygate.limiter.wire import encode_limits

QUANTITIES = (Quantity.REQUESTS, Quantity.TOKENS, Quantity.OPEN_REQUESTS)
CREDENTIAL = Credential(id="acme-prod", org="acme", key_sha256=bytes(32))


class AnEstimate:
    rate_tokens = 70


class ACall:
    estimate = AnEstimate()


def a_limit(quantity: Quantity) -> RateLimit:
    window_ms = 0 if quantity.taken is Taken.WHILE_OPEN else 60_000
    return RateLimit(name=str(quantity), quantity=quantity, capacity=100, refill_units=100 if window_ms else 0, window_ms=window_ms)


def limits(weight: int = 1) -> CallerLimits:
    plan = Plan(id="p", rate_limits=tuple(a_limit(quantity) for quantity in QUANTITIES))
    return limits_of(Organization(id="acme", plan=plan), CREDENTIAL, "chat", weight)


@pytest.mark.parametrize(
    ("call", "units"),
    [(None, {"requests": 3, "tokens": 0, "open_requests": 1}), (ACall(), {"requests": 3, "tokens": 70, "open_requests": 1})],
)
def test_before_its_body_is_parsed_a_request_takes_nothing_that_only_a_call_states(call: Any, units: dict[str, int]) -> None:
    assert {demand.limit.name: demand.units for demand in limits(weight=3).rate_demands(call)} == units


def test_a_gate_counts_what_the_head_tells() -> None:
    assert [limit.name for _, limit in limits().gate] == ["requests", "open_requests"]
    assert [limit.name for _, limit in limits(weight=0).gate] == ["open_requests", FREE_REQUESTS.name]


def test_the_policy_names_the_unit_of_what_is_no_request() -> None:
    policy = b'ratelimit-policy: "requests";q=100;w=60, "tokens";q=100;qu="model-tokens";w=60\r\n'
    assert limits().rate_lines(None).text.startswith(policy)


def test_the_words_that_are_kept_of_a_caller_are_those_of_its_demands_month_by_month() -> None:
    month = SpendLimit(name="spend_month", limit_nano_usd=10**9, window_ms=0)
    week = SpendLimit(name="spend_7d", limit_nano_usd=10**9)
    of_all = tuple(a_limit(quantity) for quantity in (*QUANTITIES, Quantity.TOKENS))
    plan = Plan(id="p", rate_limits=of_all, spend_limits=(week, month))
    bound = limits_of(Organization(id="acme", plan=plan, time_zone="Europe/Berlin"), CREDENTIAL, "chat", 3)
    call: Any = ACall()
    rates = bound.rate_demands(call)
    ends_ms = month_at(1_767_225_600_000, "Europe/Berlin", 1).end_ms

    before, after = bound.demands_at(ends_ms - 1), bound.demands_at(ends_ms)

    assert before.spend[1].periods[1].end_ms == after.spend[1].periods[1].start_ms == ends_ms
    for demands in (before, after):
        assert demands.words.of(rates) == encode_limits("acme", rates, demands.spend)
    assert bound.demands_at(ends_ms + 1) is after
