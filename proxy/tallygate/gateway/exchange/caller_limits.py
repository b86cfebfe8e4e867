"""The limits of a caller at a capability, with their bucket keys."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from tallygate.dialects.limits import LimitHeaders
from tallygate.domain.admission import RateDemand, SpendDemand
from tallygate.domain.bound_limits import bound_rates, bound_spends
from tallygate.domain.calendar_months import months_around
from tallygate.domain.organization import Credential, Organization
from tallygate.domain.rate_limit import FREE_REQUESTS, Quantity, RateLimit, Taken
from tallygate.domain.spend_limit import SpendLimit, WindowKind
from tallygate.gateway.exchange.rate_lines import RateLines, rate_lines
from tallygate.limiter.wire import DemandWords, demand_words

if TYPE_CHECKING:  # a call has the limits of its caller
    from tallygate.gateway.exchange.call import Call

UnitsOf = Callable[["Call"], int]
# Read once: a member of an enum takes a call to look up.
_REQUESTS, _TOKENS, _WHILE_OPEN = Quantity.REQUESTS, Quantity.TOKENS, Taken.WHILE_OPEN
_CALENDAR_MONTH: Final = WindowKind.CALENDAR_MONTH
_NEVER_MS: Final = 2**63
# Units of quantities that only a call states. A worker's gate, which knows the head of a request alone, cannot count them.
_OF_THE_CALL: Final[Mapping[Quantity, UnitsOf]] = {_TOKENS: attrgetter("estimate.rate_tokens")}


class Demands(msgspec.Struct, frozen=True, eq=False):
    """What requests under the same limits demand from one instant to another, in Unix milliseconds; `words` with the rates."""

    from_ms: int
    until_ms: int
    spend: tuple[SpendDemand, ...]
    words: DemandWords


class CallerLimits(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Limits with their keys, in the order in which they are demanded. Equal keys within an organization are the same bucket.

    weight         of the route: how many requests one of its requests counts as. At 0 no spend limit applies, so that free or
                   prepaid requests are served while spending is paused
    gate           the limits that a worker counts by itself
    spend_limit_nano_usd   the least spend limit that refuses; None: none does
    needs_tokens   whether a limit depends on estimated tokens; where none does, no request is tokenized before it is sent
    names          limit name by key, for metrics and refusals
    """

    rate: tuple[tuple[str, RateLimit], ...]
    spend: tuple[tuple[str, SpendLimit], ...]
    weight: int
    gate: tuple[tuple[str, RateLimit], ...]
    spend_limit_nano_usd: int | None
    needs_tokens: bool
    names: dict[str, str]
    _org: str
    _usual: tuple[RateDemand, ...]  # what every request takes of each bucket: no unit of what only a call states
    _stated: dict[int, UnitsOf]  # how the units of those others are found of a call, by their place
    _rolling: tuple[SpendDemand, ...]
    _months_of: tuple[str, int] | None  # time zone and billing day of the organization; None if no limit is a month's
    _kept: list[Demands]  # the last that were asked for
    _lines: dict[LimitHeaders | None, RateLines]  # by the dialect's own headers

    def rate_demands(self, call: "Call | None") -> tuple[RateDemand, ...]:
        """One slot of open requests, the weight of buckets of requests, and what the call asks for of all others.

        call   None before the body is parsed: no unit of what only a call states
        """
        if call is None or not self._stated:
            return self._usual
        demands = list(self._usual)
        for place, units_of in self._stated.items():
            usual = demands[place]
            demands[place] = RateDemand(key=usual.key, limit=usual.limit, units=units_of(call))
        return tuple(demands)

    def spend_demands(self, now_ms: int) -> tuple[SpendDemand, ...]:
        """Every spend limit; those of a month with the organization's months around now."""
        return self.demands_at(now_ms).spend

    def demands_at(self, now_ms: int) -> Demands:
        """What does not depend on the call."""
        kept = self._kept
        if not kept or not kept[0].from_ms <= now_ms < kept[0].until_ms:
            kept[:] = (self._new_demands(now_ms),)
        return kept[0]

    def rate_lines(self, headers: LimitHeaders | None) -> RateLines:
        """The lines of response headers about rates, for a dialect with these of its own."""
        lines = self._lines.get(headers)
        if lines is None:
            lines = self._lines[headers] = rate_lines([limit for _, limit in self.rate], headers)
        return lines

    def _new_demands(self, now_ms: int) -> Demands:
        from_ms, until_ms, spend = 0, _NEVER_MS, self._rolling
        if self._months_of is not None:
            months = months_around(now_ms, *self._months_of)
            from_ms, until_ms = months[1].start_ms, months[1].end_ms
            spend = tuple([replace(each, periods=months) if each.limit.kind is _CALENDAR_MONTH else each for each in spend])
        return Demands(from_ms, until_ms, spend, demand_words(self._org, self._usual, spend, tuple(self._stated)))


def limits_of(organization: Organization, credential: Credential, capability: str, weight: int = 1) -> CallerLimits:
    """The organization's and the credential's limits that apply to requests of that weight to `capability`."""
    rate = [
        (bound.key, bound.limit)
        for bound in bound_rates(organization, credential)
        if bound.limit.capability is None or bound.limit.capability == capability
    ]
    spend = [(bound.key, bound.limit) for bound in bound_spends(organization, credential)] if weight else []
    counted = [(key, limit) for key, limit in rate if limit.quantity not in _OF_THE_CALL]
    slots = [(key, limit) for key, limit in counted if limit.quantity.taken is _WHILE_OPEN]
    return CallerLimits(
        rate=tuple(rate),
        spend=tuple(spend),
        weight=weight,
        gate=tuple(counted if weight else [*slots, (FREE_REQUESTS.name, FREE_REQUESTS)]),
        spend_limit_nano_usd=min([limit.limit_nano_usd for _, limit in spend if not limit.shadow], default=None),
        needs_tokens=bool(spend) or any(limit.quantity is _TOKENS for _, limit in rate),
        names={key: limit.name for key, limit in rate}
        | {key: limit.name for key, limit in spend}
        | {FREE_REQUESTS.name: FREE_REQUESTS.name},
        _org=organization.id,
        _usual=tuple([RateDemand(key=key, limit=limit, units=_usual_units(limit, weight)) for key, limit in rate]),
        _stated={place: _OF_THE_CALL[limit.quantity] for place, (_, limit) in enumerate(rate) if limit.quantity in _OF_THE_CALL},
        _rolling=tuple([SpendDemand(key=key, limit=limit) for key, limit in spend]),
        _months_of=(organization.time_zone, organization.billing_day)
        if any(limit.kind is _CALENDAR_MONTH for _, limit in spend)
        else None,
        _kept=[],
        _lines={},
    )


def _usual_units(limit: RateLimit, weight: int) -> int:
    if limit.quantity in _OF_THE_CALL:
        return 0
    return weight if limit.quantity is _REQUESTS else 1
