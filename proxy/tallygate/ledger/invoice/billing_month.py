"""A calendar month in an organization's billing time zone, as instants."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tallygate.domain.calendar_months import months_around

_MONTH: Final = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingMonth:
    """[start_ms, end_ms): local midnight on the first to local midnight on the next first. The months of a zone leave no gap.

    The same months bound a spend limit by calendar month.
    id   "2026-11"
    """

    id: str
    time_zone: str
    start_ms: int
    end_ms: int

    @classmethod
    def of(cls, text: str, time_zone: str) -> "BillingMonth":
        """The month of "2026-11", 2000 to 2099. Raises ValueError."""
        match = _MONTH.fullmatch(text)
        if match is None:
            raise ValueError("must be a month such as 2026-11")
        middle = datetime(int(match[1]), int(match[2]), 15, tzinfo=UTC)  # in this month wherever on Earth
        _, month, _ = months_around(round(middle.timestamp()) * 1000, time_zone)
        return cls(id=month.id, time_zone=time_zone, start_ms=month.start_ms, end_ms=month.end_ms)
