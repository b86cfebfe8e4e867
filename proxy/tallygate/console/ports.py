"""The console's interfaces to the limiter's store and the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tallygate.domain.admission import LimitQuestion, LimitStates
from tallygate.limiter.backlog import Backlog
from tallygate.telemetry.metric import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The shared counters; a series that is absent is 0.

    organizations_skipped   requested ones beyond the bound of one query
    """

    samples: Samples
    organizations_skipped: int = 0


class SharedTotals(Protocol):
    """The totals, which are the same at every console."""

    async def fetch(self, orgs: Sequence[str]) -> Totals:
        """The totals of these organizations, and those without an organization. Raises LedgerUnavailableError."""


class LimitReading(Protocol):
    """A question about limits of several organizations."""

    async def read(self) -> Sequence[LimitStates]:
        """Read them as they stand now; changes nothing. The store does nothing else meanwhile.

        States that are the same but for their time are the very object of the read before; if all are, so is the sequence.
        """


class Store(Protocol):
    """The limiter's store, as the console uses it. Every call raises StoreError if it does not answer in time."""

    def limit_reading(self, asked: Sequence[LimitQuestion]) -> LimitReading:
        """A question about limits, which is asked when it is read, again and again."""

    async def backlog(self) -> Backlog:
        """Measure what waits for the ledger, beside its bound, and the store's memory."""

    async def check_writes(self) -> None:
        """Write something small. The error's `obstacle` says why that is refused."""

    async def check_commands(self) -> None:
        """Try every command that is used, a small write among them. The error's `obstacle` names those that are refused."""

    async def check(self) -> None:
        """Check that it answers and has its data. Raises LimiterWipedError while the generation is missing."""

    async def sweep(self) -> int:
        """Settle holds whose lease has expired at their checkpoint; return how many."""

    async def close(self) -> None: ...
