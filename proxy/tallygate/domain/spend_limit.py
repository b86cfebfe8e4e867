"""Bounds on spend over a window."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.rate_limit import LimitScope

SPEND_BUCKET_MS: Final = 300_000  # the window is kept in 5-minute buckets; a partly expired one counts in full


class WindowKind(StrEnum):
    ROLLING = "rolling"
    CALENDAR_MONTH = "calendar_month"  # from the organization's billing day, in its time zone


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLimit:
    """A bound on spend plus open reservations over a window.

    name                 stable label: "spend_7d", "spend_month"
    window_ms            length of a rolling window, a multiple of SPEND_BUCKET_MS; 0 for a calendar month
    warn_at_permille     thresholds as thousandths of the limit, ascending; each warns once per crossing
    shadow               decide and count, do not refuse
    """

    name: str
    limit_nano_usd: int
    kind: WindowKind = WindowKind.ROLLING
    window_ms: int = 7 * 86_400_000
    scope: LimitScope = LimitScope.ORGANIZATION
    warn_at_permille: tuple[int, ...] = (500, 800, 950, 1000)
    shadow: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.limit_nano_usd <= MONEY_MAX_NANO_USD:
            raise ValueError(f"limit must be between 0 and {MONEY_MAX_NANO_USD} nano-USD")
        if self.kind is WindowKind.ROLLING and (self.window_ms < SPEND_BUCKET_MS or self.window_ms % SPEND_BUCKET_MS):
            raise ValueError(f"window must be a multiple of {SPEND_BUCKET_MS} ms")
        if self.kind is WindowKind.CALENDAR_MONTH and self.window_ms:
            raise ValueError("a calendar month has no fixed length: window_ms must be 0")
