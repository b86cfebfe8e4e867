"""The fence around a restarted store: the first process to connect closes it for spending, before anything is admitted.

With an append-only file that is synced every second, a crash of the machine cuts off up to a second of spend, and nothing in the
store says so. What is missing cannot be known, but a restart can: marks carry the id of the run in which they were made.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from tallygate.limiter.connection import Command
from tallygate.limiter.generation import run_id_of
from tallygate.limiter.keys import ALL_PARTITIONS, partition_keys
from tallygate.limiter.script import Script, StoreNode

_log = logging.getLogger(__name__)


class Fence:
    """One per connection to a store: a run that it has seen once it does not look at again. script: fence.lua.

    run_id   the ids of the runs of the store's servers (`run_id` of INFO) at their last connections; empty if there was none
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._note({})

    async def check_run_id(
        self, command: Command, info: bytes, *, server: str = "", partitions: Sequence[int] = ALL_PARTITIONS
    ) -> bool:
        """Close the partitions that were marked in another run of the store than that of this INFO, and return whether it is new.

        A store that reports no run is trusted. Raises StoreError; then the run is still new.

        server       the one that answers, and whose partitions these are
        """
        run_id = run_id_of(info)
        if run_id == self._run_ids.get(server, ""):
            return False
        present = {**self._run_ids, server: run_id}
        self._report(await self._close(command, partitions, present.values()) if run_id else 0)
        self._note(present)
        return True

    async def check_nodes(self, nodes: Sequence[StoreNode]) -> bool:
        """The same for all servers of a store at once, and for no other from then on: a partition that was moved keeps its mark."""
        infos = await asyncio.gather(*(node.store.command(b"INFO", b"server") for node in nodes))
        found = {node.name: run_id_of(info) for node, info in zip(nodes, infos, strict=True)}
        new = [node for node in nodes if found[node.name] and found[node.name] != self._run_ids.get(node.name)]
        closed = [await self._close(node.store.command, node.partitions, found.values()) for node in new]
        self._report(sum(closed))
        self._note(found)
        return bool(new)

    async def check_moved(self, command: Command, partitions: Sequence[int]) -> None:
        """Close those of these partitions, which a server has got from another one, that were marked in no present run."""
        self._report(await self._close(command, partitions, self._run_ids.values()))

    async def _close(self, command: Command, partitions: Sequence[int], run_ids: Iterable[str]) -> int:
        keys, arguments = [partition_keys(partition) for partition in partitions], [run_id.encode() for run_id in sorted(run_ids)]
        calls = (command(b"EVAL", self._script.source, b"2", each.generation, each.former, *arguments) for each in keys)
        return sum(await asyncio.gather(*calls))

    def _note(self, run_ids: dict[str, str]) -> None:
        """Note the runs, by server."""
        self._run_ids = run_ids
        self.run_id = " ".join([run_id for _, run_id in sorted(run_ids.items())])

    def _report(self, closed: int) -> None:
        if closed:
            is_own_start = not self._run_ids  # `serve` starts both: then it is no surprise
            _log.log(
                logging.INFO if is_own_start else logging.WARNING,
                "the limiter's store was restarted: it is closed for spending until it is rebuilt",
                extra={"fields": {"partitions": closed}},
            )
