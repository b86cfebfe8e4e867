"""The life of one exchange: any order of events, at most one end, and nothing free once the upstream has accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.exchange import TERMINAL, TRANSITIONS, Event, Exchange, IllegalTransitionError, State

EVENTS = st.lists(st.sampled_from(Event), max_size=30)


def reachable(start: State) -> set[State]:
    """Every state that some order of events leads to, `start` included."""
    found, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        for (before, _), after in TRANSITIONS.items():
            if before is state and after not in found:
                found.add(after)
                waiting.append(after)
    return found


@given(EVENTS)
def test_any_order_of_events_moves_by_the_table_or_raises_without_moving(events: list[Event]) -> None:
    exchange = Exchange()
    for event in events:
        before = exchange.state
        if before in TERMINAL:
            assert exchange.apply(event) is before
        elif (before, event) in TRANSITIONS:
            assert exchange.apply(event) is TRANSITIONS[before, event] is exchange.state
        else:
            with pytest.raises(IllegalTransitionError):
                exchange.apply(event)
            assert exchange.state is before


@given(EVENTS)
def test_an_exchange_ends_at_most_once(events: list[Event]) -> None:
    exchange = Exchange()
    ends = set()
    for event in events:
        try:
            exchange.apply(event)
        except IllegalTransitionError:
            continue
        if exchange.is_terminal:
            ends.add(exchange.state)
    assert len(ends) <= 1
    assert exchange.is_terminal == bool(ends)


@given(EVENTS, EVENTS)
def test_once_the_upstream_accepted_nothing_is_released(before: list[Event], after: list[Event]) -> None:
    exchange = Exchange()
    for event in [*before, Event.UPSTREAM_ACCEPTED, *after]:
        was = exchange.state
        try:
            exchange.apply(event)
        except IllegalTransitionError:
            continue
        if was in (State.FORWARDED, State.METERED):
            assert exchange.state in (State.FORWARDED, State.METERED, State.SETTLED, State.EXPIRED)


def test_from_forwarded_only_settled_and_expired_are_ends() -> None:
    assert reachable(State.FORWARDED) & TERMINAL == {State.SETTLED, State.EXPIRED}


def test_every_state_can_be_reached_and_every_unfinished_one_can_end() -> None:
    assert reachable(State.RECEIVED) == set(State)
    for state in set(State) - TERMINAL:
        assert reachable(state) & TERMINAL, state


def test_no_row_leaves_a_terminal_state() -> None:
    assert not [row for row in TRANSITIONS if row[0] in TERMINAL]


def test_nothing_is_held_before_admission_so_nothing_can_expire() -> None:
    assert (State.RECEIVED, Event.LEASE_EXPIRED) not in TRANSITIONS


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
@pytest.mark.parametrize("event", [Event.CLIENT_GONE, Event.DEADLINE, Event.SHUTDOWN])
def test_what_comes_from_outside_is_legal_at_any_time(state: State, event: Event) -> None:
    assert (state, event) in TRANSITIONS  # nobody controls when a client leaves: it must never be a bug


@pytest.mark.parametrize("state", [State.ADMITTED, State.FORWARDED, State.METERED])
def test_a_lease_can_expire_while_something_is_held(state: State) -> None:
    assert TRANSITIONS[state, Event.LEASE_EXPIRED] is State.EXPIRED


@pytest.mark.parametrize(
    ("events", "end"),
    [
        ([Event.REFUSED], State.REFUSED),
        ([Event.ADMITTED, Event.UPSTREAM_UNREACHABLE], State.RELEASED),
        ([Event.ADMITTED, Event.CLIENT_GONE], State.RELEASED),
        ([Event.ADMITTED, Event.UPSTREAM_ACCEPTED, Event.UPSTREAM_ENDED, Event.SETTLEMENT_POSTED], State.SETTLED),
        ([Event.ADMITTED, Event.UPSTREAM_ACCEPTED, Event.UPSTREAM_REFUSED, Event.SETTLEMENT_POSTED], State.SETTLED),
        (
            [Event.ADMITTED, Event.UPSTREAM_ACCEPTED, Event.CLIENT_GONE, Event.UPSTREAM_ENDED, Event.SETTLEMENT_POSTED],
            State.SETTLED,
        ),
        ([Event.ADMITTED, Event.UPSTREAM_ACCEPTED, Event.DEADLINE, Event.CLIENT_GONE, Event.SETTLEMENT_POSTED], State.SETTLED),
        ([Event.ADMITTED, Event.UPSTREAM_ACCEPTED, Event.CLIENT_GONE, Event.LEASE_EXPIRED], State.EXPIRED),
    ],
)
def test_lives_end_as_told(events: list[Event], end: State) -> None:
    exchange = Exchange()
    for event in events:
        exchange.apply(event)
    assert exchange.state is end
    assert exchange.is_terminal


def test_an_illegal_event_names_itself_and_the_state() -> None:
    with pytest.raises(IllegalTransitionError, match="SETTLEMENT_POSTED in state received"):
        Exchange().apply(Event.SETTLEMENT_POSTED)
