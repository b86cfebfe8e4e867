"""Bounds on spend over a window."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from tallygate.domain.declared import Choice, Duration, Flag, Thousandths, Usd, declared_fields
from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.rate_limit import SCOPES, WINDOW_MAX_MS, LimitScope

SPEND_BUCKET_MS: Final = 300_000  # windows consist of 5-minute buckets; a partly expired one counts in full


class WindowKind(StrEnum):
    ROLLING = "rolling"
    CALENDAR_MONTH = "calendar_month"  # from the organization's billing day, in its time zone


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLimit:
    """A bound on spend plus open reservations over a window. Its fields are declared once, here.

    name     stable label: "spend_7d", "spend_month"
    kind     of its window; a window of length 0 is a calendar month
    """

    name: str
    limit_nano_usd: Annotated[int, Usd("The most that may be spent in a window.", key="usd", most=MONEY_MAX_NANO_USD)]
    window_ms: Annotated[
        int,
        Duration(
            "A rolling length such as 7d, or month, from the organization's billing day on.",
            key="window",
            least=SPEND_BUCKET_MS,
            most=WINDOW_MAX_MS,
            step=SPEND_BUCKET_MS,
            zero="month",
        ),
    ] = 7 * 86_400_000
    warn_at_permille: Annotated[
        tuple[int, ...], Thousandths("Fractions of the limit, ascending; each warns once per crossing.", key="warn_at", items_max=8)
    ] = (500, 800, 950, 1000)
    scope: Annotated[
        LimitScope, Choice("Whose spend it bounds: that of all, or that of each credential.", key="per", words=SCOPES)
    ] = LimitScope.ORGANIZATION
    shadow: Annotated[bool, Flag("Decide and count, and do not refuse.")] = False
    kind: WindowKind = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", WindowKind.ROLLING if self.window_ms else WindowKind.CALENDAR_MONTH)
        if not 0 <= self.limit_nano_usd <= MONEY_MAX_NANO_USD:
            raise ValueError(f"limit must be between 0 and {MONEY_MAX_NANO_USD} nano-USD")
        if self.window_ms and (self.window_ms < SPEND_BUCKET_MS or self.window_ms % SPEND_BUCKET_MS):
            raise ValueError(f"window must be a multiple of {SPEND_BUCKET_MS} ms")

    def __hash__(self) -> int:
        """Of what tells limits apart: each request looks its limits up."""
        return hash((self.name, self.limit_nano_usd))

    def is_within(self, other: "SpendLimit") -> bool:
        """Return whether it allows nothing that the other refuses, over the same window and scope."""
        is_same = (self.name, self.window_ms, self.scope) == (other.name, other.window_ms, other.scope)
        return is_same and self.limit_nano_usd <= other.limit_nano_usd and (other.shadow or not self.shadow)


SPEND_LIMIT_FIELDS: Final = declared_fields(SpendLimit)
