"""Reloads of the configuration, one after the other, triggered by a signal or by a change of its files."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

WATCH_EVERY_S: Final = 2.0
Fingerprint = frozenset[tuple[str, int, int, int]]
_log = logging.getLogger(__name__)


class Reloading:
    """Runs `reload` on request. Any number of requests during a reload cause one more, which sees the last change."""

    def __init__(self, reload: Callable[[], Awaitable[None]]) -> None:
        self._reload = reload
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Request a reload; it runs soon, or as soon as `reload_forever` does."""
        self._asked.set()

    async def reload_forever(self) -> None:
        """Work that a process runs beside its own."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._reload()
            except Exception:  # noqa: BLE001  # whatever it was, the next change of files is read again
                _log.exception("the configuration could not be read again; the one before stays in force")


class ConfigWatch:
    """Compares the metadata of a directory's YAML files, and of single files: name, time, size, inode. Only the reload reads them.

    Kubernetes switches a link to replace a mounted directory, editors rename a new file: both change an inode or a time.
    """

    def __init__(self, directory: Path | None, files: Sequence[Path] = ()) -> None:
        self._directory = directory
        self._files = tuple(files)
        self._seen = self._fingerprint()

    def has_changed(self) -> bool:
        """Return whether anything differs from the last call."""
        now = self._fingerprint()
        changed, self._seen = now != self._seen, now
        return changed

    def _fingerprint(self) -> Fingerprint:
        found = set()
        for path in (*self._files, *self._in_directory()):
            try:
                status = path.stat()
            except OSError:  # removed meanwhile: the next call reports it
                continue
            found.add((path.name, status.st_mtime_ns, status.st_size, status.st_ino))
        return frozenset(found)

    def _in_directory(self) -> Sequence[Path]:
        try:
            return () if self._directory is None else tuple(self._directory.glob("*.yaml"))
        except OSError:  # a share that is away: as if all were removed, which the reload refuses and logs
            return ()


async def watch_forever(watch: ConfigWatch, on_change: Callable[[], None]) -> None:
    """Call on_change when files have changed and then stayed the same for one interval, so that a half-written set is not read.

    Create the watch before the files are first read: a change in between is then read again rather than missed.
    """
    is_pending = False
    while True:
        await asyncio.sleep(WATCH_EVERY_S)
        if watch.has_changed():
            is_pending = True
        elif is_pending:
            is_pending = False
            on_change()
