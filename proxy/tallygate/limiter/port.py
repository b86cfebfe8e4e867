"""What the gateway needs of the limiter. Implementations: Redis (`redis_limiter.py`) and the reference model (`reference.py`)."""

from collections.abc import Sequence
from typing import Protocol

from tallygate.domain.admission import (
    Account,
    AdmissionRequest,
    Decision,
    Settlement,
    SpendDemand,
    WindowReading,
)


class ReservationEndedError(RuntimeError):
    """admit was called for a reservation that has been settled, released or expired: a bug in the caller, never a second hold."""


class Limiter(Protocol):
    """Every call is idempotent on the reservation id. All raise StoreError if the store does not answer in time."""

    async def admit(self, request: AdmissionRequest) -> Decision:
        """Take every demand and hold the worst case, or change nothing. Raises LimiterWipedError while spend is unknown.

        A refused reservation leaves no trace, so its id is decided afresh; one that is held gets its first answer again.
        """

    async def look(self, request: AdmissionRequest) -> Decision:
        """As `admit`, but whoever would be admitted takes and holds nothing; a refusal marks and tells a pause as any other.

        For requests that would be dear to read before they are refused.
        """

    async def checkpoint(self, accounts: Sequence[Account]) -> None:
        """Renew the leases of open exchanges and note the cost so far, in one round trip."""

    async def settle(self, account: Account) -> Settlement:
        """Replace the hold with the cost and append the usage event, in one step.

        The cost may exceed the hold, since the provider has billed it: Settlement.over_nano_usd is the excess.
        After expiry, posts the difference to the checkpoint. Where nothing is owed, the hold is dropped and units of tokens return;
        those of requests stay taken.
        """

    async def withdraw(self, admission: AdmissionRequest) -> None:
        """Take back an admission that answered too late to be served: hold and units go back, nothing is charged or told.

        It counts as ended from then on, also if the store has yet to see it: an admission that comes after its withdrawal takes no
        hold. One whose lease is over and was charged is released, with its event as it was admitted. Once settled or released,
        nothing changes.
        """

    async def read_windows(self, org: str, spend: Sequence[SpendDemand]) -> tuple[WindowReading, ...]:
        """Spend, holds and pause of the given windows as they stand now; changes nothing."""
