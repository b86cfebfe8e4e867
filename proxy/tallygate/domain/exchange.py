"""The life of one exchange, as a table. It never sees body bytes, sockets or clocks.

received → admitted → forwarded → metered → settled; or released, expired, refused. Every order of events ends in exactly
one terminal state. Once the upstream accepted the request nothing leads to `released`: hanging up must not make tokens free.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final


class State(StrEnum):
    RECEIVED = "received"
    ADMITTED = "admitted"
    FORWARDED = "forwarded"
    METERED = "metered"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"
    REFUSED = "refused"


class Event(Enum):
    REFUSED = "refused"  # by authentication, request checks or the limiter
    ADMITTED = "admitted"  # the limiter holds the worst case
    UPSTREAM_ACCEPTED = "upstream_accepted"  # the whole request was handed to the upstream's socket
    UPSTREAM_UNREACHABLE = "upstream_unreachable"  # nothing was accepted, so nothing is owed
    UPSTREAM_REFUSED = "upstream_refused"  # an error status before any output
    UPSTREAM_ENDED = "upstream_ended"  # whole or truncated: what there is to meter has been metered
    CLIENT_GONE = "client_gone"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    SETTLEMENT_POSTED = "settlement_posted"
    LEASE_EXPIRED = "lease_expired"


TERMINAL: Final = frozenset({State.SETTLED, State.RELEASED, State.EXPIRED, State.REFUSED})

TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (State.RECEIVED, Event.REFUSED): State.REFUSED,
    (State.RECEIVED, Event.CLIENT_GONE): State.REFUSED,
    (State.RECEIVED, Event.DEADLINE): State.REFUSED,
    (State.RECEIVED, Event.SHUTDOWN): State.REFUSED,
    (State.RECEIVED, Event.ADMITTED): State.ADMITTED,
    (State.ADMITTED, Event.UPSTREAM_UNREACHABLE): State.RELEASED,
    (State.ADMITTED, Event.CLIENT_GONE): State.RELEASED,  # not forwarded yet: nothing is owed
    (State.ADMITTED, Event.DEADLINE): State.RELEASED,
    (State.ADMITTED, Event.SHUTDOWN): State.RELEASED,
    (State.ADMITTED, Event.UPSTREAM_ACCEPTED): State.FORWARDED,
    (State.ADMITTED, Event.LEASE_EXPIRED): State.EXPIRED,
    (State.FORWARDED, Event.CLIENT_GONE): State.FORWARDED,  # the provider still bills: keep metering
    (State.FORWARDED, Event.DEADLINE): State.METERED,
    (State.FORWARDED, Event.SHUTDOWN): State.METERED,
    (State.FORWARDED, Event.UPSTREAM_REFUSED): State.METERED,  # zero tokens, settled with its status
    (State.FORWARDED, Event.UPSTREAM_ENDED): State.METERED,
    (State.FORWARDED, Event.LEASE_EXPIRED): State.EXPIRED,
    (State.METERED, Event.CLIENT_GONE): State.METERED,
    (State.METERED, Event.DEADLINE): State.METERED,
    (State.METERED, Event.SHUTDOWN): State.METERED,
    (State.METERED, Event.SETTLEMENT_POSTED): State.SETTLED,
    (State.METERED, Event.LEASE_EXPIRED): State.EXPIRED,
}


class IllegalTransitionError(RuntimeError):
    """An event that the state has no row for: a bug in the caller, never an input error."""


class Exchange:
    """One exchange's state. `apply` moves it; a terminal state ignores everything but a bug."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.RECEIVED

    def apply(self, event: Event) -> State:
        """Move on. Raises IllegalTransitionError for a pair that is not in the table; terminal states stay as they are."""
        if self.state in TERMINAL:
            return self.state
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise IllegalTransitionError(f"{event.name} in state {self.state}")
        self.state = following
        return following

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL
