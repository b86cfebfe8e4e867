"""What the console needs of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tallygate.domain.admission import SpendDemand, WindowState
from tallygate.telemetry.metric import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The shared counters; a series that is absent is 0.

    organizations_skipped   of those asked for, being past the bound of one reading
    """

    samples: Samples
    organizations_skipped: int = 0


class SharedTotals(Protocol):
    """What everything came to, as every console reads it alike."""

    async def fetch(self, orgs: Sequence[str]) -> Totals:
        """The totals of these organizations; what no organization owns is in it anyway. Raises LedgerUnavailableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Entries of the streams that no ledger has taken, and the age of the oldest; 0 if there is none."""

    events: int
    ms: int = 0


class Store(Protocol):
    """The limiter's store, as the console reads it. Every call raises StoreError if it does not answer in time."""

    async def lag(self) -> Lag: ...

    async def windows(self, org: str, spend: tuple[SpendDemand, ...]) -> tuple[WindowState, ...]: ...

    async def check(self) -> None:
        """Return if it answers and has its data. Raises LimiterWipedError while the generation is missing."""

    async def sweep(self) -> int:
        """Settle holds whose lease has run out at their checkpoint; how many."""

    async def close(self) -> None: ...
