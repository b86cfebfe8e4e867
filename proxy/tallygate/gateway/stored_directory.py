"""The gateway's interface to organizations that change at run time."""

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from tallygate.config.directory import StoredSource
from tallygate.domain.organization import Organization

USED_MAX: Final = 10_000  # credentials recorded between two flushes; further ones are recorded after the next


class StoredDirectory(Protocol):
    """Organizations beside those of organizations.yaml. A process has a copy, which is kept up to date."""

    @property
    def organizations(self) -> Mapping[str, Organization]:
        """Organizations by id, as of the last refresh."""

    @property
    def retired(self) -> Collection[tuple[str, str]]:
        """Client IDs that were revoked and whose organization is gone, as a Directory has them."""

    @property
    def source(self) -> StoredSource:
        """Where they are from."""

    def wake(self) -> None:
        """Look for changes now: one was announced, or the rules by which organizations are read have changed."""

    async def follow_forever(self, on_change: Callable[[frozenset[str]], None]) -> None:
        """Call on_change with the ids of organizations that were changed, added or deleted, whenever there are some.

        So it does, without any, when the source has changed.
        """


class NoStoredDirectory:
    """A directory of nothing but organizations.yaml."""

    organizations: Mapping[str, Organization] = {}
    retired: Collection[tuple[str, str]] = frozenset()
    source = StoredSource.DATABASE

    def wake(self) -> None:
        return

    async def follow_forever(self, on_change: Callable[[frozenset[str]], None]) -> None:
        del on_change


class UsedCredentials:
    """Last uses of credentials, recorded in the worker's memory and flushed at intervals: no request writes by itself."""

    def __init__(self) -> None:
        self._at_ms: dict[str, int] = {}

    def record(self, client_id: str, at_ms: int) -> None:
        if client_id in self._at_ms or len(self._at_ms) < USED_MAX:
            self._at_ms[client_id] = at_ms

    def collect(self) -> Mapping[str, int]:
        """Return what was recorded since the last call."""
        taken, self._at_ms = self._at_ms, {}
        return taken

    def restore(self, taken: Mapping[str, int]) -> None:
        """Put back records that could not be flushed; those recorded meanwhile are newer."""
        self._at_ms = {**taken, **self._at_ms}
