"""What the console needs of others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tallygate.domain.admission import SpendDemand, WindowState
from tallygate.telemetry.metric import Metric
from tallygate.telemetry.metric_text import Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The shared counters by metric and labels, money in nano-USD; a series that is absent is 0.

    organizations_skipped   of those asked for, being past the bound of one reading
    """

    values: Mapping[Metric, Mapping[Labels, int]]
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


class LedgerState(Protocol):
    """What the ledger's upkeep in this process knows. drift_nano_usd: None until the first audit is done."""

    @property
    def drift_nano_usd(self) -> int | None: ...

    @property
    def malformed(self) -> int: ...

    @property
    def clock_steps(self) -> int: ...
