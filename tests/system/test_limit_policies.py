"""What plans say about limits, end to end: shadow mode, clamping, calendar months, warnings, unknown models."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, Harness, digest, running_gateway

from tallygate.telemetry.metrics import REFUSED, SHADOW_REFUSED, SPEND_WARNINGS

AUTH = {"Authorization": f"Bearer {ACME_KEY}"}
PROMPT, COMPLETION = 150, 600  # nano-USD a token of gpt-4o-mini


def config(plan: dict[str, Any], **organization: Any) -> dict[str, Any]:
    """Acme under a plan of its own."""
    acme = {"id": "acme", "plan": "own", "credentials": [{"id": "acme-prod", "key_sha256": digest("acmesecret")}]}
    return {"plans": {"plans": {"own": plan}}, "organizations": {"organizations": [acme | organization]}}


async def ask(
    harness: Harness, tokens: int = 10, tokens_max: int = 10, model: str = "gpt-4o-mini"
) -> tuple[int, Any, dict[str, Any]]:
    """Status, headers and body."""
    content = f"[[sim tokens={tokens}]] Hello"
    body = {"model": model, "max_tokens": tokens_max, "messages": [{"role": "user", "content": content}]}
    async with ClientSession() as session, session.post(f"{harness.url}/v1/chat/completions", json=body, headers=AUTH) as answer:
        return answer.status, answer.headers, await answer.json()


def cost_of_last(harness: Harness) -> int:
    record = harness.ledger.records[-1]
    return record.prompt_tokens * PROMPT + record.generated_tokens * COMPLETION


async def test_a_limit_in_shadow_mode_decides_and_counts_and_refuses_nothing(tmp_path: Path) -> None:
    plan = {
        "rate_limits": [{"requests": 1, "window": "1h", "shadow": True}],
        "spend_limit": {"usd": "0.000001", "window": "7d", "shadow": True},
    }
    async with running_gateway(tmp_path, config=config(plan)) as harness:
        assert [(await ask(harness))[0] for _ in range(3)] == [200, 200, 200]

        shadowed = [limit for _, _, _, limit in harness.metrics.counted[SHADOW_REFUSED]]
        assert sorted(shadowed) == ["requests_per_1h"] * 2 + ["spend_7d"] * 3
        assert not harness.metrics.counted[REFUSED]
        assert (await harness.window()).spent_nano_usd == 3 * cost_of_last(harness)


async def test_clamping_lowers_the_maximum_to_what_is_affordable(tmp_path: Path) -> None:
    plan = {"spend_limit": {"usd": "0.00005", "window": "7d"}, "clamp": True}
    async with running_gateway(tmp_path, config=config(plan)) as harness:
        status, _, _ = await ask(harness, tokens=1_000, tokens_max=1_000)
        (record,) = harness.ledger.records
        window = await harness.window()

        assert status == 200
        assert 0 < record.generated_tokens < 1_000
        assert window.spent_nano_usd == cost_of_last(harness) <= 50_000
        assert 50_000 - window.spent_nano_usd < COMPLETION  # not a token less than was affordable
        assert (await ask(harness, tokens=1_000, tokens_max=1_000))[0] == 429
        after = await harness.window()
        assert (after.spent_nano_usd, after.held_nano_usd) == (window.spent_nano_usd, 0)


async def test_a_calendar_month_ends_at_midnight_of_the_organizations_own_time_zone(tmp_path: Path) -> None:
    zone = ZoneInfo("America/New_York")
    plan = {"spend_limit": {"usd": "0.00002", "window": "month"}}
    async with running_gateway(tmp_path, config=config(plan, time_zone="America/New_York")) as harness:
        now = datetime.fromtimestamp(harness.clock.now_ms() / 1000, UTC).astimezone(zone)
        month_end = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=zone)
        while (outcome := await ask(harness))[0] == 200:
            assert len(harness.ledger.records) < 10
        status, headers, body = outcome
        resumes_at = datetime.fromisoformat(body["error"]["resumes_at"])

        assert (status, body["error"]["code"]) == (429, "spend_limit_exceeded")
        assert resumes_at == month_end
        assert abs(int(headers["Retry-After"]) - (month_end - datetime.now(UTC)).total_seconds()) < 60
        harness.clock.offset_ms += int((month_end.timestamp() * 1000) - harness.clock.now_ms()) - 30_000
        assert (await ask(harness))[0] == 429
        harness.clock.offset_ms += 30_001
        assert (await ask(harness))[0] == 200
        assert (await harness.window(key="org:spend_month")).spent_nano_usd == cost_of_last(harness)


async def test_each_threshold_warns_once_in_log_and_metric_and_stays_in_the_header(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = {"spend_limit": {"usd": "0.0001", "window": "7d", "warn_at": [0.5, 0.8, 0.95]}}
    crossed_in_header = []
    with caplog.at_level(logging.WARNING):
        async with running_gateway(tmp_path, config=config(plan)) as harness:
            spent = []
            while (outcome := await ask(harness))[0] == 200:
                crossed_in_header.append(outcome[1].get("tallygate-spend-warning", "").partition("crossed=")[2].partition(";")[0])
                spent.append((await harness.window()).spent_nano_usd)
            warnings = harness.metrics.counted[SPEND_WARNINGS]
    told = [record.getMessage() for record in caplog.records if "has spent" in record.getMessage()]

    highest = [max((p for p in (500, 800, 950) if total * 1000 >= 100_000 * p), default=0) for total in spent]
    crossed = [permille for permille in (500, 800, 950) if permille <= highest[-1]]
    assert len(crossed) >= 2
    assert warnings == [("acme", "spend_7d", f"{permille / 1000:g}") for permille in crossed]
    assert told == [f"organization acme has spent {permille / 10:g} % of its limit spend_7d" for permille in crossed]
    before = [0, *highest[:-1]]  # a request is admitted knowing what those before it have spent
    assert crossed_in_header == [f"{permille / 1000:g}" if permille else "" for permille in before]


@pytest.mark.parametrize(
    ("policy", "status", "cost_per_token", "flag"),
    [("refuse", 400, None, None), ({"price_as": "gpt-4o"}, 200, (2_500, 10_000), None), ("unpriced", 200, (0, 0), "unpriced")],
)
async def test_a_model_without_a_price_follows_the_plans_policy(
    tmp_path: Path, policy: Any, status: int, cost_per_token: tuple[int, int] | None, flag: str | None
) -> None:
    plan = {"spend_limit": {"usd": "1", "window": "7d"}, "unknown_model": policy}
    async with running_gateway(tmp_path, config=config(plan)) as harness:
        answered, _, body = await ask(harness, model="unheard-of-1")
        await harness.at_rest()

        assert answered == status
        if cost_per_token is None:
            assert body["error"]["code"] == "unknown_model"
            assert not harness.ledger.records
            assert not harness.events()
            return
        (record,), (event,) = harness.ledger.records, harness.events()
        cost = record.prompt_tokens * cost_per_token[0] + record.generated_tokens * cost_per_token[1]
        assert event["_cost"] == cost == (await harness.window()).spent_nano_usd
        assert (event["prompt_tokens"], event["completion_tokens"]) == (record.prompt_tokens, record.generated_tokens)
        assert (flag in event["flags"]) if flag else not event["flags"]
