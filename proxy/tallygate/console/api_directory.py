"""GET /api/credentials and /api/capabilities: the values that queries can name. No key, no digest."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from tallygate.config.model import Route
from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_parameters import integer
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import ORG, Scopes
from tallygate.console.api_usage import CURSOR
from tallygate.console.declared_shapes import line_values, with_members_of
from tallygate.domain.organization import CREDENTIAL_FIELDS, Credential, Organization
from tallygate.domain.rate_limit import RATE_LIMIT_FIELDS, RateLimit
from tallygate.domain.spend_limit import SPEND_LIMIT_FIELDS, SpendLimit

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1_000
_LIMIT: Final = integer("limit", "Entries of a page.", least=1, most=PAGE_MAX, default=PAGE_DEFAULT)


@with_members_of(*RATE_LIMIT_FIELDS.values())
class RateLimitLine(msgspec.Struct, frozen=True, kw_only=True):
    """refill_units, window_seconds: null for open requests."""

    name: str
    quantity: str


@with_members_of(SPEND_LIMIT_FIELDS)
class SpendLimitLine(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str


@with_members_of(CREDENTIAL_FIELDS)
class CredentialLine(msgspec.Struct, frozen=True, kw_only=True):
    """id is the Client ID. capabilities, models: null for all. expires_at: null for never."""

    id: str
    org: str
    has_key: bool
    rate_limits: list[RateLimitLine]
    spend_limits: list[SpendLimitLine]


class CredentialsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    credentials: list[CredentialLine]
    next_cursor: str | None


class EndpointLine(msgspec.Struct, frozen=True, kw_only=True):
    """is_metered: whether its tokens and cost are counted."""

    method: str
    path: str
    is_metered: bool


class CapabilityLine(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    endpoints: list[EndpointLine]


class CapabilitiesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    capabilities: list[CapabilityLine]


class DirectoryApi:
    def __init__(self, *, scopes: Scopes, routes_in_force: Callable[[], Iterable[Route]]) -> None:
        self._scopes = scopes
        self._routes = routes_in_force

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/credentials",
                handler=self._credentials,
                summary="Credentials of organizations",
                parameters=(ORG, _LIMIT, CURSOR),
                answer=CredentialsAnswer,
                tag="directory",
            ),
            ApiRoute(
                method="GET",
                path="/api/capabilities",
                handler=self._capabilities,
                summary="Capabilities and their endpoints",
                answer=CapabilitiesAnswer,
                tag="directory",
            ),
        )

    async def _credentials(self, call: ApiCall) -> CredentialsAnswer:
        """List credentials. Changes between two pages shift nothing, since a position is a name, not a number."""
        organizations = await self._asked(call)
        question = question_of("/api/credentials", call.values)
        cursor: str | None = call.values["cursor"]
        after = "" if cursor is None else unseal("cursor", cursor, question)
        after_org, _, after_credential = after.partition("\n")
        limit: int = call.values["limit"]
        found: list[Credential] = []
        for organization in (one for one in organizations if one.id >= after_org):
            held = sorted(organization.credentials, key=lambda credential: credential.id)
            found += [item for item in held if organization.id > after_org or item.id > after_credential]
            if len(found) > limit:
                break
        page = found[:limit]
        return CredentialsAnswer(
            credentials=[_credential(item) for item in page],
            next_cursor=seal(f"{page[-1].org}\n{page[-1].id}", question) if len(found) > limit else None,
        )

    async def _capabilities(self, _call: ApiCall) -> CapabilitiesAnswer:
        endpoints: dict[str, list[EndpointLine]] = {}
        for route in self._routes():
            line = EndpointLine(method=route.method, path=route.endpoint, is_metered=route.dialect is not None)
            endpoints.setdefault(route.capability, []).append(line)
        return CapabilitiesAnswer(
            capabilities=[CapabilityLine(name=name, endpoints=lines) for name, lines in sorted(endpoints.items())]
        )

    async def _asked(self, call: ApiCall) -> Iterable[Organization]:
        """The organizations in the order of their ids: those that were named, retired ones too, or all that the token sees."""
        named: Sequence[str] = call.values["org"]
        if named:
            return await self._scopes.of_history(call.access, named)
        return (self._scopes.organization(call.access, org) for org in self._scopes.visible(call.access))


def _credential(credential: Credential) -> CredentialLine:
    return CredentialLine(
        id=credential.id,
        org=credential.org,
        has_key=bool(credential.key_sha256),
        rate_limits=[_rate_limit(limit) for limit in credential.rate_limits],
        spend_limits=[_spend_limit(limit) for limit in credential.spend_limits],
        **line_values(CREDENTIAL_FIELDS, credential),
    )


def _rate_limit(limit: RateLimit) -> RateLimitLine:
    return RateLimitLine(
        name=limit.name,
        quantity=limit.quantity.value,
        **line_values(RATE_LIMIT_FIELDS[limit.quantity], limit, *RATE_LIMIT_FIELDS.values()),
    )


def _spend_limit(limit: SpendLimit) -> SpendLimitLine:
    return SpendLimitLine(name=limit.name, kind=limit.kind.value, **line_values(SPEND_LIMIT_FIELDS, limit))
