"""A real `tallygate serve` over a simulator, for clients that are given its address and a key; and what it counted of them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from stack import KEY, Stack, entries_in, running_stack
from usage_events import counts_of_event, counts_of_served
from wiretap import Asked, running_wiretap

from tallygate.simulator.ledger import Served

COUNTED_SECONDS_MAX = 30.0


@dataclass(kw_only=True)
class ClientGateway:
    """url: what clients get as their base, without a slash at the end. key: of an organization that has money."""

    url: str
    key: str
    stack: Stack
    asked: list[Asked] = field(default_factory=list)


@dataclass(kw_only=True)
class Visit:
    """What one test's client did at the gateway, from the test's begin on."""

    gateway: ClientGateway
    first_asked: int
    last_served: int
    earlier: frozenset[str]  # ids of events that the ledger had

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def key(self) -> str:
        return self.gateway.key

    def asked(self) -> list[Asked]:
        """Every request of the client in the order of arrival, those that never reached the upstream among them."""
        return self.gateway.asked[self.first_asked :]

    def lines(self) -> list[str]:
        return [asked.line for asked in self.asked()]

    def served(self) -> list[Served]:
        """What reached the upstream."""
        return [record for record in tuple(self.gateway.stack.ledger.records) if record.sequence > self.last_served]

    def counted(self) -> list[Served]:
        """What was served, once the ledger is proven to have it: every exchange once, with the upstream's own tokens, and no other.

        No key of a client reached the upstream. Raises AssertionError.
        """
        served = self._until_all_ended()
        assert not any(record.has_gateway_key for record in served)
        wanted = {record.request_id: counts_of_served(record) for record in served if record.request_id is not None}
        turns = sorted(counts_of_served(record) for record in served if record.request_id is None)  # of sockets: they have no ids
        assert len(wanted) + len(turns) == len(served), "the upstream saw one exchange twice"
        stored = self._until_stored(len(served))
        others = sorted(counts for event_id, counts in stored.items() if event_id not in wanted)
        assert {event_id: stored.get(event_id) for event_id in wanted} == wanted, "the ledger differs from what was served"
        assert others == turns, "the ledger differs from what was served over sockets"
        return served

    def _until_all_ended(self) -> list[Served]:
        deadline = time.monotonic() + COUNTED_SECONDS_MAX
        while any(not record.ended_at_ms for record in self.served()):
            assert time.monotonic() < deadline, "an answer never ends"
            time.sleep(0.02)
        return self.served()

    def _until_stored(self, wanted: int) -> dict[str, tuple[int, ...]]:
        deadline = time.monotonic() + COUNTED_SECONDS_MAX
        while True:
            entries = [
                entry for entry in entries_in(self.gateway.stack.data_dir / "ledger.db") if entry["event_id"] not in self.earlier
            ]
            if len(entries) >= wanted and not self.gateway.stack.waiting() and not self.gateway.stack.window()["held"]:
                assert len({entry["event_id"] for entry in entries}) == len(entries), "the ledger has one exchange twice"
                return {entry["event_id"]: counts_of_event(entry) for entry in entries}
            assert time.monotonic() < deadline, f"the ledger has {len(entries)} of {wanted} exchanges"
            time.sleep(0.05)


@asynccontextmanager
async def running_client_gateway(directory: Path, **settings: str) -> AsyncIterator[ClientGateway]:
    """settings: TALLYGATE_* by lower-case name.

    The operator's key goes upstream, so what clients name must be their organization's.
    """
    asked: list[Asked] = []
    async with running_stack(directory, upstream_api_key="sk-operator", **settings) as stack:
        address = urlsplit(stack.url)
        async with running_wiretap(str(address.hostname), address.port or 80, asked) as url:
            yield ClientGateway(url=url, key=KEY, stack=stack, asked=asked)
