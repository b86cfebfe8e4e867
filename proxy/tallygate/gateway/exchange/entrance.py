"""Who comes in: what of an organization is open at this worker, before anything of its body is read.

All that is counted here is the worker's own. The store is asked only for bodies that are dear to read (`look`).
"""

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.domain.errors import Refusal, StoreError
from tallygate.gateway.exchange.live_exchange import LiveExchange
from tallygate.gateway.refusals import limiter_refusal, overloaded
from tallygate.gateway.services import Services
from tallygate.limiter.local_gate import Closed, Entry, LocalGate
from tallygate.shares.fair_places import FairPlaces
from tallygate.shares.fair_shares import FairShares

DEAR_BODY_BYTES: Final = 65_536  # from here on a question to the store costs less than the reading
FREE_LIST_UNITS: Final = 10
_NOT_TAKEN: Final = frozenset({429, 503})  # refused for a limit, not for what the request is


@dataclass(slots=True, eq=False)
class Visit:
    """What an exchange takes of this worker until it ends. body_bytes: reserved for its body; places: where it has one."""

    org: str
    entry: Entry
    body_bytes: int = 0
    places: FairPlaces | None = None


class Entrance:
    """Fair shares of a worker's open requests and of the memory for bodies, and the local side of rate limits.

    Requests of weight 0, which rate limits do not count, have a rate of their own here (`FREE_REQUESTS`). A list of stored objects
    counts as ten of them, since the upstream may be asked for up to 50 pages until one has something of the organization's.
    """

    def __init__(self, services: Services) -> None:
        limits = services.limits
        self._services = services
        self._gate = LocalGate(services.now_ms)
        self._room = FairShares(limits.requests_open_max)
        self._bodies = FairShares(max(limits.body_budget_bytes, limits.body_bytes_max))
        self._visits: dict[LiveExchange, Visit] = {}

    @property
    def body_bytes(self) -> int:
        """Reserved for bodies now."""
        return self._bodies.taken

    def enter(self, live: LiveExchange) -> Refusal | None:
        """Take a place, one of each limit on requests and a slot of each on open requests."""
        organization, _, terms = live.parties
        org = organization.id
        if not self._room.take(org, 1):
            return overloaded("Your organization has too many requests open at this gateway.")
        units = terms.weight or (FREE_LIST_UNITS if live.found_route.objects.lists else 1)
        entry = self._gate.enter(org, terms.gate, units)
        if isinstance(entry, Closed):
            self._room.give_back(org, 1)
            return limiter_refusal(_closed(live, entry), terms, hold_nano_usd=0)
        self._visits[live] = Visit(org, entry)
        return None

    def leave(self, live: LiveExchange) -> None:
        """Give back what `enter` and `reserve` took. An exchange that was never let in has nothing."""
        visit = self._visits.pop(live, None)
        if visit is not None:
            self._gate.leave(visit.entry)
            self._room.give_back(visit.org, 1)
            self._bodies.give_back(visit.org, visit.body_bytes)
            if visit.places is not None:
                visit.places.give_back(visit.org)

    def refused(self, live: LiveExchange, refusal: Refusal) -> None:
        """Whom a limit refuses has used none of it; what is refused for its content counts against its sender."""
        visit = self._visits.get(live)
        if visit is not None and refusal.status in _NOT_TAKEN:
            self._gate.give_back(visit.entry)

    def reserve(self, live: LiveExchange, size: int) -> Refusal | None:
        """Room for so many more bytes of the body, kept until the exchange ends."""
        visit = self._visits[live]
        if not self._bodies.take(visit.org, size):
            return overloaded("The request bodies of your organization take too much of this gateway's memory.")
        visit.body_bytes += size
        return None

    async def wait_for_upstream(self, live: LiveExchange) -> Refusal | None:
        """Take a place at the upstream; past the organization's share, once another of its requests has ended there."""
        visit, upstream = self._visits[live], live.upstream
        if not await upstream.places.take(visit.org, seconds=upstream.config.connect_ms / 1000):
            return overloaded("Your organization has too many requests under way at this AI service.")
        visit.places = upstream.places
        return None

    async def look_before_body(self, live: LiveExchange, request: web.BaseRequest) -> Refusal | None:
        """Whether a limit refuses already, where the body is large, of unknown size, or waits for our word."""
        if not request.body_exists or not live.is_body_read:
            return None
        length = None if live.codings else request.content_length  # a coded body is as large as it turns out to be
        if length is not None and length < DEAR_BODY_BYTES and "Expect" not in request.headers:
            return None
        return await self.look(live, least_nano_usd=live.found_route.fee_nano_usd or 1)

    async def look(self, live: LiveExchange, *, least_nano_usd: int) -> Refusal | None:
        """Whether the limiter would refuse a request that costs that much at least. Without the store, admission decides."""
        organization, _, terms = live.parties
        if not terms.rate and not terms.spend:
            return None
        asked = AdmissionRequest(
            reservation_id=live.id,
            org=organization.id,
            rate=terms.rate_demands(0),
            spend=terms.spend_demands(live.started_at_ms),
            hold_nano_usd=least_nano_usd,
            hold_min_nano_usd=least_nano_usd,
            floor_nano_usd=0,
            lease_ms=self._services.limits.lease_ms,
            event=b"",
        )
        try:
            decision = await self._services.limiter.look(asked)
        except StoreError:
            return None
        if decision.admitted:
            return None
        live.decision = decision
        fee = live.found_route.fee_nano_usd
        return limiter_refusal(decision, terms, hold_nano_usd=least_nano_usd, fee_nano_usd=fee)


def _closed(live: LiveExchange, closed: Closed) -> Decision:
    return Decision(
        reservation_id=live.id,
        admitted=False,
        refused_by=closed.key,
        shadow_refused_by=(),
        retry_after_ms=closed.retry_after_ms,
        held_nano_usd=0,
        now_ms=live.started_at_ms,
        rate=(),
        spend=(),
    )
