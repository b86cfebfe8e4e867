"""The limits of a caller: what the head of a request tells of them, and what only its call does."""

from typing import Any

import pytest

from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.rate_limit import FREE_REQUESTS, Quantity, RateLimit, Taken
from tallygate.gateway.exchange.caller_limits import CallerLimits, limits_of

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
    assert limits().policy == b'"requests";q=100;w=60, "tokens";q=100;qu="model-tokens";w=60'
