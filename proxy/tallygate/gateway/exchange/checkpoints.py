"""Checkpoints of open exchanges: renew their leases and record their cost so far, in one round trip for the whole worker."""

import asyncio
import logging
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.gateway.exchange.account import checkpoint_of
from tallygate.gateway.exchange.pipeline import Pipeline

BATCH_MAX: Final = 500  # exchanges a round trip; more go in further ones
_log = logging.getLogger(__name__)


async def checkpoint_once(pipeline: Pipeline) -> int:
    """Checkpoint every open exchange; returns how many there were. Raises StoreError."""
    accounts = [await checkpoint_of(answer) for answer in list(pipeline.answers)]
    open_ones = [account for account in accounts if account is not None]
    for start in range(0, len(open_ones), BATCH_MAX):
        await pipeline.services.limiter.checkpoint(open_ones[start : start + BATCH_MAX])
    return len(open_ones)


async def checkpoint_forever(pipeline: Pipeline) -> None:
    """Every `checkpoint_seconds`. A store that does not answer costs a log line: the leases outlast several rounds."""
    while True:
        await asyncio.sleep(pipeline.services.bounds.checkpoint_seconds)
        try:
            await checkpoint_once(pipeline)
        except StoreError as error:
            _log.warning("checkpoint failed: %s", error)
        except Exception:  # noqa: BLE001 - the outermost handler of this loop
            _log.exception("checkpoint failed")  # the next one must come all the same, or every lease would end
