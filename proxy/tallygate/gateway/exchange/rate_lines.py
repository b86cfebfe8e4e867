"""Lines of response headers about rate limits, in which a decision fills in the numbers: the dialect's own, and the IETF pair."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from tallygate.dialects.limits import LimitHeaders
from tallygate.domain.admission import Decision, RateState
from tallygate.domain.rate_limit import Quantity, RateLimit, Taken
from tallygate.http1.header import Names

_REQUESTS, _WHILE_OPEN = Quantity.REQUESTS, Taken.WHILE_OPEN  # read once: a member of an enum takes a call to look up
_SHOWN_KEPT_MAX: Final = 1_000  # limits: those of plans come with each of their callers
_Place = tuple[int, bytes]  # of a limit among those of its caller, and its capacity


class _Shown(msgspec.Struct, frozen=True):
    """What never changes of a rate limit: its items of RateLimit, whose numbers are missing, and of RateLimit-Policy.

    Both follow draft-ietf-httpapi-ratelimit-headers. A policy's units are requests if it names no other.
    """

    item: str
    policy: str


class RateLines(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The lines of a caller's rate limits, for the clients of one dialect.

    names    of the headers, in order
    text     their lines, as a format of the numbers
    headers  the dialect's own; own: of each kind that they show, its limits
    rates    of each limit in RateLimit: its place, capacity, window_ms and refill_units, regained evenly over the window
    """

    names: Names
    text: bytes
    headers: LimitHeaders | None
    own: tuple[tuple[_Place, ...], ...]
    rates: tuple[tuple[int, int, int, int], ...]

    def of(self, decision: Decision) -> bytes:
        """The lines after a decision.

        r is what remains, t the seconds until one more unit is there; of a limit that refuses until the refused request fits, so
        that Retry-After is never earlier.
        """
        states, values = decision.rate, list[int | bytes]()
        if self.headers is not None:
            for limits in self.own:
                place, capacity = limits[0] if len(limits) == 1 else _tightest(limits, states)
                state = states[place]
                values += capacity, state.remaining, self.headers.reset(decision.now_ms, state.reset_ms)
        for place, most, window_ms, refill_units in self.rates:
            state = states[place]
            remaining, until_more_ms = state.remaining, state.retry_after_ms
            if not until_more_ms:
                missing = most - remaining - 1
                until_more_ms = state.reset_ms - (missing * window_ms // refill_units if missing > 0 else 0)
            values += remaining, (until_more_ms + 999) // 1000 if until_more_ms > 0 else 0
        return self.text % tuple(values)


def rate_lines(limits: Sequence[RateLimit], headers: LimitHeaders | None) -> RateLines:
    """The lines of these limits, in the order in which they are demanded. headers: the dialect's own."""
    shown = [(place, limit, _shown(limit)) for place, limit in enumerate(limits) if limit.quantity.taken is not _WHILE_OPEN]
    names: list[bytes] = []
    lines: list[bytes] = []
    own: list[tuple[_Place, ...]] = []
    for kind, kind_names in headers.names.items() if headers is not None else ():
        if places := [(place, b"%d" % limit.capacity) for place, limit, _ in shown if limit.quantity.value == kind]:
            own.append(tuple(places))
            names += kind_names
            lines += b"%b: %%b\r\n" % kind_names[0], b"%b: %%d\r\n" % kind_names[1], b"%b: %%b\r\n" % kind_names[2]
    if shown:
        names += b"ratelimit-policy", b"ratelimit"
        policy, items = ", ".join([each.policy for _, _, each in shown]), ", ".join([each.item for _, _, each in shown])
        lines.append(f"ratelimit-policy: {policy}\r\nratelimit: {items}\r\n".encode())
    return RateLines(
        names=tuple(names),
        text=b"".join(lines),
        headers=headers,
        own=tuple(own),
        rates=tuple([(place, limit.capacity, limit.window_ms, limit.refill_units) for place, limit, _ in shown]),
    )


@lru_cache(_SHOWN_KEPT_MAX)
def _shown(limit: RateLimit) -> _Shown:
    name = limit.name.replace("%", "%%")
    unit = "" if limit.quantity is _REQUESTS else f';qu="{limit.quantity.unit}"'
    policy = f'"{name}";q={limit.capacity}{unit};w={-(-limit.window_ms // 1000)}'
    return _Shown(f'"{name}";r=%d;t=%d', policy)


def _tightest(limits: Sequence[_Place], states: Sequence[RateState]) -> _Place:
    """The limit with the fewest units left; if equal, the one that refills last."""
    found, *others = limits
    for other in others:
        state, best = states[other[0]], states[found[0]]
        if state.remaining < best.remaining or (state.remaining == best.remaining and state.reset_ms > best.reset_ms):
            found = other
    return found
