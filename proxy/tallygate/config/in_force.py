"""`configuration.json` in the data directory: which files were in force last, for a process that starts again beside others.

A reload does not take away a file; a worker that crashes while the file is missing must not start without it either, or its
callers would get 401. The file is removed when tallygate itself starts, since a start by hand accepts what there is.
"""

import json
import os
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tallygate.config.model import GatewayConfig

_FILE: Final = "configuration.json"
_FILE_BYTES_MAX: Final = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What a later configuration may not lose. organizations: how many there were in the file."""

    files: AbstractSet[str] = field(default_factory=frozenset)
    organizations: int = 0

    @classmethod
    def of(cls, config: GatewayConfig) -> "InForce":
        return cls(files=frozenset(config.files), organizations=len(config.organizations))

    def losses(self, new: GatewayConfig) -> tuple[str, ...]:
        """Why the new configuration may not follow, although it is valid: a line for each reason.

        A file that is gone, or organizations that are gone all at once, are a failed deployment far more often than a decision, and
        would lock everybody out within seconds.
        """
        gone = sorted(self.files - new.files.keys())
        if gone:
            return tuple(
                f"{name}:1: is gone since the last reload; put it back, or restart tallygate if it is to go" for name in gone
            )
        if self.organizations and not new.organizations:
            fix = "put them back, or restart tallygate if all of them are to go"
            return (f"organizations.yaml:1: has no organizations left, of {self.organizations}; {fix}",)
        return ()


class InForceFile:
    """The file. Every process of a tallygate writes the same into it, each when it has applied a configuration."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / _FILE

    def read(self) -> InForce:
        """What was in force last; nothing if no process has applied a configuration since the start, or the file cannot be read."""
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(_FILE_BYTES_MAX))
            return InForce(files=frozenset(map(str, found["files"])), organizations=int(found["organizations"]))
        except (OSError, ValueError, LookupError, TypeError):
            return InForce()

    def keep(self, config: GatewayConfig) -> None:
        """Write what is in force now. A disk that refuses is no reason not to serve: its owner is told of it elsewhere."""
        new = self._path.with_name(f".{_FILE}.{os.getpid()}")
        now = InForce.of(config)
        try:
            new.write_text(json.dumps({"files": sorted(now.files), "organizations": now.organizations}), encoding="utf-8")
            new.replace(self._path)
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)  # it bears this process's number: the next one would leave another

    def forget(self) -> None:
        """Accept whatever is read next."""
        self._path.unlink(missing_ok=True)
