"""What OpenAI-shaped requests cost, from the hold to the usage event: costs worked out by hand from the providers' pages."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from gateway_harness import ACME_KEY, BIG_KEY, Harness, running_gateway
from usage_events import cost_by_kind

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.document import read_document
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.domain.organization import Plan
from tallygate.domain.price import Price
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import Conditions, usage_of_totals
from tallygate.gateway.exchange.estimate import estimate
from tallygate.gateway.exchange.metering import price_answered
from tallygate.telemetry.metrics import STATED_COST, STATED_COST_PRICED, UNKNOWN_MODELS
from tallygate.telemetry.unpriced_models import UNPRICED_UNITS, unpriced_lately

MAIN, IMAGES = "gpt-5.5", "gpt-image-1.5"
ROW = {
    "model": MAIN,
    "effective": "2026-04-23",
    "input": "5",
    "cached_input": "0.5",
    "output": "30",
    "input_above_272k": "10",
    "cached_input_above_272k": "1",
    "output_above_272k": "45",
    "max_input_tokens": 1_050_000,
    "web_search": "10",
    "file_search": "2.5",
    "code_container:4g": "120",
    "when": [
        {"service_tier": "flex", "times": "0.5"},
        {"service_tier": "priority", "input": "12.5", "cached_input": "1.25", "output": "75"},
    ],
}
PRICES = {
    "prices": [
        ROW,
        {"model": "sonar", "effective": "2026-01-01", "input": "1", "output": "1", "request": "0.012"},
        {"model": IMAGES, "effective": "2026-01-01", "input": "5", "input_image": "8", "output": "10", "output_image": "32"},
        {
            "model": "grok-4.7",
            "effective": "2026-01-01",
            "input": "2",
            "cached_input": "0.5",
            "output": "6",
            "input_from_200k": "4",
            "cached_input_from_200k": "1",
            "output_from_200k": "12",
            "web_search": "5",
            "search_source:x_post": "5",
            "search_source:x_user": "10",
            "max_input_tokens": 1_000_000,
            "when": [{"service_tier": "priority", "times": "2"}],
        },
    ]
}
RESPONSES, CHAT = "/v1/responses", "/v1/chat/completions"


class Upstream:
    """Answers with what it is told to."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}

    async def handle(self, request: web.Request) -> web.Response:
        if not (await request.json()).get("stream"):
            return web.json_response(self.answer)
        events = "".join(f"data: {json.dumps(event)}\n\n" for event in self.answer["events"])
        return web.Response(text=f"{events}data: [DONE]\n\n", content_type="text/event-stream")


class World:
    def __init__(self, upstream: Upstream, harness: Harness, session: ClientSession) -> None:
        self.upstream, self.harness, self.session = upstream, harness, session
        self.key = ACME_KEY

    async def status(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.key}"}
        body = {"model": MAIN} | body
        async with self.session.post(self.harness.url + path, json=body, headers=headers) as answer:
            return answer.status, {} if body.get("stream") else await answer.json()

    async def event(self, path: str, body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        self.upstream.answer = answer
        status, got = await self.status(path, body)
        assert status == 200, got
        await self.harness.at_rest()
        return self.harness.events()[-1]

    async def respond(self, body: dict[str, Any], usage: dict[str, Any], **answer: Any) -> dict[str, Any]:
        """The usage event of a response with this usage: input, cached and output tokens."""
        whole = {"object": "response", "status": "completed", "model": MAIN, "output": [], "usage": usage} | answer
        return await self.event(RESPONSES, {"input": "Hi", "max_output_tokens": 20_000} | body, whole)

    async def chat(self, body: dict[str, Any], usage: dict[str, Any], **answer: Any) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Peace."}}
        whole = {"object": "chat.completion", "model": MAIN, "choices": [choice], "usage": usage} | answer
        messages = [{"role": "user", "content": "Hi"}]
        return await self.event(CHAT, {"messages": messages, "max_completion_tokens": 20_000} | body, whole)


@asynccontextmanager
async def bills(tmp_path: Path, aiohttp_server: Any, **upstream_settings: Any) -> AsyncIterator[World]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_post("/{tail:.*}", upstream.handle)
    url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    config = (
        {"prices": PRICES, "upstreams": {"upstreams": {"default": upstream_settings}}} if upstream_settings else {"prices": PRICES}
    )
    tmp_path.mkdir(exist_ok=True)
    async with running_gateway(tmp_path, upstream_url=url, config=config, acme_usd="100") as harness, ClientSession() as session:
        yield World(upstream, harness, session)


def priced(row: dict[str, Any]) -> Price:
    document = read_document("prices.yaml", json.dumps({"prices": [row]}).encode(), Problems())
    assert document is not None
    (price,) = read_prices(document).rows()
    return price


def tokens(prompt: int, cached: int, completion: int) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": completion,
        "total_tokens": prompt + completion,
    }


def chat_tokens(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion} | more


async def test_tiers_and_sizes_cost_what_the_answer_says(tmp_path: Path, aiohttp_server: Any) -> None:
    async with bills(tmp_path, aiohttp_server) as world:
        world.key = BIG_KEY  # whose rate limits let so many tokens through
        for tier, cost in (("priority", 200_000_000), ("fast", 200_000_000), ("default", 80_000_000), ("flex", 40_000_000)):
            for event in (
                await world.respond({"service_tier": tier}, tokens(10_000, 0, 1_000), service_tier=tier),
                await world.chat({"service_tier": tier}, chat_tokens(10_000, 1_000), service_tier=tier),
            ):
                assert event["cost_nano_usd"] == cost
        world.key = ACME_KEY
        lesser = await world.respond({"service_tier": "priority"}, tokens(10_000, 0, 1_000), service_tier="default")
        assert lesser["cost_nano_usd"] == 80_000_000
        unstated = await world.respond({"service_tier": "priority"}, tokens(10_000, 0, 1_000))
        assert unstated["cost_nano_usd"] == 200_000_000  # the dearest that was asked for
        projects = await world.respond({}, tokens(10, 0, 1_000), service_tier="priority")
        assert (projects["cost_nano_usd"], projects["flags"]) == (75_125_000, [])
        unheard_of = await world.respond({"service_tier": "scale"}, tokens(10_000, 0, 1_000), service_tier="scale")
        assert (unheard_of["cost_nano_usd"], unheard_of["flags"]) == (80_000_000, ["unpriced_units"])
        assert world.harness.metrics.counted[UNKNOWN_MODELS] == [("acme", UNPRICED_UNITS)]
        reads = {"tools": [{"type": "mcp", "server_label": "peace"}]}  # so that all that fits in the context is held
        long = await world.respond(reads, tokens(300_000, 100_000, 2_000))
        assert (long["cost_nano_usd"], long["flags"]) == (2_190_000_000, [])  # 200,000 at 10, 100,000 at 1, 2,000 at 45


FAILURE = {"code": "server_error", "message": "No."}
FAILED_CHOICE = {"index": 0, "finish_reason": "error", "error": FAILURE, "message": {"role": "assistant", "content": "Pea"}}
FAILED_CHUNK = {"index": 0, "finish_reason": "error", "error": FAILURE, "delta": {"content": "Pea"}}


def failed_response(usage: dict[str, Any] | None) -> dict[str, Any]:
    return {"object": "response", "status": "failed", "error": FAILURE, "model": MAIN, "output": [], "usage": usage}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (RESPONSES, failed_response(tokens(1_000, 0, 5))),
        (RESPONSES, {"events": [{"type": "response.failed", "response": failed_response(tokens(1_000, 0, 5))}]}),
        (
            RESPONSES,
            {
                "events": [
                    {"type": "error"} | FAILURE,
                    {"type": "response.failed", "response": failed_response(tokens(1_000, 0, 5))},
                ]
            },
        ),
        (CHAT, {"model": MAIN, "choices": [FAILED_CHOICE], "usage": chat_tokens(1_000, 5)}),
        (CHAT, {"model": MAIN, "choices": [], "error": FAILURE, "usage": chat_tokens(1_000, 5)}),
        (CHAT, {"events": [{"model": MAIN, "choices": [FAILED_CHUNK], "usage": chat_tokens(1_000, 5)}]}),
        (
            CHAT,
            {
                "events": [
                    {"model": MAIN, "choices": [FAILED_CHUNK]},
                    {"model": MAIN, "choices": [], "usage": chat_tokens(1_000, 5)},
                ]
            },
        ),
    ],
)
async def test_a_failed_answer_costs_what_it_says(tmp_path: Path, aiohttp_server: Any, path: str, answer: dict[str, Any]) -> None:
    asks = {"input": "Hi"} if path == RESPONSES else {"messages": [{"role": "user", "content": "Hi"}]}
    async with bills(tmp_path, aiohttp_server) as world:
        event = await world.event(path, asks | {"stream": "events" in answer}, answer)
    assert (event["cost_nano_usd"], event["usage_source"]) == (5_150_000, "upstream")  # 1,000 at 5, 5 at 30
    assert (event["outcome"], event["flags"]) == ("upstream_error", [])


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (RESPONSES, failed_response(None)),
        (RESPONSES, {"events": [{"type": "response.failed", "response": failed_response(None)}]}),
        (CHAT, {"model": MAIN, "choices": [FAILED_CHOICE], "usage": chat_tokens(0, 0)}),
        (
            CHAT,
            {
                "events": [
                    {"model": MAIN, "choices": [], "usage": chat_tokens(1_000, 5)},
                    {"model": MAIN, "choices": [FAILED_CHUNK]},
                ]
            },
        ),
    ],
)
async def test_a_failed_answer_that_does_not_say_costs_what_may_have_been_generated(
    tmp_path: Path, aiohttp_server: Any, path: str, answer: dict[str, Any]
) -> None:
    asks = {"input": "Hi"} if path == RESPONSES else {"messages": [{"role": "user", "content": "Hi"}]}
    async with bills(tmp_path, aiohttp_server) as world:
        event = await world.event(path, asks | {"stream": "events" in answer}, answer)
    assert event["cost_nano_usd"] > 3_000 * 30_000
    assert (event["usage_source"], event["outcome"]) == ("assumed", "upstream_error")
    assert "assumed" in event["flags"]


async def test_calls_of_tools_are_held_and_charged(tmp_path: Path, aiohttp_server: Any) -> None:
    async with bills(tmp_path, aiohttp_server) as world:
        used = tokens(1_000, 0, 100)  # 0.008
        web_search = {"tools": [{"type": "web_search"}], "max_tool_calls": 7}
        items = [{"id": f"ws_{each}", "type": "web_search_call", "action": {"type": "search"}} for each in range(3)]
        searched = await world.respond(web_search, used, output=items)
        assert searched["cost_nano_usd"] == 38_000_000
        stated = await world.respond(web_search, used, output=items, tool_usage={"web_search": {"num_requests": 7}})
        assert (stated["cost_nano_usd"], stated["flags"]) == (78_000_000, [])
        files = await world.respond({"tools": [{"type": "file_search"}]}, used, output=[{"type": "file_search_call"}] * 2)
        assert files["cost_nano_usd"] == 13_000_000
        asked = {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}]}
        runs = [{"type": "code_interpreter_call", "container_id": "cntr_1"}] * 2
        assert (await world.respond(asked, used, output=runs))["cost_nano_usd"] == 128_000_000
        chatted = await world.chat({"web_search_options": {}}, chat_tokens(1_000, 100))
        assert chatted["cost_nano_usd"] == 18_000_000
        status, refused = await world.status(
            RESPONSES, {"input": "Hi", "model": "deepseek-v4-pro", "tools": [{"type": "file_search"}]}
        )
        assert (status, refused["error"]["code"], refused["error"]["param"]) == (400, "unknown_model", "tools")
        assert world.harness.metrics.counted[UNKNOWN_MODELS] == [("acme", "refuse")]
        [noted] = unpriced_lately(tmp_path / "unpriced", now_ms=world.harness.clock.now_ms())
        assert (noted.org, noted.model, noted.policy) == ("acme", "deepseek-v4-pro", UNPRICED_UNITS)


async def test_images_cost_their_own_models_rates(tmp_path: Path, aiohttp_server: Any) -> None:
    async with bills(tmp_path, aiohttp_server) as world:
        asked = {
            "tools": [{"type": "image_generation", "model": IMAGES, "quality": "high", "size": "1024x1024"}],
            "max_tool_calls": 1,
        }
        image_gen = {
            "input_tokens": 500,
            "input_tokens_details": {"image_tokens": 300, "text_tokens": 200},
            "output_tokens": 4_200,
            "output_tokens_details": {"image_tokens": 4_160, "text_tokens": 40},
        }
        # 0.008, and 200 at 5, 300 at 8, 40 at 10, 4,160 at 32
        drawn = await world.respond(asked, tokens(1_000, 0, 100), tool_usage={"image_gen": image_gen})
        assert (drawn["cost_nano_usd"], drawn["flags"]) == (144_920_000, [])
        assert (drawn["prompt_tokens"], drawn["completion_tokens"]) == (1_500, 4_300)
        by_size = await world.respond(
            asked, tokens(1_000, 0, 100), output=[{"type": "image_generation_call", "quality": "high", "size": "1024x1024"}]
        )
        assert by_size["cost_nano_usd"] == 8_000_000 + 4_160 * 32_000
        unknown = {"tools": [{"type": "image_generation", "model": "gpt-image-99"}]}
        status, refused = await world.status(RESPONSES, {"input": "Hi", **unknown})
        assert (status, refused["error"]["code"]) == (400, "unknown_model")
        assert "gpt-image-99" in refused["error"]["message"]


async def test_xai_costs_what_its_ticks_say(tmp_path: Path, aiohttp_server: Any) -> None:
    async with bills(tmp_path, aiohttp_server) as world:
        grok = {"model": "grok-4.7"}
        world.key = BIG_KEY  # whose rate limits let such prompts through
        for prompt, cost in ((199_999, 199_999 * 2_000 + 6_000_000), (200_000, 200_000 * 4_000 + 12_000_000)):
            event = await world.chat(grok, chat_tokens(prompt, 1_000), **grok)
            assert event["cost_nano_usd"] == cost
        world.key = ACME_KEY
        beside = chat_tokens(1_000, 100, total_tokens=1_400, completion_tokens_details={"reasoning_tokens": 300})
        assert (await world.chat(grok, beside, **grok))["cost_nano_usd"] == 2_000_000 + 400 * 6_000
        fast = await world.chat({**grok, "service_tier": "priority"}, beside, service_tier="priority", **grok)
        assert fast["cost_nano_usd"] == 2 * (2_000_000 + 400 * 6_000)
        details = {"web_search_calls": 2, "x_search_calls": 1, "x_posts_fetched": 20, "x_users_fetched": 3}
        tools = {"tools": [{"type": "web_search"}, {"type": "x_search"}]}
        searched = await world.respond(
            {**grok, **tools}, tokens(1_000, 0, 100) | {"server_side_tool_usage_details": details}, **grok
        )
        assert (searched["cost_nano_usd"], searched["flags"]) == (2_600_000 + 10_000_000 + 100_000_000 + 30_000_000, [])


async def test_a_model_may_have_a_fee_for_each_request(tmp_path: Path, aiohttp_server: Any) -> None:
    async with bills(tmp_path, aiohttp_server) as world:
        event = await world.chat({"model": "sonar", "max_completion_tokens": 100}, chat_tokens(1, 100), model="sonar")
        assert (event["cost_nano_usd"], event["flags"]) == (101 * 1_000 + 12_000_000, [])
        assert json.loads(event["billed"]) == {"quantities": {"request": 1}}


async def test_a_stated_cost_is_kept_beside_ours_or_charged(tmp_path: Path, aiohttp_server: Any) -> None:
    stated = chat_tokens(1_000, 100, cost=0.0123)  # 0.008 by the price
    async with bills(tmp_path / "compare", aiohttp_server) as world:
        event = await world.chat({}, stated)
        assert (event["cost_nano_usd"], event["flags"]) == (8_000_000, [])
        assert json.loads(event["billed"]) == {"stated_cost": {"nano_usd": 12_300_000}}
        await world.chat({}, chat_tokens(1_000, 100))
        added = world.harness.metrics.added
        assert added == {(STATED_COST, ("default",)): 12_300_000, (STATED_COST_PRICED, ("default",)): 8_000_000}
    async with bills(tmp_path / "settle", aiohttp_server, stated_cost="settle", markup_percent="10") as world:
        event = await world.chat({}, stated)
        assert (event["cost_nano_usd"], event["flags"]) == (12_300_000, ["stated_cost"])
        assert cost_by_kind(event) == {}, "nobody divides it"
        assert json.loads(event["billed"]) == {"stated_cost": {"is_charged": True, "nano_usd": 12_300_000}}
        unknown = await world.chat({"service_tier": "scale"}, stated, service_tier="scale")
        assert (unknown["cost_nano_usd"], unknown["flags"]) == (12_300_000, ["stated_cost"])
        cheap = await world.chat({}, chat_tokens(1_000, 100, cost=0))
        assert (cheap["cost_nano_usd"], cheap["flags"]) == (0, ["stated_cost"])
        assert (await world.chat({}, chat_tokens(1_000, 100)))["cost_nano_usd"] == 8_800_000
        odd = await world.chat({}, chat_tokens(1_000, 100, cost="many"))
        assert (odd["cost_nano_usd"], odd["billed"]) == (8_800_000, None)
        impossible = await world.chat({}, chat_tokens(0, 0, cost=0.5))
        assert impossible["cost_nano_usd"] < 500_000_000
        assert "stated_cost" not in impossible["flags"]


DRAWS = {"type": "image_generation", "model": IMAGES}
SIMULATED: list[tuple[str, str, dict[str, Any]]] = [
    (CHAT, "tokens=20; tier=priority", {"service_tier": "fast"}),
    (CHAT, "tokens=20; tier=default", {"service_tier": "auto"}),
    (CHAT, "tokens=20; tier=flex; cached=9", {"service_tier": "flex"}),
    (CHAT, "tokens=20; searches=1; cost=0.0123", {"web_search_options": {}}),
    (CHAT, "tokens=20; cached=12; audio=9; cached_audio=5", {}),
    (RESPONSES, "tokens=20; tier=fast", {"service_tier": "priority"}),
    (RESPONSES, "tokens=20; searches=3; files=2", {"tools": [{"type": "web_search"}, {"type": "file_search"}]}),
    (RESPONSES, "tokens=20; passes=image_generation:200/4160@" + IMAGES, {"tools": [DRAWS]}),
]


def owed(record: Any, directive: str) -> int:
    """The provider's bill in nano-USD, from its own account."""
    plain = record.prompt_tokens - record.cached_tokens
    output, drawn = record.generated_tokens, 0
    if "passes" in directive:
        plain, output, drawn = plain - 200, output - 4_160, 200 * 5_000 + 4_160 * 32_000
    twice = 5 if "tier=priority" in directive or "tier=fast" in directive else 1 if "flex" in directive else 2
    tokens = (plain * 5_000 + record.cached_tokens * 500 + output * 30_000) * twice // 2
    return tokens + drawn + record.searches * 10_000_000 + record.file_searches * 2_500_000


async def test_the_simulators_account_is_what_the_events_have(tmp_path: Path) -> None:
    asked = [(stream, *case) for case in SIMULATED for stream in (False, True)]
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        for stream, path, directive, members in asked:
            text = "Hello there, how are you today? " * 3
            own = {"messages": [{"role": "user", "content": text}]} if path == CHAT else {"input": text}
            body = {"model": MAIN, "stream": stream, **own, **members}
            headers = {"Authorization": f"Bearer {BIG_KEY}", "x-sim": directive}
            async with session.post(harness.url + path, json=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
        await harness.at_rest()
        events, records = harness.events(), list(harness.ledger.records)
    for event, record, (_, _, directive, _) in zip(events, records, asked, strict=True):
        told = (event["prompt_tokens"], event["completion_tokens"], event["cached_tokens"])
        assert told == (record.prompt_tokens, record.generated_tokens, record.cached_tokens), directive
        assert event["cost_nano_usd"] == owed(record, directive), directive
        billed = json.loads(event["billed"] or "{}")
        assert billed.get("quantities", {}).get("cached_input_audio", 0) == record.cached_audio_tokens
        assert billed.get("stated_cost") == ({"nano_usd": 12_300_000} if "cost" in directive else None)
        assert (event["usage_source"], event["flags"]) == ("upstream", []), directive


LOW = {**DRAWS, "quality": "low", "size": "1024x1024"}
BEGAN_ONE = f"passes=image_generation:200/272@{IMAGES}; at=4"


@pytest.mark.parametrize(
    ("tool", "directive", "drawn"), [(LOW, "at=3", 1), (LOW, BEGAN_ONE, 2), ({"type": "web_search"}, "at=3", 0)]
)
async def test_what_a_cut_answer_may_have_caused_is_charged_within_its_hold(
    tmp_path: Path, tool: dict[str, Any], directive: str, drawn: int
) -> None:
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        body = {"model": MAIN, "stream": True, "input": "Hello", "max_output_tokens": 100, "max_tool_calls": 2, "tools": [tool]}
        headers = {"Authorization": f"Bearer {ACME_KEY}", "x-sim": f"tokens=20; fault=cut; how=end; {directive}"}
        async with session.post(harness.url + RESPONSES, json=body, headers=headers) as answer:
            assert answer.status == 200
            await answer.read()
        await harness.at_rest()
        (event,) = harness.events()
    billed = json.loads(event["billed"])
    if tool["type"] == "web_search":
        assert billed["quantities"] == {"web_search": 2}
    else:  # one more than were seen to begin
        quantities = {"input_image": drawn * 21_642, "output_image": drawn * (272 + 1_000)}
        assert billed["passes"][1:] == [{"model": IMAGES, "quantities": quantities}]
    assert "assumed" in event["flags"]
    assert "overrun" not in event["flags"]


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        (None, [""]),
        ("flex", ["", "flex"]),
        ("fast", ["", "priority"]),
        ("auto", ["", "flex", "priority", "ultrafast"]),
        ("ultrafast", ["", "priority", "ultrafast"]),
    ],
)
def test_the_hold_covers_every_tier_that_may_answer(asked: str | None, answers: list[str]) -> None:
    row = {**ROW, "when": [*ROW["when"], {"service_tier": "ultrafast", "times": "6"}]}  # type: ignore[misc]
    price = priced(row)
    body = {"model": MAIN, "input": "Hi", "max_output_tokens": 1_000, "service_tier": asked, "tools": [{"type": "web_search"}]}
    facts = OpenAiResponses().read_request(json.dumps(body).encode(), path={}, query={})
    held = estimate(facts, Plan(id="p", unknown_input_tokens=300_000), price, 10_000)
    most = usage_of_totals(prompt=310_000, completion=1_000).with_calls({"web_search": 30})
    bills = [price.cost_nano_usd(most, Conditions(service_tier=tier)) for tier in answers]
    assert max(bills) <= held.hold_nano_usd
    assert held.hold_nano_usd - max(bills) <= 24 * 60_000  # what is added around a prompt, at the dearest rate


async def test_audio_of_voxtral_costs_by_the_second(tmp_path: Path, aiohttp_server: Any) -> None:
    voxtral = "voxtral-small-2507"  # as listed since 2026-08-11
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}
    used = chat_tokens(9, 248, prompt_audio_seconds=3, prompt_tokens_details={"audio_tokens": 375}) | {"total_tokens": 632}
    async with bills(tmp_path, aiohttp_server) as world:
        asked = {"model": voxtral, "messages": [{"role": "user", "content": [sound]}]}
        event = await world.chat(asked, used, model=voxtral)
        # 9 * 0.1 + 248 * 0.4 + 3 * 66.666667 micro-USD
        assert (event["cost_nano_usd"], event["flags"]) == (900 + 99_200 + 200_001, ["usage_inconsistent"])
        unsaid = await world.chat(asked, chat_tokens(384, 248), model=voxtral)
        assert unsaid["cost_nano_usd"] == 38_400 + 99_200 + 174_800_001


def test_an_embedding_under_another_models_name_costs_what_was_asked_for() -> None:
    ada_002, ada, short = (
        priced({"model": name, "effective": "2026-01-01", "input": price, "output": output})
        for name, price, output in (("text-embedding-ada-002", "0.1", "0"), ("ada", "0.4", "0.4"), ("embed", "0.2", "0"))
    )
    prices = PriceCatalogue([ada_002, ada, short])
    for has_output, answered, charged in ((False, "ada", ada_002), (False, "embed", short), (True, "ada", ada)):
        facts = RequestFacts(model="text-embedding-ada-002", prompt=PromptShape(), has_output=has_output)
        assert price_answered(facts, answered, ada_002, prices, 10**13) == (charged, False)
    other = RequestFacts(model="ada", prompt=PromptShape(), has_output=False)
    assert price_answered(other, "embed", ada, prices, 10**13) == (short, False)
    assert price_answered(facts, "ada", None, prices, 10**13) == (ada, False)
