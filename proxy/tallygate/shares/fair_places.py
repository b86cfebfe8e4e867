"""Places in fair shares, with a queue for requests that must wait."""

import asyncio
from collections import deque
from contextlib import suppress

from tallygate.shares.fair_shares import FairShares


class FairPlaces:
    """A pool of `most` places, shared as in `FairShares`. A request beyond its organization's share waits for a place.

    Requests of one organization are served in order of arrival, organizations in turn. For one event loop.
    """

    def __init__(self, most: int) -> None:
        self._shares = FairShares(most)
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by organization, in the order of their turns

    @property
    def taken(self) -> int:
        return self._shares.taken

    async def acquire(self, org: str, *, seconds: float) -> bool:
        """Acquire a place, which must be released; return False if none was free in that time. Does not suspend if one is free."""
        if org not in self._waiting and self._shares.acquire(org, 1):
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(org, deque()).append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # granted in the same tick
                self.release(org)
            else:
                self._forget(org, waiter)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def release(self, org: str) -> None:
        self._shares.release(org, 1)
        if not self._waiting:
            return
        still_waiting: dict[str, deque[asyncio.Future[None]]] = {}
        for waiting in list(self._waiting):
            waiters = self._waiting.pop(waiting)
            while waiters and waiters[0].done():  # gave up in this tick
                waiters.popleft()
            if waiters and self._shares.acquire(waiting, 1):
                waiters.popleft().set_result(None)
                if waiters:
                    self._waiting[waiting] = waiters  # at the end: the others come first next time
            elif waiters:
                still_waiting[waiting] = waiters
        self._waiting = still_waiting | self._waiting

    def _forget(self, org: str, waiter: "asyncio.Future[None]") -> None:
        waiters = self._waiting.get(org)
        if waiters is None:
            return
        with suppress(ValueError):
            waiters.remove(waiter)
        if not waiters:
            del self._waiting[org]
