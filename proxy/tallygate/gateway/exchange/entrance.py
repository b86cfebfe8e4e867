"""Bounds on what an organization has open at this worker, checked before a body is read.

All counts are the worker's own. The store is asked only for bodies that are expensive to read (`preview`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.domain.errors import Refused, StoreError
from tallygate.domain.rate_limit import FREE_REQUESTS
from tallygate.gateway.exchange.call import Caller, Head, Intake
from tallygate.gateway.refusals import limiter_refusal, overloaded
from tallygate.gateway.services import Services
from tallygate.gateway.upstream import UpstreamClient
from tallygate.limiter.local_gate import Closed, Entry, LocalGate
from tallygate.shares.fair_places import FairPlaces
from tallygate.shares.fair_shares import FairShares

DEAR_BODY_BYTES: Final = 65_536  # from here on a question to the store costs less than the reading
FREE_LIST_UNITS: Final = 10
_HANDSHAKES: Final = (("handshakes", FREE_REQUESTS),)  # they are as many as requests that no other limit counts
_NOT_TAKEN: Final = frozenset({429, 503})  # refused for a limit, not for its content


class Entrance:
    """Fair shares of a worker's open requests and of the memory for bodies, and the worker's own check of rate limits.

    Requests of weight 0, which rate limits do not count, have a rate of their own here (`FREE_REQUESTS`). A list of stored objects
    counts as ten of them, since the upstream may be asked for up to 50 pages until one has something of the organization's.

    bodies   the memory for bodies, and for messages of sockets
    """

    def __init__(self, services: Services) -> None:
        bounds = services.bounds
        self._services = services
        self._gate = LocalGate(services.now_ms)
        self._room = FairShares(bounds.requests_open_max)
        self.bodies = FairShares(max(bounds.body_budget_bytes, bounds.body_bytes_max))

    @property
    def body_bytes(self) -> int:
        """Bytes reserved for bodies now."""
        return self.bodies.taken

    def enter(self, head: Head, caller: Caller) -> "Visit":
        """Take a place, one of each limit on requests and a slot of each on open requests, until the visit ends."""
        org, limits = caller.organization.id, caller.limits
        if not self._room.acquire(org, 1):
            raise Refused(overloaded("Your organization has too many requests open at this gateway."))
        units = limits.weight or (FREE_LIST_UNITS if head.route.objects.lists else 1)
        entry = self._gate.enter(org, limits.gate, units)
        if isinstance(entry, Closed):
            self._room.release(org, 1)
            raise Refused(limiter_refusal(_closed(head, entry), limits, hold_nano_usd=0))
        return Visit(org, entry, self._gate, self._room, self.bodies)

    @contextmanager
    def socket(self, caller: Caller) -> Iterator[None]:
        """Take a place for a socket until it is closed. Its turns are requests of their own, which limits count."""
        org = caller.organization.id
        if not self._room.acquire(org, 1):
            raise Refused(overloaded("Your organization has too many requests open at this gateway."))
        if isinstance(self._gate.enter(org, _HANDSHAKES), Closed):
            self._room.release(org, 1)
            raise Refused(overloaded("Your organization opens too many connections at once."))
        try:
            yield
        finally:
            self._room.release(org, 1)

    async def preview_before_body(self, head: Head, caller: Caller, intake: Intake) -> None:
        """Refuse a request that a limit already refuses, if its body is large, of unknown size, or awaits `100 Continue`."""
        request = head.client.request
        if not request.body_exists or not intake.is_body_read:
            return
        length = None if intake.codings else request.content_length  # a coded body is as large as it turns out to be
        if length is None or length >= DEAR_BODY_BYTES or "Expect" in request.headers:
            await self.preview(head, caller, least_nano_usd=head.route.fee_nano_usd or 1)

    async def preview(self, head: Head, caller: Caller, *, least_nano_usd: int) -> None:
        """Refuse a request that the limiter would refuse at that cost. Without the store nothing is refused here."""
        organization, limits = caller.organization, caller.limits
        if not limits.rate and not limits.spend:
            return
        client = head.client
        asked = AdmissionRequest(
            reservation_id=client.id,
            org=organization.id,
            rate=limits.rate_demands(None),
            spend=limits.spend_demands(client.started_at_ms),
            hold_nano_usd=least_nano_usd,
            hold_min_nano_usd=least_nano_usd,
            floor_nano_usd=0,
            lease_ms=self._services.bounds.lease_ms,
            event=b"",
        )
        try:
            decision = await self._services.limiter.preview(asked)
        except StoreError:
            return
        if not decision.admitted:
            fee = head.route.fee_nano_usd
            refusal = limiter_refusal(decision, limits, hold_nano_usd=least_nano_usd, fee_nano_usd=fee)
            raise Refused(refusal, decision=decision)


class Visit:
    """The places and memory of one exchange; `with` releases them. A request that a limit refuses has used no units.

    A request that is refused for its content has used its units.
    """

    __slots__ = ("_bodies", "_body_bytes", "_entry", "_gate", "_places", "_room", "org")

    def __init__(self, org: str, entry: Entry, gate: LocalGate, room: FairShares, bodies: FairShares) -> None:
        self.org = org
        self._entry = entry
        self._gate = gate
        self._room = room
        self._bodies = bodies
        self._body_bytes = 0
        self._places: FairPlaces | None = None

    def reserve(self, size: int) -> None:
        """Reserve memory for so many more bytes of the body. Raises Refused."""
        if not self._bodies.acquire(self.org, size):
            raise Refused(overloaded("The request bodies of your organization take too much of this gateway's memory."))
        self._body_bytes += size

    async def wait_for_place(self, upstream: UpstreamClient) -> None:
        """Take a place at the upstream; past the organization's share, once another of its requests has ended there."""
        if not await upstream.places.acquire(self.org, seconds=upstream.config.connect_ms / 1000):
            raise Refused(overloaded("Your organization has too many requests under way at this AI service."))
        self._places = upstream.places

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del kind, trace
        if isinstance(error, Refused) and error.refusal.status in _NOT_TAKEN:
            self._gate.refund(self._entry)
        self._gate.leave(self._entry)
        self._room.release(self.org, 1)
        self._bodies.release(self.org, self._body_bytes)
        if self._places is not None:
            self._places.release(self.org)


def _closed(head: Head, closed: Closed) -> Decision:
    return Decision(
        reservation_id=head.client.id,
        admitted=False,
        refused_by=closed.key,
        shadow_refused_by=(),
        retry_after_ms=closed.retry_after_ms,
        held_nano_usd=0,
        now_ms=head.client.started_at_ms,
        rate=(),
        spend=(),
    )
