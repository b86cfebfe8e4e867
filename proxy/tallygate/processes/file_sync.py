"""The embedded store's files, synced once a second by us rather than by it.

Told to sync by itself each second (`appendfsync everysec`), Valkey answers without writing for up to two seconds while a sync is
under way, and takes what it has answered along when it is killed. Told not to (`no`), it always writes before it answers: a kill
loses nothing. What remains to be done is to have the written on the disk, against a crash of the machine.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

SYNC_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class FileSync:
    """Syncs the files of one directory that match a pattern, as far as they have grown."""

    def __init__(self, directory: Path, pattern: str) -> None:
        self._directory = directory
        self._pattern = pattern
        self._synced: dict[Path, int] = {}  # bytes by path, of files that are there

    async def sync_forever(self) -> None:
        """Once a second, in a thread: a slow disk must not keep the event loop waiting. A failure is logged and tried again."""
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            try:
                await asyncio.to_thread(self.step)
            except OSError as error:
                _log.error("the store's files are not synced", extra={"fields": {"reason": error.strerror}})

    def step(self) -> int:
        """How many files had grown. Raises OSError; then the rest is due at the next step."""
        before, self._synced = self._synced, {}
        grown = 0
        for path in sorted(self._directory.glob(self._pattern)):
            try:
                size = path.stat().st_size
                if size != before.get(path):
                    _sync(path)
                    grown += 1
            except FileNotFoundError:  # a rewrite has put others in its place
                continue
            self._synced[path] = size
        return grown


def _sync(path: Path) -> None:
    """What any process has written to it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
