"""GET /tallygate/me: what a caller's own key may do, what it has left, and what was used today.

It is no exchange: it takes nothing of any limit, goes nowhere upstream, and is answered while spend limits pause access. Whoever
asks often gets the same answer for a second, and is refused beyond `_OF_CREDENTIAL` and `_OF_ORGANIZATION`.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from tallygate.config.model import Route
from tallygate.domain.admission import LimitStates, RateDemand
from tallygate.domain.bound_limits import Bound, bound_rates, bound_spends, spend_demand
from tallygate.domain.calendar_months import months_around
from tallygate.domain.errors import ErrorCode, Refusal, Refused, StoreError
from tallygate.domain.instants import instant_text, optional_instant
from tallygate.domain.limits_now import (
    RateLimitNow,
    SpendLimitNow,
    is_exceeded,
    left_of,
    rate_limit_now,
    spend_limit_now,
)
from tallygate.domain.money import usd_text
from tallygate.domain.organization import Credential, Organization
from tallygate.domain.rate_limit import Quantity, RateLimit
from tallygate.domain.spend_limit import SpendLimit
from tallygate.gateway.callers.keys import check_caller, presented_key
from tallygate.gateway.exchange.answer import NO_STORE, exchange_headers
from tallygate.gateway.exchange.call import Client
from tallygate.gateway.refusals import store_refusal
from tallygate.gateway.routes import ME
from tallygate.gateway.services import DaySums, Services
from tallygate.http1.header import http_date
from tallygate.limiter.local_gate import Closed, LocalGate

ANSWER_SECONDS: Final = 1.0  # for which an answer stays
TODAY_SECONDS: Final = 10.0  # for which the ledger's sums stay
TODAY_TIMEOUT_SECONDS: Final = 2.0
WARN_SECONDS: Final = 60.0  # between two log lines about a ledger that does not answer
ANSWERS_MAX: Final = 2_000  # kept; beyond it the oldest are dropped, and asked for again
LEDGER_AT_ONCE: Final = 2  # questions of this worker
_OF_CREDENTIAL: Final = RateLimit(name="me_requests", quantity=Quantity.REQUESTS, refill_units=10, window_ms=1_000, capacity=20)
_OF_ORGANIZATION: Final = RateLimit(name="me_requests", quantity=Quantity.REQUESTS, refill_units=100, window_ms=1_000, capacity=200)
_NO_QUERY: Final = Refusal(
    code=ErrorCode.INVALID_REQUEST, message="GET /tallygate/me takes no query parameters but `key`.", should_retry=False
)
_log: Final = logging.getLogger(__name__)
_Kept = TypeVar("_Kept")


class UsedToday(msgspec.Struct, frozen=True, kw_only=True):
    requests: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: str


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's sums of the day in the organization's time zone. as_of: when they were read; what ended since is not in them."""

    as_of: str
    organization: UsedToday
    credential: UsedToday


class AskedOrganization(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    plan: str
    time_zone: str


class AskedCredential(msgspec.Struct, frozen=True, kw_only=True):
    """capabilities: those that it may use here. models: patterns, null for all. expires_at: null for never."""

    id: str
    name: str
    environment: str
    capabilities: list[str]
    models: list[str] | None
    expires_at: str | None


class MeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    status      paused: a spend limit refuses what costs
    resumes_at  when it resumes; null unless it is paused, or if waiting does not help
    spent_usd, held_usd, left_usd   of the spend limit that leaves the least; null without one
    today       null where the ledger does not answer
    """

    organization: AskedOrganization
    credential: AskedCredential
    as_of: str
    status: Literal["active", "paused"]
    resumes_at: str | None
    spent_usd: str | None
    held_usd: str | None
    left_usd: str | None
    spend_limits: list[SpendLimitNow]
    rate_limits: list[RateLimitNow]
    today: Today | None


class Me:
    """Answers for one worker."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._gate = LocalGate(services.now_ms)
        self._answers: dict[tuple[str, str], tuple[float, asyncio.Task[bytes | Refusal]]] = {}
        self._days: dict[tuple[str, str], tuple[float, Today | None]] = {}
        self._warned_at: float | None = None
        self._at_ledger = asyncio.Semaphore(LEDGER_AT_ONCE)

    async def serve(self, client: Client) -> None:
        """Answer one request. Raises Refused."""
        services, request, view = self._services, client.request, client.view
        if request.query_string and request.query.keys() - {"key"}:
            raise Refused(_NO_QUERY)
        key = presented_key(request)
        organization, credential = view.directory.find(key) or await view.foreign.find(key, request.remote or "")
        check_caller(organization, credential, client.started_at_ms)
        self._enter(organization, credential)
        answer = await self._answer(organization, credential, view.routes.routes)
        if isinstance(answer, Refusal):
            raise Refused(answer)
        client.response.close_if_awaited()
        lines = b"content-type: application/json\r\ndate: %b\r\n" % http_date(services.now_ms()) + NO_STORE
        client.response.whole(200, lines + exchange_headers(client, services.clock()), answer)

    def _enter(self, organization: Organization, credential: Credential) -> None:
        """Count the question. Raises Refused."""
        entry = self._gate.enter(organization.id, (("", _OF_ORGANIZATION), (credential.id, _OF_CREDENTIAL)))
        if isinstance(entry, Closed):
            limit = _OF_CREDENTIAL if entry.key else _OF_ORGANIZATION
            message = f"Rate limit reached: {limit.refill_units} requests per second to {ME.path}, whose answer stays for one."
            raise Refused(
                Refusal(
                    code=ErrorCode.RATE_LIMIT_EXCEEDED,
                    message=message,
                    retry_after_ms=max(entry.retry_after_ms, 1),
                    should_retry=True,
                    details={"limit": limit.name, "quantity": str(limit.quantity)},
                )
            )

    async def _answer(self, organization: Organization, credential: Credential, routes: Sequence[Route]) -> bytes | Refusal:
        """The answer, which all who ask within a second share. A refusal is a value here: as many as ask get it."""
        key, now = (organization.id, credential.id), self._services.clock()
        made_at, making = self._answers.get(key, (0.0, None))
        if making is None or now - made_at >= ANSWER_SECONDS:
            making = self._services.loop.create_task(self._make(organization, credential, routes))
            _keep(self._answers, key, (now, making))
        await asyncio.wait([making])  # a caller who leaves does not end it for the others
        return making.result()

    async def _make(self, organization: Organization, credential: Credential, routes: Sequence[Route]) -> bytes | Refusal:
        rates, spends = bound_rates(organization, credential), bound_spends(organization, credential)
        months = months_around(self._services.now_ms(), organization.time_zone, organization.billing_day)
        try:
            states = await self._services.limiter.read_limits(
                organization.id,
                [RateDemand(key=each.key, limit=each.limit, units=1) for each in rates],
                [spend_demand(each, months) for each in spends],
            )
        except StoreError:
            return store_refusal(rebuilding=False)
        if spends and not states.knows_spend:
            return store_refusal(rebuilding=True)
        today = await self._today(organization, credential)
        answer = MeAnswer(
            organization=_asked_organization(organization),
            credential=_asked_credential(organization, credential, routes),
            today=today,
            **_limits(organization.time_zone, rates, spends, states),
        )
        return msgspec.json.encode(answer) + b"\n"

    async def _today(self, organization: Organization, credential: Credential) -> Today | None:
        """The day's sums, read now or in the last seconds; None if the ledger does not answer in time."""
        key, now, used_today = (organization.id, credential.id), self._services.clock(), self._services.used_today
        known = self._days.get(key)
        if used_today is None or (known is not None and now - known[0] < TODAY_SECONDS):
            return None if known is None else known[1]
        today: Today | None = None
        as_of = instant_text(self._services.now_ms(), organization.time_zone)
        try:
            async with asyncio.timeout(TODAY_TIMEOUT_SECONDS), self._at_ledger:
                whole, own = await used_today(organization, credential.id)
            today = Today(as_of=as_of, organization=_used(whole), credential=_used(own))
        except (StoreError, TimeoutError) as error:
            if self._warned_at is None or now - self._warned_at >= WARN_SECONDS:
                self._warned_at = now
                _log.warning("the ledger did not say what was used today: %s", str(error) or "no answer in time")
        _keep(self._days, key, (now, today))
        return today


def _keep(table: dict[tuple[str, str], _Kept], key: tuple[str, str], kept: _Kept) -> None:
    table.pop(key, None)
    while len(table) >= ANSWERS_MAX:
        del table[next(iter(table))]
    table[key] = kept


def _used(sums: DaySums) -> UsedToday:
    return UsedToday(
        requests=sums.requests,
        refused=sums.refused,
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        cost_usd=usd_text(sums.cost_nano_usd),
    )


def _asked_organization(organization: Organization) -> AskedOrganization:
    return AskedOrganization(
        id=organization.id, name=organization.name, plan=organization.plan.id, time_zone=organization.time_zone
    )


def _asked_credential(organization: Organization, credential: Credential, routes: Sequence[Route]) -> AskedCredential:
    return AskedCredential(
        id=credential.id,
        name=credential.name,
        environment=credential.environment,
        capabilities=_capabilities(organization, credential, routes),
        models=None if credential.models is None else list(credential.models),
        expires_at=optional_instant(credential.expires_at_ms),
    )


def _limits(
    zone: str, rates: Sequence[Bound[RateLimit]], spends: Sequence[Bound[SpendLimit]], states: LimitStates
) -> dict[str, Any]:
    """The members of MeAnswer about limits."""
    windows = list(zip(spends, states.spend, strict=True))
    enforced = [(bound.limit, state) for bound, state in windows if not bound.limit.shadow]
    tightest = min(enforced, key=lambda window: left_of(*window), default=None)
    ends = [state.paused_until_ms for limit, state in enforced if is_exceeded(limit, state)]
    resumes_ms = max(ends, default=0) if all(ends) else 0
    return {
        "as_of": instant_text(states.now_ms, zone),
        "status": "paused" if ends else "active",
        "resumes_at": instant_text(resumes_ms, zone) if resumes_ms else None,
        "spent_usd": None if tightest is None else usd_text(tightest[1].spent_nano_usd),
        "held_usd": None if tightest is None else usd_text(tightest[1].held_nano_usd),
        "left_usd": None if tightest is None else usd_text(left_of(*tightest)),
        "spend_limits": [spend_limit_now(bound, state, zone) for bound, state in windows],
        "rate_limits": [rate_limit_now(bound, state, states.now_ms, zone) for bound, state in zip(rates, states.rate, strict=True)],
    }


def _capabilities(organization: Organization, credential: Credential, routes: Sequence[Route]) -> list[str]:
    """Those of the routes that are on, which plan and credential allow."""
    found = {route.capability for route in routes if route.enabled}
    for allowed in (organization.plan.capabilities, credential.capabilities):
        if allowed is not None:
            found &= allowed
    return sorted(found)
