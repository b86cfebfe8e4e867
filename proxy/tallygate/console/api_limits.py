"""GET /api/limits: what is left of rate limits, read from the limiter itself. Spend limits are under /api/spend."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from tallygate.console.api_parameters import text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import ONE_ORG, Scopes
from tallygate.domain.admission import LimitStates, RateDemand, SpendDemand
from tallygate.domain.bound_limits import bound_rates
from tallygate.domain.instants import instant_text
from tallygate.domain.limits_now import RateLimitNow, rate_limit_now
from tallygate.domain.organization import Credential, Organization

ReadLimits = Callable[[str, Sequence[RateDemand], Sequence[SpendDemand]], Awaitable[LimitStates]]
_CREDENTIAL: Final = text("credential", "A Client ID: every limit on its requests, those of its organization too.")


class LimitsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """as_of: by the limiter's clock."""

    org: str
    credential: str | None
    time_zone: str
    as_of: str
    limits: list[RateLimitNow]


class LimitsApi:
    """The endpoint. read_limits: the limiter's, which changes nothing; raises StoreError."""

    def __init__(self, *, scopes: Scopes, read_limits: ReadLimits) -> None:
        self._scopes = scopes
        self._read_limits = read_limits

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/limits",
                handler=self._limits,
                summary="Rate limits of an organization, and what is left of them now",
                parameters=(ONE_ORG, _CREDENTIAL),
                answer=LimitsAnswer,
            ),
        )

    async def _limits(self, call: ApiCall) -> LimitsAnswer:
        organization = self._scopes.one(call.access, call.values["org"])
        client_id: str | None = call.values["credential"]
        if client_id is not None:
            await self._scopes.check_credentials((organization,), (client_id,))
        bound = bound_rates(organization, None if client_id is None else _credential(organization, client_id))
        demands = [RateDemand(key=each.key, limit=each.limit, units=1) for each in bound]
        states = await self._read_limits(organization.id, demands, ())
        zone = organization.time_zone
        return LimitsAnswer(
            org=organization.id,
            credential=client_id,
            time_zone=zone,
            as_of=instant_text(states.now_ms, zone),
            limits=[rate_limit_now(each, state, states.now_ms, zone) for each, state in zip(bound, states.rate, strict=True)],
        )


def _credential(organization: Organization, client_id: str) -> Credential:
    """One of the organization's, or one that a token named, which has no limits of its own."""
    found = next((credential for credential in organization.credentials if credential.id == client_id), None)
    return found or Credential(id=client_id, org=organization.id, key_sha256=b"")
