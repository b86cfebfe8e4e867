"""Values of the API's tests: organizations on three plans, and the events of their requests."""

import hashlib
from dataclasses import replace
from typing import Any

from settled_entry import a_settled_entry

from tallygate.config.model import Route
from tallygate.console.api_access import Access, AdminAccess
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.refused_request import RefusedRequest
from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger.entry import Entry

NOW_MS = 1_788_264_000_000  # 2026-09-01T12:00:00Z
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
USD = 10**9

FREE = Plan(id="free", api_access=False)
PAY = Plan(id="pay_as_you_go", spend_limits=(SpendLimit(name="spend_7d", limit_nano_usd=25 * USD),), history_days=90)
ENTERPRISE = Plan(id="enterprise", export=True)

ROUTES = (
    Route(method="POST", path="/v1/chat/completions", capability="chat", dialect="openai_chat"),
    Route(method="POST", path="/v1/embeddings", capability="embeddings", dialect="openai_embeddings"),
    Route(method="GET", path="/v1/models", capability="models"),
)


def a_credential(id_: str, **changed: Any) -> Credential:
    org = id_.partition("-")[0]
    return Credential(id=id_, org=org, key_sha256=hashlib.sha256(id_.encode()).digest(), **changed)


def an_organization(id_: str, plan: Plan = PAY, **changed: Any) -> Organization:
    credentials = (a_credential(f"{id_}-prod"), a_credential(f"{id_}-dev"))
    return replace(Organization(id=id_, name=id_.title(), plan=plan, credentials=credentials), **changed)


ACME = an_organization("acme", time_zone="America/New_York")
GLOBEX = an_organization("globex", ENTERPRISE)
INITECH = an_organization("initech", FREE)

# token to what it may: all, two organizations, one, and one that has no organization any more
TOKENS = {
    "platform": AdminAccess(actor="platform", access=Access.WRITE),
    "two": AdminAccess(actor="two", access=Access.WRITE, orgs=frozenset({"acme", "initech"})),
    "one": AdminAccess(actor="one", access=Access.READ, orgs=frozenset({"acme"})),
    "gone": AdminAccess(actor="gone", access=Access.READ, orgs=frozenset({"vanished"})),
}


def an_entry(number: int, **changed: Any) -> Entry:
    """A settled chat answer of Acme's, an hour ago."""
    at_ms = changed.get("settled_at_ms", NOW_MS - HOUR_MS)
    return a_settled_entry(**{"event_id": f"{at_ms:012x}{number:020x}", "settled_at_ms": at_ms, **changed})


def a_refusal(number: int, *, org: str = "acme", **changed: Any) -> RefusedRequest:
    """A line of the log of refused requests: a spend limit refused an answer of the organization's an hour ago."""
    at_ms = changed.get("at_ms", NOW_MS - HOUR_MS)
    fields: dict[str, Any] = {
        "id": f"{at_ms:012x}{number:020x}",
        "at_ms": at_ms,
        "org": org,
        "credential": f"{org}-prod",
        "capability": "chat",
        "status": 429,
        "code": "spend_limit_exceeded",
        "refused_by": "spend_7d",
        "request_id": f"request-{number}",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "model": "gpt-4o",
        "message": "Spend limit reached.",
        "spent_nano_usd": 24 * USD,
        "held_nano_usd": USD,
        "needed_nano_usd": 5,
        "limit_nano_usd": 25 * USD,
        "resets_at_ms": NOW_MS,
    }
    return RefusedRequest(**{**fields, **changed})
