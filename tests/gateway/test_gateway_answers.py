"""The life of a request through the whole data plane, with plain HTTP as the client."""

import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, BIG_KEY, FREE_KEY, Harness, organizations, running_gateway

from tallygate.telemetry.metrics import CONFIG_RELOADS, REFUSED, REQUEST_SECONDS

CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "[[sim tokens=7]] Hello there"}]}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def post(
    harness: Harness, path: str = "/v1/chat/completions", body: Any = CHAT, key: str = ACME_KEY, **headers: str
) -> tuple[int, dict[str, str], Any]:
    async with (
        ClientSession() as session,
        session.post(harness.url + path, json=body, headers=bearer(key) | headers) as answer,
    ):
        text = await answer.text()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, json.loads(text)


async def test_a_chat_request_is_relayed_metered_and_settled(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        status, headers, body = await post(harness)

        assert status == 200
        assert body["usage"]["completion_tokens"] == 7
        (event,) = harness.events()
        (served,) = harness.ledger.records
        assert (event["prompt_tokens"], event["completion_tokens"]) == (served.prompt_tokens, served.generated_tokens)
        assert event["usage_source"] == "upstream"
        assert (event["org"], event["credential"], event["capability"]) == ("acme", "acme-prod", "chat")
        assert event["cost_nano_usd"] == event["prompt_tokens"] * 150 + 7 * 600
        assert event["outcome"] == "success"
        assert headers["x-request-id"] == event["event_id"]
        assert headers["tallygate-usage-source"] == "upstream"
        assert float(headers["server-timing"].removeprefix("gateway;dur=").split(",")[0]) > 0
        assert float(headers["tallygate-cost-usd"]) == event["cost_nano_usd"] / 1e9
        window = await harness.window()
        assert (window.spent_nano_usd, window.held_nano_usd) == (event["cost_nano_usd"], 0)
        assert harness.metrics.observed[REQUEST_SECONDS][0] == "chat"


@pytest.mark.parametrize("asks", [True, False])
async def test_a_stream_is_metered_and_the_usage_chunk_shown_only_to_who_asked(tmp_path: Path, asks: bool) -> None:
    body = CHAT | {"stream": True} | ({"stream_options": {"include_usage": True}} if asks else {})
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        texts = []
        for url in (harness.upstream_url, harness.url):
            async with session.post(f"{url}/v1/chat/completions", json=body, headers=bearer(ACME_KEY)) as answer:
                assert answer.status == 200
                texts.append(await answer.text())
        direct, through = texts

        assert ('"usage":{' in through) is asks
        assert through.endswith("data: [DONE]\n\n")
        assert through.count("data:") == direct.count("data:")
        (event,) = harness.events()
        assert (event["completion_tokens"], event["usage_source"], event["stream"]) == (7, "upstream", True)


async def test_what_a_client_sees_complete_is_settled_before(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        body = CHAT | {"stream": True}
        async with session.post(f"{harness.url}/v1/chat/completions", json=body, headers=bearer(ACME_KEY)) as answer:
            async for line in answer.content:
                if b"[DONE]" in line:
                    assert len(harness.events()) == 1
                    break


async def test_of_an_answer_without_its_usage_what_was_seen_is_charged_and_the_event_says_so(tmp_path: Path) -> None:
    message = [{"role": "user", "content": "[[sim tokens=9 usage=missing]] Hello"}]
    async with running_gateway(tmp_path) as harness:
        await post(harness, body=CHAT | {"messages": message})

        (event,) = harness.events()
        (served,) = harness.ledger.records
        assert (event["usage_source"], event["flags"]) == ("assumed", ["assumed"])
        assert (event["prompt_tokens"], event["completion_tokens"]) == (served.prompt_tokens, 9)


@pytest.mark.parametrize(
    ("model", "directive", "tokens"),
    [
        ("claude-sonnet-4-5", "tokens=900", 999 + 3),  # 1,110 of the model's for 1,000 of ours, and the end of a turn
        ("claude-opus-4-7", "tokens=900", 1_287 + 3),
        ("claude-sonnet-4-5", "tokens=900 tool=1", 999 + 3 + 40),
    ],
)
async def test_a_claude_s_missing_usage_is_counted_with_its_scale(tmp_path: Path, model: str, directive: str, tokens: int) -> None:
    message = [{"role": "user", "content": f"[[sim {directive} usage=missing]] Hello"}]
    body = {"model": model, "max_tokens": 2_000, "messages": message}
    shows_all = {"upstreams": {"upstreams": {"default": {"hides_reasoning": False}}}}
    async with running_gateway(tmp_path, config=shows_all) as harness:
        await post(harness, body=body, path="/v1/messages")

        (event,) = harness.events()
        assert event["usage_source"] == "assumed"
        assert event["completion_tokens"] == tokens


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [("", 401, "invalid_api_key"), ("tg_acme-prod_wrong", 401, "invalid_api_key"), (FREE_KEY, 403, "plan_without_api_access")],
)
async def test_a_caller_without_access_is_refused_and_reaches_no_upstream(tmp_path: Path, key: str, status: int, code: str) -> None:
    async with running_gateway(tmp_path) as harness:
        found, headers, body = await post(harness, key=key)

        assert (found, body["error"]["code"]) == (status, code)
        assert ("www-authenticate" in headers) == (status == 401)
        assert not harness.ledger.records
        assert not harness.events()
        known = ("free", "free-prod") if status == 403 else ("other", "other")
        assert harness.metrics.counted[REFUSED][-1] == (*known, "chat", code)


async def test_capabilities_and_models_bind_a_credential(tmp_path: Path) -> None:
    narrow = "tg_big-narrow_narrowsecret"
    async with running_gateway(tmp_path) as harness:
        status, _, body = await post(harness, path="/v1/embeddings", body={"model": "m", "input": "x"}, key=narrow)
        assert (status, body["error"]["code"]) == (403, "capability_not_allowed")
        status, _, body = await post(harness, body=CHAT | {"model": "gpt-4o"}, key=narrow)
        assert (status, body["error"]["code"]) == (403, "model_not_allowed")
        status, _, _ = await post(harness, key=narrow)
        assert status == 200


async def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        status, _, body = await post(harness, body=CHAT | {"model": "nobody-knows-me"})

        assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unknown_model", "model")
        assert not harness.ledger.records


async def test_a_spend_limit_refuses_what_does_not_fit_and_says_when(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, acme_usd="0.00005") as harness:
        outcomes = [await post(harness) for _ in range(4)]

        refused = [outcome for outcome in outcomes if outcome[0] == 429]
        assert refused
        _, headers, body = refused[-1]
        assert body["error"]["code"] == "spend_limit_exceeded"
        assert body["error"]["type"] == "insufficient_quota"
        assert headers["x-should-retry"] == "false"
        assert int(headers["retry-after"]) > 6 * 86_400
        assert body["error"]["resumes_at"]
        window = await harness.window()
        assert window.spent_nano_usd <= 50_000
        assert window.held_nano_usd == 0
        assert ("acme", "acme-prod", "chat", "spend_7d") in harness.metrics.counted[REFUSED]


async def test_a_months_limit_says_when_the_organizations_next_month_begins(tmp_path: Path) -> None:
    """On its billing day, at midnight where it is."""
    zone = ZoneInfo("Pacific/Kiritimati")
    plans = {
        "plans": {name: {"spend_limit": {"usd": "0.00005", "window": "month"}} for name in ("pay_as_you_go", "enterprise", "free")}
    }
    served = organizations("25")
    for organization in served["organizations"]:
        organization.pop("spend_limit", None)
        organization |= {"time_zone": zone.key, "billing_day": 15}
    async with running_gateway(tmp_path, config={"plans": plans, "organizations": served}) as harness:
        today = datetime.now(zone).date()
        first = today.replace(day=15) if today.day < 15 else (today.replace(day=28) + timedelta(days=15)).replace(day=15)
        begins = datetime(first.year, first.month, 15, tzinfo=zone)
        refused = next(outcome for outcome in [await post(harness) for _ in range(4)] if outcome[0] == 429)

        _, headers, body = refused
        assert body["error"]["limit"] == "spend_month"
        assert datetime.fromisoformat(body["error"]["resumes_at"]) == begins
        wait = begins.timestamp() - time.time()
        assert wait <= int(headers["retry-after"]) < wait + 60
        harness.clock.offset_ms = round(wait * 1000) - 1_000
        assert (await post(harness))[0] == 429
        harness.clock.offset_ms += 2_000
        assert (await post(harness))[0] == 200


async def test_a_rate_limit_refuses_with_a_true_wait(tmp_path: Path) -> None:
    plans = {"plans": {"pay_as_you_go": {"rate_limits": [{"requests": 2, "window": "1m"}]}, "enterprise": {}, "free": {}}}
    async with running_gateway(tmp_path, config={"plans": plans}) as harness:
        assert [(await post(harness, key=BIG_KEY))[0] for _ in range(3)] == [200, 200, 200]
        status, headers, _ = await post(harness, path="/v1/chat/completions", key=ACME_KEY)
        assert (status, headers["ratelimit"].split(";")[1]) == (200, "r=1")
        await post(harness)
        status, headers, body = await post(harness)

        assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
        assert headers["x-should-retry"] == "true"
        assert 0 < int(headers["retry-after-ms"]) <= 30_000
        harness.clock.offset_ms += int(headers["retry-after-ms"])
        assert (await post(harness))[0] == 200


async def test_an_upstream_error_is_relayed_and_costs_nothing(tmp_path: Path) -> None:
    message = [{"role": "user", "content": "[[sim fault=status:503]] Hello"}]
    async with running_gateway(tmp_path) as harness:
        status, _, body = await post(harness, body=CHAT | {"messages": message})

        assert status == 503
        assert "error" in body
        (event,) = harness.events()
        assert (event["status"], event["cost_nano_usd"], event["outcome"]) == (503, 0, "upstream_error")
        assert event["price_version"]  # a model that is priced, so that its errors are shown under its name
        assert (await harness.window()).held_nano_usd == 0


async def test_an_upstream_that_cannot_be_reached_releases_the_hold(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, upstream_url="http://127.0.0.1:9") as harness:
        status, headers, body = await post(harness)

        assert (status, body["error"]["code"]) == (502, "upstream_unreachable")
        assert headers["x-should-retry"] == "true"
        (event,) = harness.events()
        assert event["cost_nano_usd"] == 0
        assert (await harness.window()).held_nano_usd == 0


async def test_unmetered_requests_count_and_pass_through(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        async with session.get(f"{harness.url}/v1/models", headers=bearer(ACME_KEY)) as answer:
            through = await answer.read()
        async with session.get(f"{harness.upstream_url}/v1/models", headers=bearer(ACME_KEY)) as answer:
            direct = await answer.read()

        assert through == direct
        (event,) = harness.events()
        assert (event["capability"], event["usage_source"], event["cost_nano_usd"]) == ("models", "none", 0)


async def test_a_reload_changes_limits_for_new_requests_and_a_bad_one_does_not(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        assert (await post(harness))[0] == 200
        good = (harness.config_dir / "organizations.yaml").read_text()
        (harness.config_dir / "organizations.yaml").write_text(good.replace("'25'", "'0'"))
        await harness.gateway.read_again()
        assert (await post(harness))[0] == 429
        (harness.config_dir / "organizations.yaml").write_text("organizations: [{")
        await harness.gateway.read_again()
        assert (await post(harness))[0] == 429
        assert harness.metrics.counted[CONFIG_RELOADS] == ["applied", "rejected"]


async def test_a_reload_makes_keys_ready_anew_only_where_organizations_are_others(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        before = harness.gateway.services.view
        await harness.gateway.read_again()
        same = harness.gateway.services.view
        organizations = harness.config_dir / "organizations.yaml"
        organizations.write_text(organizations.read_text().replace("'25'", "'24'"))
        await harness.gateway.read_again()
        other = harness.gateway.services.view

        assert (same is before, same.directory is before.directory) == (False, True)
        assert other.directory is not before.directory
        assert (await post(harness))[0] == 200
