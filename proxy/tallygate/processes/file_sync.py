"""Syncs the embedded store's files once a second, instead of the store itself.

With `appendfsync everysec`, Valkey answers without writing for up to two seconds while a sync is
under way, and loses those answers if it is killed. With `no`, it always writes before it answers, so a kill
loses nothing. Syncing the written files to the disk, against a crash of the machine, is then left to this module.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

SYNC_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class FileSync:
    """Syncs the files of one directory that match a pattern and have grown."""

    def __init__(self, directory: Path, pattern: str) -> None:
        self._directory = directory
        self._pattern = pattern
        self._synced: dict[Path, int] = {}  # bytes by path, of existing files

    async def sync_forever(self) -> None:
        """Sync once a second, in a thread: a slow disk must not block the event loop. A failure is logged and retried."""
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            try:
                await asyncio.to_thread(self.step)
            except OSError as error:
                _log.error("the store's files are not synced", extra={"fields": {"reason": error.strerror}})

    def step(self) -> int:
        """Sync the files that have grown; returns how many. Raises OSError; then the rest is due at the next step."""
        before, self._synced = self._synced, {}
        grown = 0
        for path in sorted(self._directory.glob(self._pattern)):
            try:
                size = path.stat().st_size
                if size != before.get(path):
                    _sync(path)
                    grown += 1
            except FileNotFoundError:  # a rewrite has replaced it
                continue
            self._synced[path] = size
        return grown


def _sync(path: Path) -> None:
    """Sync everything that any process has written to the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
