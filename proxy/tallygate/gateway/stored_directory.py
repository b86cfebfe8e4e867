"""What the gateway needs of organizations that are changed at run time."""

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from tallygate.domain.organization import Organization

USED_MAX: Final = 10_000  # credentials noted between two flushes; past it further ones are noted after the next


class StoredDirectory(Protocol):
    """Organizations beside those of organizations.yaml. A process has a copy, which follows."""

    @property
    def organizations(self) -> Mapping[str, Organization]:
        """By id, as of the last refresh."""

    @property
    def retired(self) -> Collection[tuple[str, str]]:
        """Client IDs that were revoked and whose organization is gone, as a Directory has them."""

    def wake(self) -> None:
        """Look for changes now: someone told of one, or the rules that organizations are read by are others."""

    async def follow_forever(self, on_change: Callable[[frozenset[str]], None]) -> None:
        """Call on_change with the ids of organizations that are other, new or gone, each time that there are some."""


class NoStoredDirectory:
    """Nothing but organizations.yaml."""

    organizations: Mapping[str, Organization] = {}
    retired: Collection[tuple[str, str]] = frozenset()

    def wake(self) -> None:
        return

    async def follow_forever(self, on_change: Callable[[frozenset[str]], None]) -> None:
        del on_change


class UsedCredentials:
    """When each credential was last used, noted in memory by the worker and handed over now and then: no write for each request."""

    def __init__(self) -> None:
        self._at_ms: dict[str, int] = {}

    def note(self, client_id: str, at_ms: int) -> None:
        if client_id in self._at_ms or len(self._at_ms) < USED_MAX:
            self._at_ms[client_id] = at_ms

    def take(self) -> Mapping[str, int]:
        """What was noted since the last time."""
        taken, self._at_ms = self._at_ms, {}
        return taken

    def give_back(self, taken: Mapping[str, int]) -> None:
        """What could not be handed over; what was noted meanwhile is newer."""
        self._at_ms = {**taken, **self._at_ms}
