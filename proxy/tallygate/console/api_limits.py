"""GET /api/limits: what is left of rate limits, read from the limiter itself. Spend limits are under /api/spend."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from tallygate.console.api_parameters import text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import ONE_ORG, Scopes
from tallygate.domain.admission import LimitStates, RateDemand, RateState, SpendDemand
from tallygate.domain.bound_limits import Bound, bound_rates, per_of
from tallygate.domain.instants import instant_text
from tallygate.domain.limit_words import LimitMode, mode_of, rate_sentence
from tallygate.domain.organization import Credential, Organization
from tallygate.domain.rate_limit import LimitScope, RateLimit, Taken

ReadLimits = Callable[[str, Sequence[RateDemand], Sequence[SpendDemand]], Awaitable[LimitStates]]
_CREDENTIAL: Final = text("credential", "A Client ID: every limit on its requests, those of its organization too.")


class LimitLine(msgspec.Struct, frozen=True, kw_only=True):
    """One rate limit now.

    kind            requests, tokens (of models) or open_requests
    per             whose bucket it is; credential: the Client ID, null for the organization's
    capability      null: all count
    window_seconds  over which `limit` is regained, evenly; null for open requests
    limit           units of a window; burst: the most at once, null for open requests
    next_at         when the next unit is there; null while some are left, or if only open requests stand in the way
    resets_at       when all are there again; null if they are, and for open requests
    mode            shadow: it counts, and refuses nothing
    text            all of it in a sentence
    """

    name: str
    kind: str
    per: LimitScope
    credential: str | None
    capability: str | None
    window_seconds: float | None
    limit: int
    burst: int | None
    remaining: int
    next_at: str | None
    resets_at: str | None
    mode: LimitMode
    text: str


class LimitsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """as_of: by the limiter's clock."""

    org: str
    credential: str | None
    time_zone: str
    as_of: str
    limits: list[LimitLine]


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
            limits=[_line(each, state, states.now_ms, zone) for each, state in zip(bound, states.rate, strict=True)],
        )


def _credential(organization: Organization, client_id: str) -> Credential:
    """One of the organization's, or one that a token named, which has no limits of its own."""
    found = next((credential for credential in organization.credentials if credential.id == client_id), None)
    return found or Credential(id=client_id, org=organization.id, key_sha256=b"")


def _line(bound: Bound[RateLimit], state: RateState, now_ms: int, zone: str) -> LimitLine:
    limit = bound.limit
    is_open = limit.quantity.taken is Taken.WHILE_OPEN
    is_empty = state.remaining == 0 and not is_open and not state.waits_for_others
    return LimitLine(
        name=limit.name,
        kind=limit.quantity.value,
        per=per_of(bound.credential),
        credential=bound.credential,
        capability=limit.capability,
        window_seconds=None if is_open else limit.window_ms / 1000,
        limit=limit.capacity if is_open else limit.refill_units,
        burst=None if is_open else limit.capacity,
        remaining=state.remaining,
        next_at=instant_text(now_ms + state.retry_after_ms, zone) if is_empty else None,
        resets_at=instant_text(now_ms + state.reset_ms, zone) if state.reset_ms else None,
        mode=mode_of(limit),
        text=rate_sentence(limit, state, per_of(bound.credential)),
    )
