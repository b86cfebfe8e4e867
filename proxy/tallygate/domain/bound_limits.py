"""The limits that bind an organization's requests, with the keys of their buckets and windows at the limiter."""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import msgspec

from tallygate.domain.admission import CalendarPeriod, SpendDemand
from tallygate.domain.organization import Credential, Organization
from tallygate.domain.rate_limit import LimitScope, RateLimit
from tallygate.domain.spend_limit import SpendLimit, WindowKind

_ORGANIZATION: Final = LimitScope.ORGANIZATION  # read once: a member of an enum takes a call to look up
_Limit = TypeVar("_Limit", RateLimit, SpendLimit)


class Bound(msgspec.Struct, Generic[_Limit], frozen=True):
    """A limit with its key: within an organization, an equal key means the same bucket or window.

    credential   the Client ID whose requests alone it bounds; None: it bounds all of the organization's
    """

    key: str
    limit: _Limit
    credential: str | None


def per_of(credential: str | None) -> LimitScope:
    """Whose bucket or window it is, by the credential that a limit bounds."""
    return LimitScope.ORGANIZATION if credential is None else LimitScope.CREDENTIAL


def bound_rates(organization: Organization, credential: Credential | None) -> list[Bound[RateLimit]]:
    """The rate limits on requests of a credential, in the order of demand; without one, those of the organization alone."""
    found = _bound(organization.plan.rate_limits, () if credential is None else credential.rate_limits, credential)
    return [Bound(_rate_key(limit, of, is_own=is_own), limit, of) for limit, of, is_own in found]


def bound_spends(organization: Organization, credential: Credential | None) -> list[Bound[SpendLimit]]:
    """The same of spend limits."""
    found = _bound(organization.plan.spend_limits, () if credential is None else credential.spend_limits, credential)
    return [Bound(f"{_scope(of)}:{limit.name}", limit, of) for limit, of, _ in found]


def spend_demand(bound: Bound[SpendLimit], months: tuple[CalendarPeriod, ...]) -> SpendDemand:
    """The demand on a window. months: of the organization, around now."""
    periods = months if bound.limit.kind is WindowKind.CALENDAR_MONTH else ()
    return SpendDemand(key=bound.key, limit=bound.limit, periods=periods)


def _bound(
    of_plan: tuple[_Limit, ...], own: tuple[_Limit, ...], credential: Credential | None
) -> Iterator[tuple[_Limit, str | None, bool]]:
    """Each limit with the credential that it bounds, and whether it is the credential's own."""
    for limit in of_plan:
        if limit.scope is _ORGANIZATION:
            yield limit, None, False
        elif credential is not None:
            yield limit, credential.id, False
    for limit in own:
        yield limit, None if credential is None else credential.id, True


def _scope(credential: str | None) -> str:
    return "org" if credential is None else f"cred:{credential}"


def _rate_key(limit: RateLimit, credential: str | None, *, is_own: bool) -> str:
    kind = "own:" if is_own else ""
    narrowed = f":{limit.capability}" if limit.capability else ""
    return f"{_scope(credential)}:{kind}{limit.name}{narrowed}"
