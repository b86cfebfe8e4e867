"""GET /api/limits: what is left of each rate limit, as the limiter decides, and asking takes nothing."""

from dataclasses import replace

import pytest
from api_values import ACME, MINUTE_MS, NOW_MS, PAY, a_credential, an_entry
from api_world import World

from tallygate.domain.admission import AdmissionRequest, RateDemand
from tallygate.domain.bound_limits import bound_rates
from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Credential
from tallygate.domain.rate_limit import LimitScope, Quantity, RateLimit

PER_MINUTE = RateLimit(name="requests_per_1m", quantity=Quantity.REQUESTS, refill_units=60, window_ms=MINUTE_MS, capacity=60)
TOKENS = RateLimit(
    name="tokens_per_1m", quantity=Quantity.TOKENS, refill_units=1000, window_ms=MINUTE_MS, capacity=3000, capability="chat"
)
OPEN = RateLimit(
    name="open_requests",
    quantity=Quantity.OPEN_REQUESTS,
    refill_units=0,
    window_ms=0,
    capacity=4,
    scope=LimitScope.CREDENTIAL,
    shadow=True,
)
SHADOW = "It is in shadow mode: it counts, and refuses nothing."
OWN = replace(PER_MINUTE, name="requests_per_1h", refill_units=10, capacity=10, window_ms=60 * MINUTE_MS)
ORGANIZATION = replace(
    ACME,
    plan=replace(PAY, rate_limits=(PER_MINUTE, TOKENS, OPEN)),
    credentials=(a_credential("acme-prod", rate_limits=(OWN,)), a_credential("acme-dev")),
)


@pytest.fixture
def limited(world: World) -> World:
    world.organizations["acme"] = ORGANIZATION
    return world


async def take(world: World, number: int, *, requests: int = 1, tokens: int = 0, client: str = "acme-prod") -> None:
    """What a request takes at the limiter."""
    credential = next((each for each in ORGANIZATION.credentials if each.id == client), None)
    units = {Quantity.REQUESTS: requests, Quantity.TOKENS: tokens, Quantity.OPEN_REQUESTS: 1}
    bound = bound_rates(ORGANIZATION, credential or Credential(id=client, org="acme", key_sha256=b""))
    await world.limiter.admit(
        AdmissionRequest(
            reservation_id=f"r{number}",
            org="acme",
            rate=tuple(RateDemand(key=each.key, limit=each.limit, units=units[each.limit.quantity]) for each in bound),
            spend=(),
            hold_nano_usd=0,
            hold_min_nano_usd=0,
            floor_nano_usd=0,
            lease_ms=MINUTE_MS,
            event=b"{}",
        )
    )


async def test_untouched_limits_are_full(limited: World) -> None:
    body = await limited.ok("/api/limits", org="acme")

    assert (body["org"], body["credential"], body["as_of"]) == ("acme", None, "2026-09-01T08:00:00-04:00")
    requests, tokens = body["limits"]  # those of single credentials only where one is named
    assert requests == {
        "name": "requests_per_1m",
        "kind": "requests",
        "per": "organization",
        "credential": None,
        "capability": None,
        "window_seconds": 60,
        "limit": 60,
        "burst": 60,
        "remaining": 60,
        "next_at": None,
        "resets_at": None,
        "mode": "enforced",
        "text": "60 requests per minute of the organization: all 60 are left.",
    }
    assert (tokens["capability"], tokens["limit"], tokens["burst"]) == ("chat", 1000, 3000)


async def test_what_requests_took_is_gone_until_it_is_regained(limited: World) -> None:
    for number in range(8):
        await take(limited, number, requests=6, client="acme-dev")

    requests = (await limited.ok("/api/limits", org="acme"))["limits"][0]
    assert (requests["remaining"], requests["next_at"], requests["resets_at"]) == (12, None, "2026-09-01T08:00:48-04:00")
    assert requests["text"] == "60 requests per minute of the organization: 12 left; all 60 again in 48 seconds."

    await take(limited, 9, requests=12, client="acme-dev")
    limited.now_ms += 400
    requests = (await limited.ok("/api/limits", org="acme"))["limits"][0]
    assert (requests["remaining"], requests["next_at"]) == (0, "2026-09-01T08:00:01-04:00")
    assert requests["text"] == "60 requests per minute of the organization: none left; the next is free in 1 second."


async def test_a_credential_has_its_organizations_limits_and_its_own(limited: World) -> None:
    await take(limited, 1, requests=10, tokens=500)
    await take(limited, 2, client="acme-dev")

    limits = (await limited.ok("/api/limits", org="acme", credential="acme-prod"))["limits"]

    found = [(each["name"], each["per"], each["credential"], each["remaining"], each["mode"]) for each in limits]
    assert found == [
        ("requests_per_1m", "organization", None, 49, "enforced"),
        ("tokens_per_1m", "organization", None, 2500, "enforced"),
        ("open_requests", "credential", "acme-prod", 3, "shadow"),
        ("requests_per_1h", "credential", "acme-prod", 0, "enforced"),
    ]
    assert [each["text"] for each in limits[1:]] == [
        "1,000 tokens for chat per minute of the organization, 3,000 at once: 2,500 left; all 3,000 again in 30 seconds.",
        f"At most 4 requests of the credential open at once: 1 open, 3 more may be. {SHADOW}",
        "10 requests per hour of the credential: none left; the next is free in 6 minutes.",
    ]
    assert (limits[2]["window_seconds"], limits[2]["limit"], limits[2]["burst"], limits[2]["resets_at"]) == (None, 4, None, None)


async def test_a_client_that_only_a_token_named_has_the_plans_limits(limited: World) -> None:
    await limited.record([an_entry(1, credential="by-token", settled_at_ms=NOW_MS - MINUTE_MS)])
    await take(limited, 1, client="by-token")
    limits = (await limited.ok("/api/limits", org="acme", credential="by-token"))["limits"]
    assert [(each["name"], each["remaining"]) for each in limits] == [
        ("requests_per_1m", 59),
        ("tokens_per_1m", 3000),
        ("open_requests", 3),
    ]


async def test_a_store_that_does_not_answer_is_no_full_limit(limited: World) -> None:
    limited.windows.error = StoreError("away")
    status, body = await limited.get("/api/limits", org="acme")
    assert (status, body["error"]["code"]) == (503, "limiter_unavailable")


async def test_another_organizations_are_not_there(limited: World) -> None:
    assert (await limited.get("/api/limits", token="one", org="globex"))[0] == 404
    assert (await limited.get("/api/limits", token="one", credential="globex-prod"))[0] == 404
    assert (await limited.get("/api/limits", token="two"))[1]["error"]["param"] == "org"
