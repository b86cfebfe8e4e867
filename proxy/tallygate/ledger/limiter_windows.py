"""The limiter's spend windows of an organization, and the credentials whose postings each contains."""

from dataclasses import dataclass
from typing import Final

from tallygate.domain.admission import SpendDemand
from tallygate.domain.calendar_months import months_around
from tallygate.domain.organization import Organization
from tallygate.domain.rate_limit import LimitScope
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
    months = months_around(now_ms, organization.time_zone, organization.billing_day)

    def window(credential: str | None, limit: SpendLimit) -> LimiterWindow:
        key = f"org:{limit.name}" if credential is None else f"cred:{credential}:{limit.name}"
        periods = months if limit.kind is WindowKind.CALENDAR_MONTH else ()
        return LimiterWindow(org=organization.id, credential=credential, demand=SpendDemand(key=key, limit=limit, periods=periods))

    limits = organization.plan.spend_limits
    found = [window(None, limit) for limit in limits if limit.scope is not LimitScope.CREDENTIAL]
    for credential in organization.credentials:
        own = (*(limit for limit in limits if limit.scope is LimitScope.CREDENTIAL), *credential.spend_limits)
        found += [window(credential.id, limit) for limit in own]
    return found
