"""Reviewed configuration as frozen values. `load.py` loads it; `settings.py` has the process's addresses and secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from tallygate.config.cache_ratios import DEFAULT_RATIOS, FamilyRatios
from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.jwt_issuer import JwtIssuer
from tallygate.config.key_lookup import KeyLookup
from tallygate.config.kinds import Decimal, Parsed
from tallygate.config.plans import StatedPlan
from tallygate.config.route_objects import NO_OBJECTS, RouteObjects
from tallygate.config.sign_in import OpenIdProvider
from tallygate.config.urls import url_path
from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.domain.declared import Choice, Duration, Flag, WholeNumber, declared_fields
from tallygate.domain.organization import Organization, Plan
from tallygate.domain.ratio import percent
from tallygate.outbound.way_out import ProxyServer

WEBSOCKET: Final = "WEBSOCKET"  # the method of a route whose requests are GETs that offer to speak WebSocket (RFC 6455)


RESERVED_PATH: Final = "/tallygate"  # and what lies below it: the gateway's own endpoints
TIMEOUT_MAX_MS: Final = 3_600_000
TOKENS_PER_SECOND_MAX: Final = 1_000_000
CONNECTIONS_MAX: Final = 100_000
DRAIN_BYTES_MAX: Final = 100_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One endpoint: method and path template, with its capability and dialect.

    method    of HTTP, or WEBSOCKET
    path      literal segments and parameters: `{name}` matches one segment or the part of one up to the next literal
              ("/v1beta/models/{model}:generateContent"), never a slash; `{name*}` also matches slashes
    dialect   None: not metered; a request counts, its tokens do not
    enabled   False: requests are refused; for endpoints whose cost cannot be known
    weight    the number of requests that one counts as, against rate limits of requests; 0: none, and no spend limit's pause
              stops it
    fee_nano_usd   of one request, beside the cost of its tokens
    markup    millionths that the upstream bills above its list prices; None: the upstream's own
    query     further query parameters that pass; headers: further request headers, in lower case
    objects   what it does with objects that the upstream stores
    endpoint  the path as shown in usage, the same whether a parameter matches slashes or not
    """

    method: str
    path: str
    capability: str
    dialect: str | None = None
    upstream: str = "default"
    enabled: bool = True
    weight: int = 1
    fee_nano_usd: int = 0
    markup: int | None = None
    query: frozenset[str] = frozenset()
    headers: frozenset[bytes] = frozenset()
    objects: RouteObjects = NO_OBJECTS
    endpoint: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", self.path.replace("*}", "}"))


class AuthKind(StrEnum):
    PASSTHROUGH = "passthrough"  # the client's own key is forwarded, unless tallygate issued it
    BEARER = "bearer"  # the operator's secret
    OAUTH2_CLIENT_CREDENTIALS = "oauth2_client_credentials"


class OnDisconnect(StrEnum):
    """The treatment of an upstream's answer after the client has left. Reading on is bounded in time, number and bytes."""

    GRACE = (
        "grace"  # an answer that is not streamed is read to its end, since the provider completes it anyway; a stream for a moment
    )
    DRAIN = "drain"  # every answer is read to its end
    CANCEL = "cancel"  # close at once, for an upstream that then stops, streaming or not


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAuth:
    """The gateway's authentication at an upstream.

    header      "auto": the header of the route's dialect; else authorization, x-api-key, x-goog-api-key or api-key
    secret      the bearer key or the OAuth2 client secret; never shown
    """

    kind: AuthKind = AuthKind.PASSTHROUGH
    header: str = "auto"
    secret: str = field(default="", repr=False)
    token_url: str = ""
    client_id: str = ""
    scope: str = ""


class StatedCostPolicy(StrEnum):
    """What becomes of a cost that an upstream states in its answers."""

    COMPARE = "compare"  # it is kept beside ours
    SETTLE = "settle"  # it is charged


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A server forwarded to. Timeouts in milliseconds. Its plain fields are declared once, here.

    base_url            scheme, host, optional port and path prefix; route paths are appended
    idle_ms             between two reads of a body
    drain_max, drain_bytes   of each worker
    catalogue_path      "" for none
    cache_ratios        prices of cached tokens, as ratios to its input rates
    markup              millionths
    ca_pem              PEM certificates trusted beside the system's; proxy: the proxy on the way there
    """

    name: str
    base_url: str
    auth: UpstreamAuth = UpstreamAuth()
    ask_usage: Annotated[bool, Flag("Ask for a stream's usage if the client did not, and hide it again; some servers refuse.")] = (
        True
    )
    on_disconnect: Annotated[
        OnDisconnect,
        Choice(
            "What happens to an answer when its client leaves: `grace` reads one that is not streamed to its end, and a stream for "
            "`grace`; `drain` reads every answer to its end; `cancel` none.",
            words={policy.value: policy for policy in OnDisconnect},
        ),
    ] = OnDisconnect.GRACE
    connect_ms: Annotated[int, Duration("Until a connection stands.", 1, TIMEOUT_MAX_MS, key="connect_timeout")] = 5_000
    first_byte_ms: Annotated[
        int, Duration("From the request to the headers of its answer.", 1, TIMEOUT_MAX_MS, key="first_byte_timeout")
    ] = 600_000
    idle_ms: Annotated[int, Duration("Between two pieces of an answer.", 1, TIMEOUT_MAX_MS, key="idle_timeout")] = 300_000
    pool_max: Annotated[int, WholeNumber("Connections of each worker.", 1, CONNECTIONS_MAX)] = 1_000
    pool_idle_ms: Annotated[int, Duration("How long an idle connection is kept.", 1, TIMEOUT_MAX_MS, key="pool_idle")] = 15_000
    pool_age_ms: Annotated[
        int, Duration("How long a connection is used: a new one goes where the name then leads.", 1, TIMEOUT_MAX_MS, key="pool_age")
    ] = 300_000
    grace_ms: Annotated[
        int,
        Duration("How long a stream is read after its client left, with `on_disconnect: grace`.", 1, TIMEOUT_MAX_MS, key="grace"),
    ] = 5_000
    drain_ms: Annotated[
        int, Duration("How long any other answer is read after its client left.", 1, TIMEOUT_MAX_MS, key="drain_timeout")
    ] = 600_000
    drain_max: Annotated[int, WholeNumber("Answers without a client that a worker reads at once.", 1, CONNECTIONS_MAX)] = 400
    drain_org_max: Annotated[int, WholeNumber("Those of one organization.", 1, CONNECTIONS_MAX)] = 100
    drain_bytes: Annotated[int, WholeNumber("Bytes of answers without a client that a worker reads.", 1, DRAIN_BYTES_MAX)] = (
        64_000_000
    )
    drain_org_bytes: Annotated[int, WholeNumber("Those of one organization.", 1, DRAIN_BYTES_MAX)] = 16_000_000
    hides_reasoning: Annotated[
        bool, Flag("Whether its models may generate tokens that no answer shows, unless their price row denies it.")
    ] = True
    tokens_per_second_max: Annotated[
        int,
        WholeNumber("An upper bound of its speed for one answer: limits what was generated unseen.", 1, TOKENS_PER_SECOND_MAX),
    ] = 3_000
    catalogue_path: Annotated[
        str,
        Parsed(
            "The path of the upstream's own price catalogue, which prices.yaml overrides.",
            parse=url_path,
            pattern="^/",
            example="/platform/v2/models",
        ),
    ] = ""
    catalogue_ttl_ms: Annotated[
        int, Duration("How often the catalogue is fetched.", 60_000, 7 * 86_400_000, key="catalogue_ttl")
    ] = 3_600_000
    cache_ratios: FamilyRatios = DEFAULT_RATIOS
    stated_cost: Annotated[
        StatedCostPolicy,
        Choice(
            "What becomes of a cost that its answers state: `compare` keeps it beside ours, `settle` charges it.",
            words={policy.value: policy for policy in StatedCostPolicy},
        ),
    ] = StatedCostPolicy.COMPARE
    markup: Annotated[
        int, Decimal("What it bills above its list prices, for routes that state none.", key="markup_percent", parse=percent)
    ] = 0
    ca_pem: str = field(default="", repr=False)
    proxy: ProxyServer | None = None


UPSTREAM_FIELDS: Final = declared_fields(Upstream)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything that is reviewed and hot-reloaded.

    stated_plans  the plans with the bounds for organizations, needed for organizations in the database
    version       a short digest of the files, shown in logs and metrics
    files         the operator's own files, with a digest of each
    capabilities  those that routes have
    """

    plans: Mapping[str, Plan]
    routes: tuple[Route, ...]
    upstreams: Mapping[str, Upstream]
    prices: PriceCatalogue
    organizations: tuple[Organization, ...]
    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    stated_plans: Mapping[str, StatedPlan] = field(default_factory=dict)
    jwt_issuers: tuple[JwtIssuer, ...] = ()
    key_lookup: KeyLookup | None = None
    webhooks: tuple[WebhookEndpoint, ...] = ()
    openid: OpenIdProvider | None = None
    capabilities: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "capabilities", frozenset(route.capability for route in self.routes))
