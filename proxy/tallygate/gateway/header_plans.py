"""What becomes of the headers of a head, as far as their names decide it: found once for each sequence of names.

A client sends the same names in the same order again and again, and so does an upstream. Values are looked at each time.
"""

from functools import lru_cache
from itertools import compress
from typing import Final

import msgspec

from tallygate.dialects.limits import RATE_LIMIT_PREFIXES, RESET_HEADER
from tallygate.gateway.header_ways import Way, downward, upward
from tallygate.gateway.passages import Passage
from tallygate.http1.header import Names

_PLANS_MAX: Final = 256  # of each kind; a head has at most 64 KB of names
VIA: Final = b"via"
REQUEST_ID: Final = b"x-request-id"
_LISTS: Final = frozenset({b"server-timing", b"vary"})  # ours and theirs stand side by side


class UpwardPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan for a request.

    passes       whether each header goes up, unless its value forbids it
    lower        the lower-case names of those that do
    sent         the names of all that go up: theirs, and ours behind them
    accepts, idempotent  the places of those among them whose values are changed
    connections  the places of all headers that name others which end here; keys: of those with the caller's key
    """

    passes: tuple[bool, ...]
    lower: Names
    sent: Names
    accepts: tuple[int, ...]
    idempotent: tuple[int, ...]
    connections: tuple[int, ...]
    keys: tuple[int, ...]


@lru_cache(_PLANS_MAX)
def upward_plan(names: Names, passage: type[Passage], is_own_key: bool, more: frozenset[bytes], credentials: Names) -> UpwardPlan:  # noqa: FBT001 - a key of the cache
    """The plan for headers with these names. credentials: the names of the upstream's own, which replace the client's."""
    dropped = {name.lower() for name in credentials} | passage.replaced
    ways = [upward(name) for name in names]
    decided = [
        way
        if way in (Way.PASSES, Way.ENDS, Way.CONNECTION, Way.KEY)
        else Way.PASSES
        if lower in more
        else passage.decided(way, is_own_key=is_own_key)
        for lower, way in ways
    ]
    passes = [
        way in (Way.PASSES, Way.ACCEPT, Way.IDEMPOTENT) and lower not in dropped
        for way, (lower, _) in zip(decided, ways, strict=True)
    ]
    sent = [way for way, is_passing in zip(decided, passes, strict=True) if is_passing]
    return UpwardPlan(
        passes=tuple(passes),
        lower=tuple(lower for (lower, _), is_passing in zip(ways, passes, strict=True) if is_passing),
        sent=(*compress(names, passes), *passage.adds, *credentials, REQUEST_ID, VIA),
        accepts=_places(sent, Way.ACCEPT),
        idempotent=_places(sent, Way.IDEMPOTENT),
        connections=_places(decided, Way.CONNECTION),
        keys=_places(decided, Way.KEY),
    )


@lru_cache(_PLANS_MAX)
def form_places(names: Names) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The places of the headers that change an answer's form, and of Accept, whose value may."""
    ways = [upward(name)[1] for name in names]
    return _places(ways, Way.FORM), _places(ways, Way.ACCEPT)


class DownwardPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan for an answer.

    passes       whether each header goes down, unless `Connection` names it
    lower        the lower-case names of those that do
    connections  the places of all headers that name others which end here
    request_id   the place of the upstream's own id, if ours takes its name; -1 for none
    has_date     the upstream states one
    """

    passes: tuple[bool, ...]
    lower: Names
    connections: tuple[int, ...]
    request_id: int
    has_date: bool


@lru_cache(_PLANS_MAX)
def downward_plan(names: Names, ours: Names, is_429: bool) -> DownwardPlan:  # noqa: FBT001 - a key of the cache
    """The plan for headers with these names beside ours. is_429: the upstream itself asks to wait."""
    own = frozenset(name.lower() for name in ours)
    is_limited = any(name.startswith(RATE_LIMIT_PREFIXES) for name in own)
    replaced = own - _LISTS
    ways = [downward(name) for name in names]
    passes: list[bool] = []
    request_ids: list[int] = []
    for place, (lower, way) in enumerate(ways):
        is_passing = lower not in replaced
        if way in (Way.ENDS, Way.CONNECTION):
            is_passing = False
        elif way is Way.DATE:
            is_passing = True
        elif way is Way.REQUEST_ID and not is_passing:
            request_ids.append(place)
        elif way is Way.RATE_LIMIT and is_limited:
            is_passing = is_passing and is_429 and lower == RESET_HEADER
        passes.append(is_passing)
    return DownwardPlan(
        passes=tuple(passes),
        lower=tuple(lower for (lower, _), is_passing in zip(ways, passes, strict=True) if is_passing),
        connections=_places([way for _, way in ways], Way.CONNECTION),
        request_id=request_ids[0] if request_ids else -1,
        has_date=any(way is Way.DATE for _, way in ways),
    )


def _places(ways: list[Way], sought: Way) -> tuple[int, ...]:
    return tuple(place for place, way in enumerate(ways) if way is sought)
