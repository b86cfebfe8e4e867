"""Whether the files that a running gateway has open are still where a restart would look for them.

Who deletes a file, or puts another in its place, does not reach those who have it open: they go on in a file without a name, and
all of it is gone with them. Paths are therefore compared, every few seconds, with what was there at first.
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from tallygate.console.readiness import Check, Probe
from tallygate.shares.ticks import tick
from tallygate.telemetry.metric import Samples
from tallygate.telemetry.metrics import FILES_GONE

LOOK_EVERY_SECONDS: Final = 5.0  # beside the looks of who asks whether this process is ready
_log = logging.getLogger(__name__)


class OwnFiles:
    """Watches paths by name. A path counts from the first time that something is there.

    needed    names without which nothing should begin here: what is written now will not be there after a restart
    remade    of one more name, files that are made anew if their process restarts: they only have to be there
    """

    def __init__(
        self, paths: Mapping[str, Path], *, needed: Collection[str], remade: tuple[str, Sequence[Path]] | None = None
    ) -> None:
        self._paths = dict(paths)
        self._needed = frozenset(needed)
        self._remade, self._remade_files = remade or ("", ())
        self._seen: set[Path] = set()
        self._first: dict[str, tuple[int, int]] = {}
        self._logged: frozenset[str] = frozenset()
        self.gone: frozenset[str] = frozenset()

    def look(self) -> None:
        """Compare every path; a few stats. Logs what has changed."""
        gone = set()
        for name, path in self._paths.items():
            found = _identity(path)
            if name not in self._first and found is not None:
                self._first[name] = found
            elif self._first.get(name) != found:
                gone.add(name)
        for path in self._remade_files:
            if path.exists():
                self._seen.add(path)
            elif path in self._seen:
                gone.add(self._remade)
        self.gone = frozenset(gone)
        for name in sorted(self.gone - self._logged):
            _log.error(
                "a file or directory was deleted or replaced while it is in use: what is written to it is lost with this process. "
                "Put back what was there, or restart",
                extra={"fields": {"file": name}},
            )
        for name in sorted(self._logged - self.gone):
            _log.warning("the file or directory in use is back", extra={"fields": {"file": name}})
        self._logged = self.gone

    async def look_forever(self) -> None:
        """Do so until cancelled."""
        while True:
            self.look()
            await tick(LOOK_EVERY_SECONDS)

    def samples(self) -> Samples:
        """Samples for /metrics."""
        names = {*self._first, *({self._remade} if self._seen else ())}
        return {FILES_GONE: {(name,): int(name in self.gone) for name in sorted(names)}}

    def probe(self) -> Probe:
        """Probe that all are there. Names are ours, and no path is told."""

        async def probe() -> Check:
            self.look()
            reason = f"deleted or replaced while in use: {', '.join(sorted(self.gone))}" if self.gone else ""
            return Check(name="files", reason=reason, is_needed=bool(self.gone & self._needed))

        return probe


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a path that vanishes meanwhile is no error
    except OSError:
        return None
    return found.st_dev, found.st_ino
