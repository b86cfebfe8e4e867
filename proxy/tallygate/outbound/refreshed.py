"""A cached value from another server: fetched when first wanted, renewed in time, and kept in use if it cannot be renewed."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from tallygate.outbound.session import FetchError

NEVER_MS: Final = 2**53

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """A fetched value. On the clock of its `Refreshed`, it is renewed from due_ms on and used until ends_ms at the latest."""

    value: T = field(repr=False)
    due_ms: int
    ends_ms: int = NEVER_MS


class Refreshed(ABC, Generic[T]):
    """A value that is fetched and kept fresh. Subclasses define how it is fetched, and how a failure is logged.

    At most one fetch is under way, shared by all waiters; a waiter that leaves does not end it for the others.

    now_ms     monotonic
    retry_ms   pause after a failed fetch, as a function of how long the value can still be used
    pauses_s   pauses before each further attempt of a round; a lasting failure ends the round
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        retry_ms: Callable[[int], int],
        pauses_s: Sequence[float] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        kept: Fetched[T] | None = None,
    ) -> None:
        self._now_ms = now_ms
        self._retry_ms = retry_ms
        self._pauses_s = pauses_s
        self._sleep = sleep
        self._kept = kept
        self._due_ms = 0 if kept is None else kept.due_ms
        self._fetching: asyncio.Task[None] | None = None
        self._failure: FetchError | None = None

    @abstractmethod
    async def fetch(self) -> Fetched[T]:
        """A new value. Raises FetchError."""

    @abstractmethod
    def log_failure(self, failure: FetchError) -> None:
        """Log a failure for the operator. Called once for each reason, and again after a success."""

    @property
    def is_fetching(self) -> bool:
        return self._fetching is not None

    def current(self) -> T | None:
        """The value while it may be used, else None. Neither waits nor starts a fetch."""
        kept = self._kept
        return None if kept is None or self._now_ms() >= kept.ends_ms else kept.value

    async def get(self) -> T:
        """The value. Waits for a new one if there is none, or if it is due and no fetch is under way. Raises FetchError."""
        now_ms = self._now_ms()
        kept = self._kept
        if kept is not None and now_ms < kept.ends_ms and (now_ms < self._due_ms or self._fetching is not None):
            return kept.value
        self.renew_if_due()
        await self.wait()
        value = self.current()
        if value is None:
            raise FetchError(str(self._failure or "nothing was fetched"))
        return value

    def renew_if_due(self) -> None:
        """Start a fetch in the background if the value is due and no fetch is under way."""
        if self._fetching is None and self._now_ms() >= self._due_ms:
            self._fetching = asyncio.get_running_loop().create_task(self._renew())

    async def wait(self) -> None:
        """Wait for the fetch that is under way, if any."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])

    def renew(self) -> None:
        """Start a fetch now if none is under way."""
        self._due_ms = 0
        self.renew_if_due()

    def forget(self) -> None:
        """Drop the value: the next caller waits for a new one."""
        self._kept = None
        self._due_ms = 0

    def abandon(self) -> None:
        """Cancel the fetch that is under way, even if others wait for it."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _renew(self) -> None:
        known = str(self._failure)
        try:
            self._failure = await self._try()
            if self._failure is not None:
                now_ms = self._now_ms()
                left_ms = 0 if self._kept is None else max(0, self._kept.ends_ms - now_ms)
                self._due_ms = now_ms + self._retry_ms(left_ms)
                if str(self._failure) != known:
                    self.log_failure(self._failure)
        finally:
            self._fetching = None

    async def _try(self) -> FetchError | None:
        """Make one round of attempts. If none succeeds, the old value stays."""
        for pause_s in (*self._pauses_s, None):
            try:
                self._kept = kept = await self.fetch()
            except FetchError as error:
                if error.is_lasting or pause_s is None:
                    return error
                await self._sleep(pause_s)
            else:
                self._due_ms = kept.due_ms
                break
        return None
