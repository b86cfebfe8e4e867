"""What Anthropic bills beside plain tokens, from the hold to the usage event."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from gateway_harness import ACME_KEY, Harness, organizations, running_gateway

from tallygate.config.document import read_document
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.dialects.anthropic_messages import AnthropicMessages
from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.organization import Plan
from tallygate.domain.price import Price
from tallygate.domain.usage import Conditions, Pass, Usage, usage_of_totals
from tallygate.gateway.exchange.estimate import estimate
from tallygate.gateway.exchange.other_models import OthersAtMost, Priced, assumed_passes

OPUS, SONNET = "claude-opus-5-5", "claude-sonnet-5"
ROWS = [
    {
        "model": OPUS,
        "effective": "2026-01-01",
        "input": "4",
        "output": "20",
        "cached_input": "0.2",
        "cache_write_5m": "5",
        "cache_write_1h": "8",
        "web_search": "10",
        "max_output_tokens": 64_000,
        "max_input_tokens": 200_000,
        "when": [{"speed": "fast", "input": "8", "output": "40"}, {"geography": "us", "times": "1.1"}],
    },
    {"model": SONNET, "effective": "2026-01-01", "input": "2", "output": "10", "max_input_tokens": 200_000},
    {"model": "in-house-9", "effective": "2026-01-01", "input": "2", "output": "10"},
]
PRICES: dict[str, Any] = {"prices": ROWS, "with_listed": False}
PLAN = Plan(id="p", api_access=True)
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def price_of_row(row: dict[str, Any]) -> Price:
    document = read_document("prices.yaml", json.dumps({"prices": [row]}).encode(), Problems())
    assert document is not None
    price = read_prices(document).find(row["model"], 10**13)
    assert price is not None
    return price


@asynccontextmanager
async def answering(
    tmp_path: Path, answer: dict[str, Any] | bytes, prices: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[tuple[Harness, ClientSession]]:
    """A gateway whose upstream always answers so: with a message, or with the bytes of a stream."""
    if isinstance(answer, bytes):
        body, kind = answer, "text/event-stream"
    else:
        message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}], **answer}
        body, kind = json.dumps(message).encode(), "application/json"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(asked.partition(b"content-length: ")[2].partition(b"\r")[0]))
        writer.write(head + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        running_gateway(tmp_path, config={"prices": prices or PRICES}, upstream_url=url, **more) as harness,
        ClientSession(timeout=ClientTimeout(total=20)) as session,
    ):
        yield harness, session


async def ask(harness: Harness, session: ClientSession, **members: Any) -> tuple[int, Any]:
    headers = {"x-api-key": ACME_KEY, "anthropic-version": "2023-06-01"}
    body = {"model": OPUS, "max_tokens": 1_000, **HELLO, **members}
    async with session.post(harness.url + "/v1/messages", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def only_event(harness: Harness) -> dict[str, Any]:
    await harness.at_rest()
    (event,) = harness.events()
    return event


@pytest.mark.parametrize(
    ("usage", "members", "nano_usd", "billed"),
    [
        ({"speed": "fast"}, {"speed": "fast"}, 120_000_000, {"conditions": {"speed": "fast"}}),
        ({"inference_geo": "us"}, {}, 66_000_000, {"conditions": {"geography": "us"}}),
        (
            {"server_tool_use": {"web_search_requests": 2}},
            {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]},
            80_000_000,
            {"quantities": {"web_search": 2}},
        ),
        (
            {
                "iterations": [
                    {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
                    {"type": "message", "input_tokens": 10_000, "output_tokens": 1_000},
                ]
            },
            {"context_management": {"edits": [{"type": "compact_20260112"}]}},
            60_000_000 + 180_000 * 4_000 + 3_500 * 20_000,
            {
                "passes": [
                    {"quantities": {"input": 10_000, "output": 1_000}},
                    {"quantities": {"input": 180_000, "output": 3_500}},
                ]
            },
        ),
    ],
)
async def test_an_event_has_what_was_billed(
    tmp_path: Path, usage: dict[str, Any], members: dict[str, Any], nano_usd: int, billed: dict[str, Any]
) -> None:
    whole = {"model": OPUS, "usage": {"input_tokens": 10_000, "output_tokens": 1_000, "service_tier": "standard", **usage}}
    async with answering(tmp_path, whole) as (harness, session):
        assert (await ask(harness, session, **members))[0] == 200
        event = await only_event(harness)
    assert event["_cost"] == event["cost_nano_usd"] == nano_usd
    assert json.loads(event["billed"]) == billed
    assert event["usage_source"] == "upstream"
    assert not [flag for flag in event["flags"] if flag != "overrun"]


async def test_a_refusal_before_any_output_releases_its_hold(tmp_path: Path) -> None:
    refused = {"model": OPUS, "content": [], "stop_reason": "refusal", "usage": {"input_tokens": 5_000, "output_tokens": 1}}
    async with answering(tmp_path, refused) as (harness, session):
        assert (await ask(harness, session))[0] == 200
        event = await only_event(harness)
        window = await harness.window()
    assert (event["_cost"], event["prompt_tokens"], event["completion_tokens"]) == (0, 0, 0)
    assert event["flags"] == ["declined"]
    assert (window.spent_nano_usd, window.held_nano_usd) == (0, 0)


SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": OPUS, "max_uses": 2, "max_tokens": 500}


@pytest.mark.parametrize("is_asked", [True, False])
async def test_an_advisor_and_a_fallback_are_charged_at_their_own_rates(tmp_path: Path, is_asked: bool) -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 40,
        "iterations": [
            {"type": "message", "model": OPUS + "-20261001", "input_tokens": 100, "output_tokens": 5},
            {"type": "advisor_message", "model": OPUS, "input_tokens": 110, "output_tokens": 30},
            {"type": "fallback_message", "model": SONNET + "-20260701", "input_tokens": 100, "output_tokens": 40},
        ],
    }
    asked = {"tools": [ADVISOR], "fallbacks": [{"model": SONNET}]}
    async with answering(tmp_path, {"model": SONNET + "-20260701", "usage": usage}) as (harness, session):
        assert (await ask(harness, session, **(asked if is_asked else {})))[0] == 200
        event = await only_event(harness)
    assert event["cost_nano_usd"] == 100 * 2_000 + 40 * 10_000 + 210 * 4_000 + 35 * 20_000
    assert (event["prompt_tokens"], event["completion_tokens"], event["response_model"]) == (310, 75, SONNET + "-20260701")
    assert not event["flags"]


@pytest.mark.parametrize(("model", "rates"), [(SONNET + "-20260701", (2_000, 10_000)), (OPUS + "-20261001", (4_000, 20_000))])
async def test_a_fallback_that_served_is_charged_as_agreed_for_it_even_without_passes(
    tmp_path: Path, model: str, rates: tuple[int, int]
) -> None:
    async with answering(tmp_path, {"model": model, "usage": {"input_tokens": 100, "output_tokens": 40}}) as (harness, session):
        assert (await ask(harness, session, fallbacks=[{"model": SONNET}]))[0] == 200
        event = await only_event(harness)
    assert event["cost_nano_usd"] == 100 * rates[0] + 40 * rates[1]


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{**ADVISOR, "model": "claude-dear-9"}]},
        {"fallbacks": [{"model": SONNET}, {"model": "claude-dear-9"}]},
    ],
)
async def test_another_model_without_a_price_is_refused_by_its_name(tmp_path: Path, members: dict[str, Any]) -> None:
    async with answering(tmp_path, {"model": OPUS, "usage": {"input_tokens": 1, "output_tokens": 1}}) as (harness, session):
        status, answer = await ask(harness, session, **members)
    assert status == 400
    assert "'claude-dear-9'" in answer["error"]["message"]


async def test_another_model_must_be_one_that_the_credential_may_use(tmp_path: Path) -> None:
    of_acme = organizations()
    of_acme["organizations"][0]["credentials"][0]["models"] = ["claude-sonnet-*"]
    config = {"organizations": of_acme, "prices": {"prices": ROWS}}
    async with running_gateway(tmp_path, config=config) as harness, ClientSession() as session:
        assert (await ask(harness, session, model=SONNET))[0] == 200
        for members in ({"tools": [ADVISOR]}, {"fallbacks": [{"model": OPUS}]}):
            status, answer = await ask(harness, session, model=SONNET, **members)
            assert (status, answer["error"]["code"]) == (403, "model_not_allowed")


def test_the_hold_covers_other_models_at_their_own_rates() -> None:
    opus, sonnet = price_of_row(ROWS[0]), price_of_row(ROWS[1])

    def hold(**members: Any) -> int:
        request = facts_of(model=SONNET, inference_geo="global", **members)
        others = [Priced(other, {OPUS: opus, SONNET: sonnet}[other.model]) for other in request.other_models]
        return estimate(request, PLAN, sonnet, 10_000, others=others).hold_nano_usd

    own = 10_000 * 2_000 + 1_000 * 10_000
    assert hold() == own
    # A fallback reads the prompt and what was written before, and writes as much as the request allows, or its own entry.
    read = 10_000 + 1_000
    assert hold(fallbacks=[{"model": OPUS}]) == own + read * 4_000 + 1_000 * 20_000
    assert hold(fallbacks=[{"model": OPUS, "max_tokens": 3_000, "speed": "fast"}, {"model": OPUS}]) == (
        own + read * 8_000 + 3_000 * 40_000 + read * 4_000 + 1_000 * 20_000
    )
    # An advisor reads all that was written so far, earlier advice included; the executor reads its prompt again after each.
    executor = 10_000 + 2 * (read + 2 * 500)
    advised = executor * 2_000 + 1_000 * 10_000 + 2 * ((read + 2 * 500) * 4_000 + 500 * 20_000)
    assert hold(tools=[ADVISOR]) == advised
    cached = {**ADVISOR, "caching": {"type": "ephemeral", "ttl": "5m"}}
    assert hold(tools=[cached]) == advised + 2 * (read + 2 * 500) * 1_000
    cached = {**ADVISOR, "caching": {"type": "ephemeral", "ttl": "1h"}}
    assert hold(tools=[cached]) == advised + 2 * (read + 2 * 500) * 4_000
    # Without bounds: ten times, each as much as the model can write, and no more read than fits into its window.
    unbound = {"type": "advisor_20260301", "name": "advisor", "model": OPUS}
    assert hold(tools=[unbound]) == own + 10 * 200_000 * 2_000 + 10 * (200_000 * 4_000 + 64_000 * 20_000)
    # A search tool's results are further input of a fallback too, which reads as many windows.
    searching = hold(tools=[SEARCH], fallbacks=[{"model": OPUS}]) - hold(tools=[SEARCH])
    assert searching == 3 * 200_000 * 4_000 + 1_000 * 20_000


def test_what_nobody_saw_of_other_models_is_assumed_as_often_as_it_can_have_been() -> None:
    each = Pass(model=OPUS, quantities={"input": 600, "output": 60})
    others = OthersAtMost(passes=((3, each), (0, Pass(model=SONNET, quantities={"input": 0, "output": 0}))))
    assert assumed_passes(others, None) == [each]
    assert assumed_passes(others, 0) == [Pass(model=OPUS, quantities={"input": 200, "output": 20})]
    assert assumed_passes(others, 1) == [Pass(model=OPUS, quantities={"input": 400, "output": 40})]
    assert assumed_passes(others, 9) == [each]
    usage = usage_of_totals(prompt=10, completion=5).with_calls({"web_search": 1}).with_passes([each])
    assert usage.quantities == {"input": 610, "output": 65, "web_search": 1}
    assert [one.model for one in usage.passes] == [None, OPUS]


@pytest.mark.parametrize("reasons", [True, False])
async def test_a_cut_answer_is_charged_for_the_advice_that_it_may_have_had(tmp_path: Path, reasons: bool) -> None:
    config = {"prices": {"prices": [ROWS[0], {**ROWS[1], "reasons": reasons}]}, "organizations": organizations("90")}
    async with running_gateway(tmp_path, config=config) as harness, ClientSession() as session:
        headers = {"x-api-key": ACME_KEY, "anthropic-version": "2023-06-01", "x-sim": "tokens=9; fault=cut; at=3"}
        for tools in ([], [ADVISOR]):
            body = {"model": SONNET, "max_tokens": 9, "stream": True, **HELLO, "tools": tools}
            with suppress(ClientError):
                async with session.post(harness.url + "/v1/messages", json=body, headers=headers) as answer:
                    await answer.read()
        await harness.at_rest()
    plain, advised = harness.events()
    advice = next(each for each in json.loads(advised["billed"])["passes"] if each.get("model") == OPUS)
    assert advice["quantities"]["output"] == 500
    own = next(each for each in json.loads(advised["billed"])["passes"] if "model" not in each)
    assert own["quantities"]["input"] > 2 * plain["prompt_tokens"] + 500  # the advice, and its prompt again
    assert advised["cost_nano_usd"] >= plain["cost_nano_usd"] + 500 * 20_000
    assert "assumed" in advised["flags"]
    assert "overrun" not in advised["flags"]


DECLINED_TWICE = "message:9/9@claude-opus-5-5,message:5/0@claude-opus-5-5"
FALLING_BACK = {"fallbacks": [{"model": SONNET}]}
SIMULATED = [
    ("tokens=10", {}),
    ("tokens=10; passes=compaction:9/35", {"context_management": {"edits": [{"type": "compact_20260112"}]}}),
    (f"tokens=10; model={SONNET}; passes={DECLINED_TWICE}", FALLING_BACK),
    ("tokens=10; passes=advisor_message:19/400@claude-opus-5-5", {"tools": [ADVISOR]}),
    ("tokens=10; searches=2; geo=us; speed=fast; tier=standard", {"speed": "fast", "tools": [SEARCH]}),
    ("refuse=1", {}),
    (f"refuse=1; model={SONNET}; passes=message:118/0@claude-opus-5-5", FALLING_BACK),
]


async def test_the_simulators_account_is_what_the_events_have(tmp_path: Path) -> None:
    plan = {"plans": {"pay_as_you_go": {"spend_limit": {"usd": "1000"}}, "enterprise": {}, "free": {}}}
    config = {"prices": {"prices": ROWS}, "plans": plan, "organizations": organizations("900")}
    async with running_gateway(tmp_path, config=config) as harness, ClientSession() as session:
        for directive, members in SIMULATED:
            for stream in (False, True):
                headers = {"x-api-key": ACME_KEY, "anthropic-version": "2023-06-01", "x-sim": directive}
                body = {"model": OPUS, "max_tokens": 1_000, "stream": stream, **HELLO, **members}
                async with session.post(harness.url + "/v1/messages", json=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()
        await harness.at_rest()
        events, records = harness.events(), list(harness.ledger.records)
    for event, record in zip(events, records, strict=True):
        quantities = json.loads(event["billed"] or "{}").get("quantities", {})
        told = (event["prompt_tokens"], event["completion_tokens"], quantities.get("web_search", 0))
        assert told == ((record.prompt_tokens, record.generated_tokens, record.searches) if record.accepted else (0, 0, 0))
        assert (event["cost_nano_usd"] > 0) == record.accepted
        assert event["usage_source"] == "upstream"
        assert "overrun" not in event["flags"]
    fast = events[8:10]
    assert [json.loads(event["billed"])["conditions"] for event in fast] == [{"speed": "fast", "geography": "us"}] * 2
    for event in fast:
        prompt = event["prompt_tokens"] * 8_000 + event["completion_tokens"] * 40_000
        assert event["cost_nano_usd"] == prompt * 11 // 10 + 20_000_000


async def test_searches_are_priced_as_shipped(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        assert (await ask(harness, session, model=SONNET, max_tokens=5, tools=[SEARCH]))[0] == 200


async def test_a_search_without_a_price_is_refused_before_it_runs(tmp_path: Path) -> None:
    async with answering(tmp_path, {"model": SONNET, "usage": {"input_tokens": 1, "output_tokens": 1}}) as (harness, session):
        status, answer = await ask(harness, session, model="in-house-9", tools=[SEARCH])
    assert status == 400
    assert "web_search" in answer["error"]["message"]


def facts_of(**members: Any) -> RequestFacts:
    body = json.dumps({"model": OPUS, "max_tokens": 1_000, **HELLO, **members}).encode()
    return AnthropicMessages().read_request(body, path={}, query={})


MOST = usage_of_totals(prompt=10_000, completion=1_000)


@pytest.mark.parametrize(
    ("members", "usage", "conditions"),
    [
        ({}, MOST, Conditions()),
        ({}, MOST, Conditions(geography="us")),
        ({"speed": "fast"}, MOST, Conditions(speed="fast", geography="us")),
        ({"speed": "fast", "inference_geo": "us"}, MOST, Conditions(speed="fast", geography="us")),
        ({"inference_geo": "us", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
         usage_of_totals(prompt=10_000, completion=1_000, cache_write_1h=10_000), Conditions(geography="us")),
        ({"tools": [{"type": "web_search_20250305", "max_uses": 4}]}, MOST.with_calls({"web_search": 4}), Conditions()),
        ({"tools": [{"type": "web_search_20250305"}]}, MOST.with_calls({"web_search": 30}), Conditions(geography="us")),
    ],
)  # fmt: skip
def test_the_hold_covers_the_dearest_that_the_request_allows(members: dict[str, Any], usage: Usage, conditions: Conditions) -> None:
    price = price_of_row(ROWS[0])
    asked = estimate(facts_of(**members), PLAN, price, 10_000)
    assert price.cost_nano_usd(usage, conditions) <= asked.hold_nano_usd
    if "tools" not in members:  # whose results are further input
        assert asked.hold_nano_usd <= price.cost_nano_usd(usage, conditions) * 110 // 100


def test_a_request_that_rules_out_what_is_dearer_is_held_for_less() -> None:
    price = price_of_row(ROWS[0])
    everywhere = estimate(facts_of(), PLAN, price, 10_000).hold_nano_usd
    assert estimate(facts_of(inference_geo="global"), PLAN, price, 10_000).hold_nano_usd == 60_000_000 < everywhere == 66_000_000


async def test_a_region_in_the_name_asked_is_charged_though_the_answer_names_none(tmp_path: Path) -> None:
    answer = {
        "model": "claude-sonnet-5-20260301",
        "usage": {"input_tokens": 1_000, "output_tokens": 100},
        "stop_reason": "end_turn",
    }
    prices = {"prices": ROWS, "surcharges": [{"models": ["us.anthropic.*"], "times": "1.1"}], "with_listed": False}
    async with answering(tmp_path, answer, prices=prices) as (harness, session):
        status, _ = await ask(harness, session, model="us.anthropic.claude-sonnet-5-20260301-v1:0")
        assert status == 200
        event = await only_event(harness)
    assert (event["cost_nano_usd"], event["flags"]) == (3_300_000, [])  # 1.1 * (1,000 * 2 + 100 * 10) micro-USD


def tool_block(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, "id": "srvtoolu_1", **members}}


STARTED = {"type": "message_start", "message": {"model": OPUS, "usage": {"input_tokens": 1_000, "output_tokens": 1}}}
SAID = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me look that up."}}
SEARCHING = tool_block("server_tool_use", name="web_search", input={})
FOUND = tool_block("web_search_tool_result", content=[{"type": "web_search_result", "url": "https://a.example", "title": "A"}])
FAILED = tool_block("web_search_tool_result", content={"type": "web_search_tool_result_error", "error_code": "too_many_requests"})
RUNNING = tool_block("server_tool_use", name="code_execution", input={})
RAN = tool_block("code_execution_tool_result", content={"type": "code_execution_result", "stdout": "4"})
ALL_READ = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 12_000, "output_tokens": 90}}


@pytest.mark.parametrize(
    ("events", "prompt", "searches"),
    [
        ([STARTED, SAID], 1_000, 0),
        ([STARTED, SAID, SEARCHING], 201_000, 1),  # it may have been answered, and all of it be read again
        ([STARTED, SAID, SEARCHING, FOUND, SAID], 201_000, 1),
        ([STARTED, SAID, SEARCHING, FAILED, SAID], 201_000, 0),  # errors are not billed
        ([STARTED, SEARCHING, SEARCHING, FOUND, FOUND, SAID], 201_000, 2),  # one round
        ([STARTED, SEARCHING, FOUND, SAID, SEARCHING], 401_000, 2),
        ([STARTED, RUNNING, RAN, SAID, SEARCHING, FOUND, SAID], 401_000, 1),
        ([STARTED, *[SEARCHING, FOUND, SAID] * 5], 600_000, 5),  # no more than what was held: three full windows
        ([STARTED, SEARCHING, FOUND, SAID, ALL_READ, {"type": "message_stop"}], 12_000, 1),
    ],
)
async def test_a_cut_stream_is_charged_for_the_rounds_that_tools_were_seen_to_begin(
    tmp_path: Path, events: list[dict[str, Any]], prompt: int, searches: int
) -> None:
    stream = b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events)
    prices = {"prices": [{**ROWS[0], "reasons": False}], "with_listed": False}
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}, {"type": "code_execution_20250825", "name": "c"}]
    async with answering(tmp_path, stream, prices, acme_usd="90") as (harness, session):
        headers = {"x-api-key": ACME_KEY, "anthropic-version": "2023-06-01"}
        body = {"model": OPUS, "max_tokens": 1_000, "stream": True, **HELLO, "tools": tools}
        with suppress(ClientError):
            async with session.post(harness.url + "/v1/messages", json=body, headers=headers) as answer:
                await answer.read()
        event = await only_event(harness)
    assert event["prompt_tokens"] == prompt
    assert json.loads(event["billed"] or "{}").get("quantities", {}).get("web_search", 0) == searches
    assert ("assumed" in event["flags"]) == (prompt > 200_000)
    assert "overrun" not in event["flags"]
    assert event["cost_nano_usd"] == prompt * 4_000 + event["completion_tokens"] * 20_000 + searches * 10_000_000
