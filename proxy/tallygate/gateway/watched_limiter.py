"""The limiter with a stopwatch: how long a worker waits for its store, and how often in vain."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from tallygate.domain.admission import Actual, AdmissionRequest, Checkpoint, Decision, Settlement, SpendDemand, WindowReading
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.limiter.port import Limiter

_End = Callable[[AdmissionRequest, Actual], Awaitable[Settlement]]


class LimiterObserver(Protocol):
    """operation: admit or settle; a release settles."""

    def limiter_answered(self, operation: str, seconds: float, request_id: str) -> None: ...
    def limiter_failed(self, operation: str) -> None: ...


class WatchedLimiter:
    """Implements `Limiter` over another. clock: monotonic seconds."""

    def __init__(self, limiter: Limiter, observer: LimiterObserver, clock: Callable[[], float]) -> None:
        self._limiter = limiter
        self._observer = observer
        self._clock = clock

    async def admit(self, request: AdmissionRequest) -> Decision:
        started = self._clock()
        try:
            decision = await self._limiter.admit(request)
        except StoreError as error:
            self._failed("admit", error)
            raise
        self._observer.limiter_answered("admit", self._clock() - started, request.reservation_id)
        return decision

    async def look(self, request: AdmissionRequest) -> Decision:
        return await self._limiter.look(request)

    async def settle(self, admission: AdmissionRequest, actual: Actual) -> Settlement:
        return await self._end(self._limiter.settle, admission, actual)

    async def release(self, admission: AdmissionRequest, actual: Actual) -> Settlement:
        return await self._end(self._limiter.release, admission, actual)

    async def checkpoint(self, checkpoints: Sequence[Checkpoint]) -> None:
        await self._limiter.checkpoint(checkpoints)

    async def withdraw(self, admission: AdmissionRequest) -> None:
        await self._limiter.withdraw(admission)

    async def read_windows(self, org: str, spend: Sequence[SpendDemand]) -> tuple[WindowReading, ...]:
        return await self._limiter.read_windows(org, spend)

    async def _end(self, end: _End, admission: AdmissionRequest, actual: Actual) -> Settlement:
        started = self._clock()
        try:
            settlement = await end(admission, actual)
        except StoreError as error:
            self._failed("settle", error)
            raise
        self._observer.limiter_answered("settle", self._clock() - started, admission.reservation_id)
        return settlement

    def _failed(self, operation: str, error: StoreError) -> None:
        if not isinstance(error, LimiterWipedError):  # which is an answer
            self._observer.limiter_failed(operation)
