"""The limiter as the gateway needs it. Implementations: Redis (`redis_limiter.py`) and the reference model (`reference.py`)."""

from collections.abc import Sequence
from typing import Protocol

from tallygate.domain.admission import (
    Account,
    AdmissionRequest,
    Decision,
    LimitStates,
    RateDemand,
    Settlement,
    SpendDemand,
    WindowState,
)
from tallygate.limiter.wire import DemandWords


class ReservationEndedError(RuntimeError):
    """admit was called for a reservation that has been settled, released or expired: a bug in the caller, never a second hold."""


class Limiter(Protocol):
    """Every call is idempotent on the reservation id. All raise StoreError if the store does not answer in time."""

    async def admit(self, request: AdmissionRequest, words: DemandWords | None = None) -> Decision:
        """Take every demand and hold the worst case, or change nothing. Raises LimiterWipedError while spend is unknown.

        words   of the demands of this request, where they are at hand: they need not be found anew

        A refused reservation leaves no trace, so its id is decided afresh; one that is held gets its first answer again.
        """

    async def preview(self, request: AdmissionRequest) -> Decision:
        """Decide as `admit`, but take and hold nothing. A refusal marks and announces a pause as any other.

        For requests that are expensive to read, so that they are refused before it.
        """

    async def checkpoint(self, accounts: Sequence[Account]) -> None:
        """Renew the leases of open exchanges and record their cost so far, in one round trip."""

    async def settle(self, account: Account) -> Settlement:
        """Replace the hold with the cost and append the usage event, in one step.

        The cost may exceed the hold, since the provider has billed it: Settlement.over_nano_usd is the excess.
        After expiry, posts the difference to the checkpoint. Where nothing is owed, the hold is dropped and units of tokens return;
        those of requests stay taken. One that is `part_of` a deferred exchange is paid out of that one's hold.
        """

    async def defer(self, account: Account) -> Settlement:
        """Keep the hold for as long as `admission.lease_ms`, and append the account's job, if it has one, to the event stream.

        The exchange has been answered: its open requests end. When the lease is over, the account's cost is charged, at most the
        hold. A reservation that the store has lost is held again. One whose lease is over already stays as it was charged.
        """

    async def withdraw(self, admission: AdmissionRequest) -> None:
        """Withdraw an admission that was answered too late to be served: hold and units return, nothing is charged or announced.

        The reservation has then ended, even if its admission reaches the store later: that one takes no hold. One whose lease has
        expired and was charged is released, with its event as it was admitted. After a settlement or release nothing changes.
        """

    async def forget(self, settled: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Drop the answers of settled reservations before their time, in groups of one organization; what is not settled stays.

        Whoever asks about one of them again is answered as if it had never been. So only of those that nobody can ask about.
        """

    async def read_limits(self, org: str, rate: Sequence[RateDemand], spend: Sequence[SpendDemand]) -> LimitStates:
        """Read what is left of rates, and spend, holds and pause of windows; changes nothing.

        The wait of a rate is that for the demand's units.
        """

    async def read_windows(self, org: str, spend: Sequence[SpendDemand]) -> tuple[WindowState, ...]:
        """Read windows alone, as `read_limits`."""
