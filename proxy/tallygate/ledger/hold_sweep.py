"""The sweep of holds whose worker has vanished, again and again. Several ledgers may do it at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from tallygate.domain.errors import StoreError

SWEEP_EVERY_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


async def sweep_forever(sweep: Callable[[], Awaitable[int]]) -> None:
    """sweep: settles a bounded number of expired holds at their checkpoint and tells how many. Until cancelled."""
    while True:
        try:
            swept = await sweep()
        except StoreError as error:
            _log.warning("no sweep of expired holds", extra={"fields": {"reason": str(error)}})
        else:
            if swept:
                _log.warning("holds expired and were settled at their checkpoint", extra={"fields": {"holds": swept}})
        await asyncio.sleep(SWEEP_EVERY_SECONDS)
