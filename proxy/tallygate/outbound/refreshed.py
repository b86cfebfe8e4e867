"""A value of another server's, at hand: fetched when first wanted, kept, renewed in time, and used on where none can be had."""

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
    """value, on the clock of its `Refreshed`: renewed from due_ms on, and used until ends_ms at the latest."""

    value: T = field(repr=False)
    due_ms: int
    ends_ms: int = NEVER_MS


class Refreshed(ABC, Generic[T]):
    """Subclasses say how the value is fetched, and what is done about a failure.

    One fetch is under way at a time, and shared by all who wait for it; one who leaves does not end it for the others.

    now_ms     monotonic
    retry_ms   after a failed fetch, how long none is begun, of how long the value can still be used
    pauses_s   a fetch that fails is tried again within the same round after each of these, unless its failure is lasting
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
        """For the operator: called once for each reason, and again after a success."""

    @property
    def is_fetching(self) -> bool:
        return self._fetching is not None

    def current(self) -> T | None:
        """The value, while it may be used. Does not wait, and begins nothing."""
        kept = self._kept
        return None if kept is None or self._now_ms() >= kept.ends_ms else kept.value

    async def get(self) -> T:
        """The value. Waits for a new one where there is none, or it is due and nobody fetches it yet. Raises FetchError."""
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
        """Begin to fetch, in the background, if it is time to and no fetch is under way."""
        if self._fetching is None and self._now_ms() >= self._due_ms:
            self._fetching = asyncio.get_running_loop().create_task(self._renew())

    async def wait(self) -> None:
        """Wait for the fetch under way, if one is."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])

    def renew(self) -> None:
        """Begin to fetch now, if no fetch is under way."""
        self._due_ms = 0
        self.renew_if_due()

    def forget(self) -> None:
        """Give up the value: the next to want one waits for another."""
        self._kept = None
        self._due_ms = 0

    def abandon(self) -> None:
        """End the fetch under way, whoever waits for it."""
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
        """One round of attempts. Without success the old value stays."""
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
