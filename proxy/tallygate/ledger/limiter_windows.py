"""The limiter's spend windows of an organization, and the credentials whose postings each contains."""

from dataclasses import dataclass
from typing import Final

from tallygate.domain.admission import SpendDemand
from tallygate.domain.bound_limits import Bound, bound_spends, spend_demand
from tallygate.domain.calendar_months import months_around
from tallygate.domain.organization import Organization
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, SpendLimit, WindowKind

_SLACK_MS: Final = 2 * SPEND_BUCKET_MS  # the partly expired bucket, and clocks that differ


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterWindow:
    """A spend window. credential: None for the whole organization."""

    org: str
    credential: str | None
    demand: SpendDemand

    def since_ms(self, now_ms: int) -> int:
        """The earliest time of postings in the window."""
        if self.demand.limit.kind is WindowKind.ROLLING:
            return now_ms - self.demand.limit.window_ms - _SLACK_MS
        return self.demand.periods[0].start_ms


def windows_of(organization: Organization, now_ms: int) -> list[LimiterWindow]:
    """Every spend window that admission may use, under the same keys."""
    bounds = _bounds(organization)
    if not bounds:
        return []
    months = months_around(now_ms, organization.time_zone, organization.billing_day)
    return [LimiterWindow(org=organization.id, credential=bound.credential, demand=spend_demand(bound, months)) for bound in bounds]


def count_windows(organization: Organization) -> int:
    """How many those are."""
    return len(_bounds(organization))


def _bounds(organization: Organization) -> list[Bound[SpendLimit]]:
    found = bound_spends(organization, None)
    for credential in organization.credentials:
        found += [bound for bound in bound_spends(organization, credential) if bound.credential is not None]
    return found
