"""Wrong admin tokens: logged, counted, and answered ever more slowly. A right one never waits for them.

A token is checked first, and its answer is delayed only if it is wrong. So nobody who tries many tokens from an address, or from
behind everybody's proxy, can lock out the holder of a right one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tallygate.http1.networks import network_of
from tallygate.telemetry.metric import Samples
from tallygate.telemetry.metrics import CONSOLE_WRONG_TOKENS

FREE: Final = 3  # wrong tokens of an address that are answered at once: people paste the wrong thing
FIRST_SECONDS: Final = 0.1  # then this, doubled each time
MOST_SECONDS: Final = 2.0
QUIET_MS: Final = 60_000  # after which an address starts afresh
ADDRESSES_MAX: Final = 10_000  # remembered; beyond it, the one quiet for the longest is dropped
WAITING_MAX: Final = 200  # delayed answers at once; further ones get 429 without delay
WAITING_OF_ONE_MAX: Final = 10  # the same, of one address
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Address:
    wrong: int = 0
    waiting: int = 0
    last_ms: int = 0


class WrongTokens:
    """Delays wrong tokens. now_ms: monotonic. sleep: `asyncio.sleep`. count: of all wrong tokens."""

    def __init__(self, *, now_ms: Callable[[], int], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._now_ms = now_ms
        self._sleep = sleep
        self._addresses: dict[str, _Address] = {}
        self._waiting = 0
        self.count = 0

    def samples(self) -> Samples:
        """The number of wrong tokens so far, for /metrics."""
        return {CONSOLE_WRONG_TOKENS: {(): self.count}}

    async def slow_down(self, address: str, path: str) -> bool:
        """Delay the sender of a wrong token; False if too many wait already, so that this one must be refused."""
        self.count += 1
        seen = self._seen(network_of(address))
        _log.warning("wrong admin token", extra={"fields": {"address": address, "path": path, "wrong_in_a_row": seen.wrong}})
        if seen.wrong <= FREE:
            return True
        if self._waiting >= WAITING_MAX or seen.waiting >= WAITING_OF_ONE_MAX:
            return False
        self._waiting += 1
        seen.waiting += 1
        try:
            await self._sleep(min(FIRST_SECONDS * 2 ** min(seen.wrong - FREE - 1, 10), MOST_SECONDS))
        finally:
            self._waiting -= 1
            seen.waiting -= 1
        return True

    def _seen(self, network: str) -> _Address:
        """Count a wrong token for the address, and move the address to the end of the dictionary."""
        now_ms = self._now_ms()
        seen = self._addresses.pop(network, None)
        if seen is None or now_ms - seen.last_ms >= QUIET_MS:
            seen = _Address(waiting=0 if seen is None else seen.waiting)
        if len(self._addresses) >= ADDRESSES_MAX:
            del self._addresses[next(iter(self._addresses))]
        seen.wrong += 1
        seen.last_ms = now_ms
        self._addresses[network] = seen
        return seen
