"""The local side of rate limits: it bounds what never reaches the limiter, and refuses nobody whom the limiter would admit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limiter_values import DAY_MS, HOUR_MS, MINUTE_MS, START_MS, Clock, a_rate, a_request
from msgspec.structs import replace

from tallygate.domain.admission import Account, RateDemand
from tallygate.domain.rate_limit import Quantity, RateLimit
from tallygate.limiter import local_gate
from tallygate.limiter.local_gate import TOLERANCE_MS, Closed, Entry, LocalGate
from tallygate.limiter.reference import ReferenceLimiter


def limits(*demands: RateDemand) -> tuple[tuple[str, RateLimit], ...]:
    return tuple((demand.key, demand.limit) for demand in demands)


def test_requests_that_never_reach_the_limiter_run_into_the_rate_limit() -> None:
    clock = Clock()
    gate, minute = LocalGate(clock), limits(a_rate(capacity=60))
    let_in = 0
    while isinstance(gate.enter("acme", minute), Entry):
        let_in += 1
    assert let_in == 62  # the limit, and what is regained in the tolerance

    assert gate.enter("acme", minute) == Closed("org:requests_limit", 3000)  # when the limiter has one again, were these admitted
    assert isinstance(gate.enter("globex", minute), Entry)
    clock.now_ms += 999
    assert gate.enter("acme", minute) == Closed("org:requests_limit", 2001)
    clock.now_ms += 1
    assert isinstance(gate.enter("acme", minute), Entry)


def test_a_clock_that_was_ahead_locks_nobody_out() -> None:
    clock = Clock()
    gate, minute = LocalGate(clock), limits(a_rate(capacity=1))
    clock.now_ms += 31 * DAY_MS
    gate.enter("acme", minute)
    gate.enter("acme", minute)
    clock.now_ms -= 31 * DAY_MS
    assert gate.enter("acme", minute) == Closed("org:requests_limit", 2 * MINUTE_MS)
    clock.now_ms += MINUTE_MS
    assert isinstance(gate.enter("acme", minute), Entry)


def test_a_limit_that_has_changed_begins_full() -> None:
    """The limiter knows what it was while this worker saw nothing of it, or saw it lower for a moment."""
    gate, low, high = LocalGate(Clock()), limits(a_rate(capacity=1)), limits(a_rate(capacity=100))
    for _ in range(2):
        assert isinstance(gate.enter("acme", low), Entry)
    assert isinstance(gate.enter("acme", low), Closed)
    assert isinstance(gate.enter("acme", high), Entry)


def test_a_bucket_that_is_dropped_for_another_of_the_same_request_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_gate, "BUCKETS_MAX", 1)
    gate = LocalGate(Clock())
    assert isinstance(gate.enter("acme", limits(a_rate(key="minute", capacity=1))), Entry)
    both = limits(a_rate(key="minute", capacity=1), a_rate(key="hour", capacity=1, window_ms=HOUR_MS))
    assert isinstance(gate.enter("acme", both), Entry)


def test_a_request_takes_its_weight_and_gives_it_back() -> None:
    gate, hour = LocalGate(Clock()), limits(a_rate(capacity=5, window_ms=HOUR_MS))
    first = gate.enter("acme", hour, 3)
    assert isinstance(first, Entry)
    assert isinstance(gate.enter("acme", hour, 3), Entry)  # the limit, and a unit more
    assert isinstance(gate.enter("acme", hour, 1), Closed)
    gate.refund(first)
    assert isinstance(gate.enter("acme", hour, 3), Entry)
    assert isinstance(gate.enter("globex", hour, 1_000), Entry)  # a full bucket will do


def test_what_the_limiter_refused_has_taken_nothing() -> None:
    gate, hour = LocalGate(Clock()), limits(a_rate(capacity=1, window_ms=HOUR_MS))
    for _ in range(100):
        entry = gate.enter("acme", hour)
        assert isinstance(entry, Entry)
        gate.refund(entry)
        gate.leave(entry)
    assert isinstance(gate.enter("acme", hour), Entry)
    assert isinstance(gate.enter("acme", hour), Entry)
    assert isinstance(gate.enter("acme", hour), Closed)


def test_slots_are_taken_from_the_head_of_a_request_to_its_end() -> None:
    gate, slots = LocalGate(Clock()), limits(a_rate(capacity=2, quantity=Quantity.OPEN_REQUESTS))
    first = gate.enter("acme", slots)
    assert isinstance(first, Entry)
    assert isinstance(gate.enter("acme", slots), Entry)
    assert gate.enter("acme", slots) == Closed("org:open_requests_limit", 1000)
    gate.leave(first)
    assert isinstance(gate.enter("acme", slots), Entry)


def test_the_longest_wait_is_named_and_a_refused_one_takes_nothing() -> None:
    gate = LocalGate(Clock())
    short, long = a_rate(capacity=1, key="short"), a_rate(capacity=1, key="long", window_ms=HOUR_MS)
    other = a_rate(capacity=1, key="other")
    for _ in range(2):
        gate.enter("acme", limits(short, long))
    for _ in range(9):
        assert gate.enter("acme", limits(short, other, long)) == Closed("long", 2 * HOUR_MS)
    assert isinstance(gate.enter("acme", limits(other)), Entry)


def test_shadow_and_token_limits_are_not_for_the_gate() -> None:
    gate = LocalGate(Clock())
    others = limits(a_rate(capacity=1, shadow=True), a_rate(capacity=1, quantity=Quantity.TOKENS))
    assert all(isinstance(gate.enter("acme", others), Entry) for _ in range(10))


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_gate, "BUCKETS_MAX", 3)
    gate = LocalGate(Clock())
    for number in range(10):
        gate.enter(f"org{number}", limits(a_rate(capacity=1)))
    assert len(gate._buckets) == 3


# A step of a history: which of two workers, milliseconds since the last, by how much its clock differs now, and what is done.
STEP = st.tuples(
    st.integers(0, 1),
    st.one_of(st.integers(0, 50), st.integers(0, 3_000), st.integers(0, 2 * MINUTE_MS)),
    st.integers(-TOLERANCE_MS // 2, TOLERANCE_MS // 2),
    st.sampled_from(["ask", "ask", "ask", "end"]),
)
RATES = st.sampled_from(
    [
        (a_rate(capacity=5),),
        (a_rate(capacity=1, refill=7, window_ms=MINUTE_MS),),
        (a_rate(capacity=3), a_rate(capacity=20, refill=33, window_ms=HOUR_MS, key="org:hour")),
        (a_rate(capacity=2, key="org:own:chat"), a_rate(capacity=2, quantity=Quantity.OPEN_REQUESTS)),
        (a_rate(capacity=2, shadow=True), a_rate(capacity=4), a_rate(50, capacity=120, quantity=Quantity.TOKENS)),
    ]
)


@given(rates=RATES, steps=st.lists(STEP, max_size=80), weight=st.integers(1, 3))
async def test_whom_the_limiter_would_admit_the_gate_lets_in(
    rates: tuple[RateDemand, ...], steps: list[tuple[int, int, int, str]], weight: int
) -> None:
    """Several workers, clocks that differ by up to half the tolerance either way, other limits that refuse."""
    rates = tuple(replace(rate, units=weight) if rate.limit.quantity is Quantity.REQUESTS else rate for rate in rates)
    now_ms = START_MS
    skew_ms = 0
    limiter = ReferenceLimiter(lambda: now_ms)
    local = Clock()
    gates = [LocalGate(local), LocalGate(local)]
    open_now: list[tuple[LocalGate, Entry, int]] = []
    for number, (worker, passed_ms, skew_ms, what) in enumerate(steps):
        now_ms += passed_ms
        local.now_ms = now_ms + skew_ms
        asked = a_request(f"r{number}", 0, spend=(), rate=rates, lease_ms=10 * HOUR_MS)
        if what == "end" and open_now:
            gate, entry, began = open_now.pop(0)
            gate.leave(entry)
            await limiter.settle(
                Account(admission=a_request(f"r{began}", 0, spend=(), rate=rates, lease_ms=10 * HOUR_MS), cost_nano_usd=0)
            )
            continue
        found = gates[worker].enter("acme", limits(*rates), weight)
        decision = await limiter.admit(asked)
        if isinstance(found, Closed):
            assert not decision.admitted
        elif decision.admitted:
            open_now.append((gates[worker], found, number))
        else:
            gates[worker].refund(found)
            gates[worker].leave(found)


def test_a_bucket_that_was_dropped_is_full_for_a_caller_that_had_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_gate, "BUCKETS_MAX", 1)
    gate, one = LocalGate(Clock()), limits(a_rate(capacity=1, window_ms=HOUR_MS))
    while isinstance(gate.enter("acme", one), Entry):
        pass
    gate.enter("globex", one)
    assert isinstance(gate.enter("acme", one), Entry)


def test_callers_are_bounded_and_their_buckets_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_gate, "CALLERS_MAX", 3)
    gate, one = LocalGate(Clock()), limits(a_rate(capacity=1, window_ms=HOUR_MS))
    while isinstance(gate.enter("acme", one), Entry):
        pass
    for number in range(9):
        gate.enter(f"org{number}", one)
        assert len(gate._callers) <= 3
    assert isinstance(gate.enter("acme", one), Closed)
