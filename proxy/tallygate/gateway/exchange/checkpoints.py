"""The periodic word of every open exchange: its lease renewed, its cost so far noted, in one round trip for the whole worker."""

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
    made = [await checkpoint_of(answer) for answer in list(pipeline.answers)]
    checkpoints = [checkpoint for checkpoint in made if checkpoint is not None]
    for start in range(0, len(checkpoints), BATCH_MAX):
        await pipeline.services.limiter.checkpoint(checkpoints[start : start + BATCH_MAX])
    return len(checkpoints)


async def checkpoint_forever(pipeline: Pipeline) -> None:
    """Every `checkpoint_seconds`. A store that does not answer costs a log line: the leases outlast several rounds."""
    while True:
        await asyncio.sleep(pipeline.services.limits.checkpoint_seconds)
        try:
            await checkpoint_once(pipeline)
        except StoreError as error:
            _log.warning("checkpoint failed: %s", error)
        except Exception:  # noqa: BLE001 - the outermost handler of this loop
            _log.exception("checkpoint failed")  # the next one must come all the same, or every lease would end
