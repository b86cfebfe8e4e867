"""The fence around a restarted store: it is closed for spending by whoever meets it first, before anything is admitted.

With an append-only file that is synced every second, a crash of the machine cuts off up to a second of spend, and nothing in the
store says so. What is missing cannot be told, but that the store was restarted can: marks carry the run that they were made in.
"""

import asyncio
import logging

from tallygate.limiter.connection import Command
from tallygate.limiter.generation import run_of
from tallygate.limiter.keys import PARTITIONS, partition_keys
from tallygate.limiter.script import Script

_log = logging.getLogger(__name__)


class Fence:
    """One per connection: what it has seen once it does not look at again. script: fence.lua."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._run = ""

    @property
    def run(self) -> str:
        """The run that the connection belongs to, or the last one that it had; empty if there was none."""
        return self._run

    async def notice_run(self, command: Command, info: bytes) -> bool:
        """Close the partitions that were marked in another run than the one of this INFO; whether this run was new here.

        A store that tells no run is trusted. Raises StoreError; then the run is still new.
        """
        run = run_of(info)
        if run == self._run:
            return False
        partitions = [partition_keys(partition) for partition in range(PARTITIONS)] if run else []
        source, argument = self._script.source, run.encode()
        calls = (command(b"EVAL", source, b"2", keys.generation, keys.former, argument) for keys in partitions)
        closed = sum(await asyncio.gather(*calls))
        if closed:
            _log.warning(
                "the limiter's store was restarted: it is closed for spending until it is rebuilt",
                extra={"fields": {"partitions": closed}},
            )
        self._run = run
        return True
