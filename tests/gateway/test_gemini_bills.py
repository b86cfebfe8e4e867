"""What Google bills besides plain tokens, from the hold to the usage event."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, Harness, organizations, running_gateway

OLDER, NEWER, IMAGES = "gemini-2.5-flash", "gemini-3-flash", "gemini-3-pro-image"
TIERS = [{"service_tier": "priority", "times": "1.8"}, {"service_tier": "flex", "times": "0.5"}]
ROWS: list[dict[str, Any]] = [
    {
        "model": OLDER,
        "input": "0.3",
        "input_audio": "1",
        "cached_input": "0.03",
        "cached_input_audio": "0.1",
        "output": "2.5",
    },
    {"model": NEWER, "input": "0.5", "output": "3", "when": TIERS},
    {"model": IMAGES, "input": "2", "output": "12", "output_image": "120"},
]
PRICES = {
    "prices": [{"effective": "2026-01-01", "max_input_tokens": 100_000, **row} for row in ROWS],
    "calls": [
        {"models": ["gemini-2*"], "grounded_prompt": "35", "grounded_prompt:maps": "25"},
        {"models": [NEWER], "grounding_query": "14"},
    ],
    "with_listed": False,
}
CONFIG = {
    "prices": PRICES,
    "plans": {"plans": {"pay_as_you_go": {"spend_limit": {"usd": "1000"}}, "enterprise": {}, "free": {}}},
    "organizations": organizations("900"),
}
SEARCH, MAPS, CODE = {"googleSearch": {}}, {"googleMaps": {}}, {"codeExecution": {}}
METHODS = ("generateContent", "streamGenerateContent", "streamGenerateContent?alt=sse")
SIMULATED: list[tuple[str, str, dict[str, Any]]] = [
    ("tokens=20; cached=12; audio=9; cached_audio=5", OLDER, {}),
    ("tokens=500; image=400; reasoning=30", IMAGES, {}),
    ("tokens=20; searches=3", NEWER, {"tools": [SEARCH]}),
    ("tokens=20; searches=3", OLDER, {"tools": [SEARCH]}),
    ("tokens=20; searches=1; maps=1", OLDER, {"tools": [SEARCH, MAPS]}),
    ("tokens=20; searches=2; maps=1", NEWER, {"tools": [MAPS]}),
    ("tokens=20; searches=1; results=700", NEWER, {"tools": [SEARCH]}),
    ("tokens=20; results=700", NEWER, {"tools": [CODE]}),
    ("tokens=20; tier=priority", NEWER, {"serviceTier": "priority"}),
    ("tokens=20; tier=standard", NEWER, {"serviceTier": "priority"}),
    ("tokens=20; tier=SERVICE_TIER_FLEX", NEWER, {"service_tier": "flex"}),
]


async def ask(
    harness: Harness, session: ClientSession, model: str, method: str, directive: str, **members: Any
) -> tuple[int, bytes]:
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello there, how are you today? " * 3}]}], **members}
    headers = {"x-goog-api-key": ACME_KEY, "x-sim": directive}
    url = f"{harness.url}/v1beta/models/{model}:{method}"
    async with session.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.read()


def owed(record: Any, directive: str, asked: dict[str, Any]) -> int:
    """The provider's bill in nano-USD, from its own account."""
    prompt, output = record.prompt_tokens, record.generated_tokens
    maps_alone = asked.get("tools") == [MAPS]
    if record.model == IMAGES:
        return prompt * 2_000 + (output - record.image_tokens) * 12_000 + record.image_tokens * 120_000
    if record.model == OLDER:
        audio, cached = record.audio_tokens - record.cached_audio_tokens, record.cached_tokens - record.cached_audio_tokens
        text = prompt - record.cached_tokens - audio
        tokens = text * 300 + audio * 1_000 + cached * 30 + record.cached_audio_tokens * 100 + output * 2_500
        return tokens + (35_000_000 if record.searches else 0) + (25_000_000 if record.used_maps else 0)
    queries = record.searches + (record.used_maps and not maps_alone)
    times = 18 if "tier=priority" in directive else 5 if "FLEX" in directive else 10
    return (prompt * 500 + output * 3_000) * times // 10 + queries * 14_000_000


async def test_the_simulators_account_is_what_the_events_have(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as harness, ClientSession() as session:
        asked = [(method, *case) for case in SIMULATED for method in METHODS]
        for method, directive, model, members in asked:
            limited = {**members, "generationConfig": {"maxOutputTokens": 1_000}}
            status, body = await ask(harness, session, model, method, directive, **limited)
            assert status == 200, body
        await harness.at_rest()
        events, records = harness.events(), list(harness.ledger.records)
    for event, record, (_, directive, _, members) in zip(events, records, asked, strict=True):
        told = (event["prompt_tokens"], event["completion_tokens"], event["cached_tokens"], event["audio_prompt_tokens"])
        assert told == (record.prompt_tokens, record.generated_tokens, record.cached_tokens, record.audio_tokens), directive
        quantities = json.loads(event["billed"] or "{}").get("quantities", {})
        assert quantities.get("output_image", 0) == record.image_tokens
        assert quantities.get("cached_input_audio", 0) == record.cached_audio_tokens
        assert event["_cost"] == event["cost_nano_usd"] == owed(record, directive, members), directive
        assert (event["usage_source"], event["flags"]) == ("upstream", []), directive


@pytest.mark.parametrize("tool", [SEARCH, MAPS, {"exaAiSearch": {}}])
async def test_a_tool_without_a_price_is_refused_before_it_runs(tmp_path: Path, tool: dict[str, Any]) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as harness, ClientSession() as session:
        status, body = await ask(harness, session, IMAGES, "generateContent", "tokens=1", tools=[tool])
        assert status == 400
        assert json.loads(body)["error"]["details"][0]["reason"] == "unknown_model"
        assert not harness.ledger.records


@pytest.mark.parametrize("reasons", [True, False])
async def test_images_of_an_answer_without_usage_are_charged_as_images(tmp_path: Path, reasons: bool) -> None:
    rows = [row | ({} if reasons else {"reasons": False}) for row in PRICES["prices"]]
    config = CONFIG | {"prices": PRICES | {"prices": rows}}
    async with running_gateway(tmp_path, config=config) as harness, ClientSession() as session:
        limited = {"generationConfig": {"maxOutputTokens": 5_000}}
        directive = "tokens=500; image=400; usage=missing"
        assert (await ask(harness, session, IMAGES, METHODS[2], directive, **limited))[0] == 200
        await harness.at_rest()
        (event,) = harness.events()
    images = json.loads(event["billed"])["quantities"]["output_image"]
    assert images > 1_290 if reasons else images == 1_290
    assert event["completion_tokens"] >= images + 100
    assert event["usage_source"] == "assumed"
