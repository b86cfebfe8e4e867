"""The services of a worker that the stages of an exchange use: built once by the composition root."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from aiohttp import ClientSession

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.directory import Directory
from tallygate.config.model import GatewayConfig
from tallygate.dialects.registry import Dialects
from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.domain.organization import Credential, Organization
from tallygate.domain.prompt import PromptShape
from tallygate.gateway.callers.foreign import ForeignCallers
from tallygate.gateway.cors import CorsPolicy
from tallygate.gateway.exchange.caller_limits import CallerLimits, limits_of
from tallygate.gateway.object_owners import ObjectOwners
from tallygate.gateway.routes import RouteTable
from tallygate.gateway.settling.settler import Settler
from tallygate.gateway.settling.withdrawals import Withdrawals
from tallygate.gateway.stored_directory import UsedCredentials
from tallygate.gateway.upstream import UpstreamClient
from tallygate.gateway.upstream_failures import UpstreamFailures
from tallygate.limiter.port import Limiter
from tallygate.shares.turns import Turns, at_once
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.unpriced_models import UnpricedModels

if TYPE_CHECKING:  # it takes values of the stages, which take these services
    from tallygate.gateway.refusal_log import RefusalLog

READ_AT_ONCE_BYTES_MAX: Final = 32_768  # at worst some 15 ms, in bodies of nothing but commas; usually far below one
_Result = TypeVar("_Result")


class Tokenizer(Protocol):
    """Token counts, long texts off the event loop, where organizations take turns."""

    async def prompt(self, shape: PromptShape, model: str | None, *, org: str) -> int: ...
    async def prompt_upper_bound(self, shape: PromptShape, model: str | None, *, org: str) -> int: ...
    def short_text(self, text: str, model: str | None) -> int | None: ...
    async def text(self, text: str, model: str | None, *, org: str) -> int: ...
    def completion(self, text_tokens: int, model: str | None, *, answers: int, calls: int) -> int: ...


class Fallback(Protocol):
    """Decides while the limiter's store is unreachable."""

    def admit(self, request: AdmissionRequest) -> Decision: ...
    def release(self, request: AdmissionRequest) -> None: ...


class DaySums(Protocol):
    """What was used on a day. requests: those that were served."""

    @property
    def requests(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def cost_nano_usd(self) -> int: ...


class TodaysUsage(Protocol):
    """The day's sums of an organization, in its time zone, and of one of its credentials. Raises StoreError."""

    async def __call__(self, organization: Organization, credential: str) -> tuple[DaySums, DaySums]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayBounds:
    """Maxima of the data plane.

    head_bytes_max          of a request's head; beyond it 431
    body_bytes_max          of a body that is read whole to be metered; streamed_bytes_max of one that streams through
    requests_open_max       exchanges at once; beyond it, or an organization's share of it, a new one is refused with 503
    socket_idle_seconds     for which a WebSocket may be silent without a response under way
    body_budget_bytes       of all bodies under way, from the first byte to the exchange's end; shared in the same way
    """

    head_bytes_max: int
    body_bytes_max: int
    streamed_bytes_max: int = 2_000_000_000
    requests_open_max: int
    body_budget_bytes: int
    lease_ms: int
    checkpoint_seconds: float
    socket_idle_seconds: float = 900.0


@dataclass(slots=True)
class View:
    """One configuration, made ready for the hot path. An exchange keeps the view it began with across a reload."""

    config: GatewayConfig
    routes: RouteTable
    directory: Directory
    prices: PriceCatalogue
    upstreams: Mapping[str, UpstreamClient]
    foreign: ForeignCallers
    _limits: dict[tuple[str, str, str, int], CallerLimits] = field(default_factory=dict)

    def limits_for(self, organization: Organization, credential: Credential, capability: str, weight: int = 1) -> CallerLimits:
        """The limits of a credential at a capability, cached. At most credentials (also attached ones) x capabilities x weights."""
        # with the organization: clients that tokens attach to two of them may have one name
        key = (organization.id, credential.id, capability, weight)
        limits = self._limits.get(key)
        if limits is None:
            limits = self._limits[key] = limits_of(organization, credential, capability, weight)
        return limits

    def directory_changed(self) -> None:
        """Drop caches of the former directory; open exchanges keep theirs."""
        self._limits.clear()
        self.foreign.clients.directory_changed()


def reading_turns() -> Turns:
    """Turns for parsing large bodies. One thread: parsing holds the interpreter lock, so a second would only slow the first."""
    return Turns(threads=1, name="reading")


@dataclass(slots=True, kw_only=True)
class Services:
    """See the module. view is replaced by a reload; everything else stays.

    session for requests of the gateway's own
    used_today        what an organization and one of its credentials used today; None without a ledger
    has_room_for_job  whether an organization may have one more job open; raises StoreError
    reading the thread that parses bodies which would block the loop too long
    upstream_failures  counted and logged
    refusal_log  of requests whose caller is known; None: they are counted alone
    clock   monotonic seconds, for durations: the loop's own time stands still within a turn and counts whole milliseconds on uvloop
    """

    view: View
    limiter: Limiter
    fallback: Fallback
    settler: Settler
    withdrawals: Withdrawals
    tokens: Tokenizer
    dialects: Dialects
    metrics: Metrics
    upstream_failures: UpstreamFailures
    bounds: GatewayBounds
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    now_ms: Callable[[], int]
    new_id: Callable[[], str]
    owners: ObjectOwners
    session: ClientSession
    has_room_for_job: Callable[[str], Awaitable[bool]]
    used_today: TodaysUsage | None = None
    reading: Turns = field(default_factory=reading_turns)
    cors: CorsPolicy = field(default_factory=CorsPolicy)
    refusal_log: "RefusalLog | None" = None
    used: UsedCredentials = field(default_factory=UsedCredentials)
    unpriced: UnpricedModels = field(default_factory=UnpricedModels)


async def work_on(services: Services, org: str, size: int, work: Callable[[], _Result]) -> _Result:
    """Work on a body of that size: here and now if it is small, else in a thread, in the organization's turn."""
    return work() if size <= READ_AT_ONCE_BYTES_MAX else await services.reading.run_in_turn(org, at_once(work))
