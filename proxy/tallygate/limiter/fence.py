"""The fence around a restarted store: the first process to connect closes it for spending, before anything is admitted.

With an append-only file that is synced every second, a crash of the machine cuts off up to a second of spend, and nothing in the
store says so. What is missing cannot be known, but a restart can: marks carry the id of the run in which they were made.
"""

import asyncio
import logging

from tallygate.limiter.connection import Command
from tallygate.limiter.generation import run_id_of
from tallygate.limiter.keys import PARTITIONS, partition_keys
from tallygate.limiter.script import Script

_log = logging.getLogger(__name__)


class Fence:
    """One per connection: what it has seen once it does not look at again. script: fence.lua."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._run_id = ""

    @property
    def run_id(self) -> str:
        """The id of the store's run (`run_id` of INFO) at the last connection; empty if there was none."""
        return self._run_id

    async def check_run_id(self, command: Command, info: bytes) -> bool:
        """Close the partitions that were marked in another run of the store than that of this INFO, and return whether it is new.

        A store that reports no run is trusted. Raises StoreError; then the run is still new.
        """
        run_id = run_id_of(info)
        if run_id == self._run_id:
            return False
        partitions = [partition_keys(partition) for partition in range(PARTITIONS)] if run_id else []
        source, argument = self._script.source, run_id.encode()
        calls = (command(b"EVAL", source, b"2", keys.generation, keys.former, argument) for keys in partitions)
        closed = sum(await asyncio.gather(*calls))
        if closed:
            is_own_start = not self._run_id  # `serve` starts both: then it is no surprise
            _log.log(
                logging.INFO if is_own_start else logging.WARNING,
                "the limiter's store was restarted: it is closed for spending until it is rebuilt",
                extra={"fields": {"partitions": closed}},
            )
        self._run_id = run_id
        return True
