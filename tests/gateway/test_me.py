"""GET /tallygate/me: what a caller's own key has left, also in a pause, and what others may not see or pay for."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, BIG_KEY, FREE_KEY, Harness, organizations, running_gateway

from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization
from tallygate.gateway.cors import CorsPolicy
from tallygate.ledger.history import Usage
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.telemetry.metrics import REFUSED

CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
ME = "/tallygate/me"


async def ask(
    harness: Harness, headers: dict[str, str] | None = None, path: str = ME, method: str = "GET"
) -> tuple[int, Any, dict[str, str]]:
    given = {"Authorization": f"Bearer {ACME_KEY}"} if headers is None else headers
    async with ClientSession() as session, session.request(method, harness.url + path, headers=given) as answer:
        body = await answer.json() if method == "GET" else await answer.text()
        return answer.status, body, {name.lower(): value for name, value in answer.headers.items()}


async def chat(harness: Harness) -> int:
    headers = {"Authorization": f"Bearer {ACME_KEY}"}
    async with ClientSession() as session, session.post(harness.url + "/v1/chat/completions", headers=headers, json=CHAT) as answer:
        return answer.status


async def test_a_caller_sees_its_own_limits_and_nobody_elses(tmp_path: Path) -> None:
    config = organizations("0.01")
    config["organizations"][0] |= {"time_zone": "America/New_York", "rate_limits": [{"requests": 60, "window": "1h"}]}
    async with running_gateway(tmp_path, config={"organizations": config}) as harness:
        assert await chat(harness) == 200
        status, body, headers = await ask(harness)
        window = await harness.window()

        assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/json", "no-store")
        assert body["organization"] == {
            "id": "acme",
            "name": "Acme",
            "plan": "pay_as_you_go",
            "time_zone": "America/New_York",
        }
        assert {"chat", "models"} <= set(body["credential"].pop("capabilities"))
        assert body["credential"] == {
            "id": "acme-prod",
            "name": "Production",
            "environment": "",
            "models": None,
            "expires_at": None,
        }
        (spend,) = body["spend_limits"]
        assert window.spent_nano_usd > 0
        assert round(float(body["spent_usd"]) * 10**9) == window.spent_nano_usd
        assert (spend["spent_usd"], spend["limit_usd"]) == (body["spent_usd"], "0.01")
        assert round(float(body["left_usd"]) * 10**9) == 10_000_000 - window.spent_nano_usd
        assert (body["status"], body["resumes_at"], spend["is_paused"]) == ("active", None, False)
        rate = next(each for each in body["rate_limits"] if each["name"] == "requests_per_1h")
        assert (rate["per"], rate["limit"], rate["remaining"], rate["mode"]) == ("organization", 60, 59, "enforced")
        assert body["today"] is None  # there is no ledger here
        assert "big" not in str(body).lower()
        assert len(harness.events()) == 1  # asking was no exchange
        assert not harness.metrics.counted[REFUSED]


async def test_asking_is_answered_in_a_pause(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, acme_usd="0.00004") as harness:
        while await chat(harness) == 200:
            pass
        status, body, _ = await ask(harness)

    assert (status, body["status"]) == (200, "paused")
    assert body["resumes_at"] == body["spend_limits"][0]["resumes_at"] is not None
    assert "access is paused until" in body["spend_limits"][0]["text"]


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "x-goog-api-key", "api-key", None])
async def test_the_key_may_come_in_any_dialects_way(tmp_path: Path, name: str | None) -> None:
    async with running_gateway(tmp_path) as harness:
        headers = {} if name is None else {name: f"Bearer {BIG_KEY}" if name == "Authorization" else BIG_KEY}
        status, body, _ = await ask(harness, headers, ME if name else f"{ME}?key={BIG_KEY}")
        assert (status, body["organization"]["id"], body["spent_usd"], body["spend_limits"]) == (200, "big", None, [])


async def test_what_may_not_ask_is_refused_plainly(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for headers, path, status, code in (
            ({}, ME, 401, "invalid_api_key"),
            ({"Authorization": "Bearer tg_acme-prod_wrong"}, ME, 401, "invalid_api_key"),
            ({"Authorization": f"Bearer {FREE_KEY}"}, ME, 403, "plan_without_api_access"),
            (None, f"{ME}?org=big", 400, "invalid_request"),
            (None, f"{ME}/more", 404, "unknown_endpoint"),
        ):
            found, body, _ = await ask(harness, headers, path)
            assert (found, body["error"]["code"]) == (status, code)
        status, _, headers = await ask(harness, method="POST")
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        assert (await ask(harness, method="HEAD"))[:2] == (200, "")
        assert (await ask(harness, method="OPTIONS"))[2]["allow"] == "GET, HEAD, OPTIONS"
        _, body, _ = await ask(harness, None, "/v1/tallygate/me")
        assert "Did you mean GET /tallygate/me? Set the client's base URL to http(s)://host." in body["error"]["message"]


async def test_a_page_of_a_listed_origin_may_ask(tmp_path: Path) -> None:
    page = "https://app.example.com"
    async with running_gateway(tmp_path, cors=CorsPolicy(frozenset({page}))) as harness:
        headers = {"Authorization": f"Bearer {ACME_KEY}", "Origin": page}
        assert (await ask(harness, headers))[2]["access-control-allow-origin"] == page
        asks = {"Origin": page, "Access-Control-Request-Method": "GET"}
        assert "GET" in (await ask(harness, asks, method="OPTIONS"))[2]["access-control-allow-methods"]


class CountedLimiter(ReferenceLimiter):
    reads = 0

    async def read_limits(self, *asked: Any) -> Any:
        self.reads += 1
        await asyncio.sleep(0)
        return await super().read_limits(*asked)


class Ledger:
    """What was used today, as a test says."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def __call__(self, organization: Organization, credential: str) -> tuple[Usage, Usage]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        assert credential == f"{organization.id}-prod"
        return Usage(requests=5, prompt_tokens=70, completion_tokens=8, cost_nano_usd=1_500_000_000, refused=2), Usage(requests=1)


async def test_who_asks_often_costs_one_look_and_is_refused_in_the_end(tmp_path: Path) -> None:
    limiter, ledger = CountedLimiter(lambda: 1_788_264_000_000), Ledger()
    async with running_gateway(tmp_path, limiter=limiter, used_today=ledger) as harness:
        found = await asyncio.gather(*(ask(harness) for _ in range(60)))
        assert (limiter.reads, ledger.asked) == (1, 1)
        refused = [each for each in found if each[0] == 429]
        assert 10 <= len(refused) <= 40
        assert refused[0][1]["error"]["code"] == "rate_limit_exceeded"
        assert refused[0][1]["error"]["limit"] == "me_requests"
        assert int(refused[0][2]["retry-after"]) >= 1
        assert (await ask(harness, {"x-api-key": BIG_KEY}))[0] == 200  # another's is in nobody's way
        assert await chat(harness) == 200  # and its own requests are not counted together with it


async def test_todays_usage_is_the_ledgers_and_says_as_of_when(tmp_path: Path) -> None:
    ledger = Ledger()
    async with running_gateway(tmp_path, used_today=ledger) as harness:
        _, body, _ = await ask(harness)
        assert datetime.fromisoformat(body["today"].pop("as_of")) >= datetime.fromisoformat(body["as_of"])
        assert body["today"] == {
            "organization": {
                "requests": 5,
                "refused": 2,
                "prompt_tokens": 70,
                "completion_tokens": 8,
                "cost_usd": "1.50",
            },
            "credential": {"requests": 1, "refused": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost_usd": "0.00"},
        }


async def test_without_its_ledger_the_limits_are_there_and_without_its_store_nothing_is_guessed(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.error = StoreError("away")
    limiter = ReferenceLimiter(lambda: 1_788_264_000_000)
    async with running_gateway(tmp_path, used_today=ledger, limiter=limiter) as harness:
        status, body, _ = await ask(harness)
        assert (status, body["today"], body["left_usd"]) == (200, None, "25.00")
        await asyncio.sleep(0)
        harness.gateway.pipeline.me._answers.clear()  # as if a second had passed
        assert (await ask(harness))[1]["today"] is None
        assert ledger.asked == 1  # which has some seconds to come back
    limiter.wipe()
    async with running_gateway(tmp_path, limiter=limiter) as harness:
        status, body, _ = await ask(harness)
        assert (status, body["error"]["code"]) == (503, "limiter_unavailable")
