"""What a worker decides alone while Redis is away."""

import pytest
from limiter_values import HOUR_MS, MINUTE_MS, Clock, a_rate, a_request, a_spend

from tallygate.domain.rate_limit import Quantity
from tallygate.limiter.local_fallback import FailurePolicy, LocalFallback


@pytest.fixture
def clock() -> Clock:
    return Clock(1000)


def rates_only(name: str, *rates, **changes):
    return a_request(name, 0, spend=(), rate=rates, **changes)


@pytest.mark.parametrize(("workers", "admitted"), [(1, 10), (2, 5), (4, 2), (100, 1)])
def test_a_worker_enforces_its_share_of_a_rate_limit(clock: Clock, workers: int, admitted: int) -> None:
    fallback = LocalFallback(FailurePolicy(workers=workers), clock)
    assert sum(fallback.admit(rates_only(f"r{i}", a_rate())).admitted for i in range(20)) == admitted


def test_the_share_refills_and_tells_the_true_wait(clock: Clock) -> None:
    fallback = LocalFallback(FailurePolicy(workers=2), clock)
    for i in range(5):
        fallback.admit(rates_only(f"r{i}", a_rate()))
    refused = fallback.admit(rates_only("r5", a_rate()))
    assert (refused.refused_by, refused.retry_after_ms) == ("org:requests_limit", 12_000)  # five a minute
    clock.now_ms += 11_999
    assert not fallback.admit(rates_only("r6", a_rate())).admitted
    clock.now_ms += 1
    assert fallback.admit(rates_only("r7", a_rate())).admitted


def test_a_refused_request_takes_nothing(clock: Clock) -> None:
    fallback = LocalFallback(FailurePolicy(), clock)
    wide, narrow = a_rate(1, capacity=3, key="wide"), a_rate(1, capacity=1, key="narrow")
    assert fallback.admit(rates_only("r1", wide, narrow)).admitted
    refused = fallback.admit(rates_only("r2", wide, narrow))
    assert (refused.refused_by, refused.rate[0].remaining) == ("narrow", 2)
    assert fallback.admit(rates_only("r3", wide)).rate[0].remaining == 1


def test_open_requests_go_back_when_the_exchange_ends(clock: Clock) -> None:
    fallback = LocalFallback(FailurePolicy(workers=2), clock)
    slot = a_rate(1, capacity=2, quantity=Quantity.OPEN_REQUESTS)
    first = rates_only("r1", slot)
    assert fallback.admit(first).admitted
    assert not fallback.admit(rates_only("r2", slot)).admitted
    fallback.release(first)
    assert fallback.admit(rates_only("r3", slot)).admitted


def test_spending_is_refused_without_grace(clock: Clock) -> None:
    decision = LocalFallback(FailurePolicy(), clock).admit(a_request("r1", 0))
    assert (decision.admitted, decision.refused_by, decision.retry_after_ms) == (False, "limiter_unavailable", 1000)


def test_grace_is_bounded_per_organization_and_hour(clock: Clock) -> None:
    fallback = LocalFallback(FailurePolicy(grace_nano_usd=250), clock)
    assert [fallback.admit(a_request(f"r{i}", 100)).admitted for i in range(3)] == [True, True, False]
    assert fallback.admit(a_request("r4", 100, org="globex")).admitted
    clock.now_ms += HOUR_MS
    assert fallback.admit(a_request("r5", 250)).admitted


def test_a_request_that_its_rate_refuses_uses_no_grace(clock: Clock) -> None:
    fallback = LocalFallback(FailurePolicy(grace_nano_usd=100), clock)
    empty = a_rate(1, capacity=1)
    assert fallback.admit(rates_only("r1", empty)).admitted
    assert not fallback.admit(a_request("r2", 100, rate=(empty,))).admitted
    clock.now_ms += MINUTE_MS
    assert fallback.admit(a_request("r3", 100, rate=(empty,))).admitted


def test_limits_in_shadow_refuse_nothing(clock: Clock) -> None:
    fallback = LocalFallback(FailurePolicy(), clock)
    request = a_request("r1", 100, spend=(a_spend(shadow=True),), rate=(a_rate(10, shadow=True),))
    assert fallback.admit(request).admitted
    again = fallback.admit(request)
    assert (again.admitted, again.shadow_refused_by) == (True, ("org:requests_limit",))
