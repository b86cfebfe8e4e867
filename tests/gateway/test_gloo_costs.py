"""What requests to Gloo cost by its own catalogue, which has rates of input and output alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from gateway_harness import ACME_KEY, Harness, running_gateway

SONNET, EMBEDDINGS = "gloo-anthropic-claude-sonnet-4.5", "gloo-baai-bge-base-en-v1.5"


def row(model: str, family: str, rate_in: str | None, rate_out: str | None, output_max: int | None = None) -> dict[str, Any]:
    rates = {side: {"rate_per_1m_tokens": rate} for side, rate in (("input", rate_in), ("output", rate_out)) if rate}
    return {"id": model, "family": family, "max_output_tokens": output_max, "pricing": rates}


ROWS = [
    row(SONNET, "Anthropic", "3.00", "15.00", 64_000),
    row("gloo-openai-gpt-5.2", "OpenAI", "1.75", "14.00", 128_000),
    row("gloo-google-image", "Google", None, "30.00", 32_768),
    row(EMBEDDINGS, "Open Source", "0.02", None),
]


class Gloo:
    """Answers with the model and the usage that it is told to; remembers bodies."""

    def __init__(self) -> None:
        self.model: str | None = SONNET
        self.usage: dict[str, Any] = {}
        self.bodies: list[dict[str, Any]] = []
        self.rows = ROWS
        self.waits_for = 1  # no request is answered before so many are there

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": self.rows})

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        async with asyncio.timeout(10):
            while len(self.bodies) < self.waits_for:
                await asyncio.sleep(0.005)
        model = {} if self.model is None else {"model": self.model}
        if "input" in self.bodies[-1] and "embeddings" in request.path:
            return web.json_response({"object": "list", "data": [], **model, "usage": self.usage})
        if "responses" in request.path:
            answer = {"object": "response", "status": "completed", "output": [], **model, "usage": self.usage}
            return web.json_response(answer)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Peace."}}
        return web.json_response({"object": "chat.completion", **model, "choices": [choice], "usage": self.usage})


class World:
    def __init__(self, gloo: Gloo, harness: Harness, session: ClientSession) -> None:
        self.gloo, self.harness, self.session = gloo, harness, session

    async def ask(self, path: str, body: dict[str, Any], **headers: str) -> int:
        headers |= {"Authorization": f"Bearer {ACME_KEY}"}
        async with self.session.post(self.harness.url + path, json=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def event(self) -> dict[str, Any]:
        """The last one."""
        await self.harness.at_rest()
        return self.harness.events()[-1]

    async def chat(self, **body: Any) -> dict[str, Any]:
        body = {"max_tokens": 200, "messages": [{"role": "user", "content": "Hello"}]} | body
        assert await self.ask("/ai/v2/chat/completions", body) == 200
        return await self.event()


@asynccontextmanager
async def gloo_world(
    tmp_path: Path, aiohttp_server: Any, *, config: Any = None, rows: list[dict[str, Any]] = ROWS, usd: str = "25", **upstream: Any
) -> AsyncIterator[World]:
    gloo = Gloo()
    gloo.rows = rows
    app = web.Application()
    app.router.add_get("/platform/v2/models", gloo.models)
    app.router.add_post("/{tail:.*}", gloo.answer)
    url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    files = {"upstreams": {"upstreams": {"default": {"catalogue_path": "/platform/v2/models", **upstream}}}, **(config or {})}
    async with running_gateway(tmp_path, upstream_url=url, config=files, acme_usd=usd) as harness, ClientSession() as session:
        yield World(gloo, harness, session)


async def test_embeddings_cost_their_input_and_nothing_that_generates_is_charged_by_them(
    tmp_path: Path, aiohttp_server: Any
) -> None:
    async with gloo_world(tmp_path, aiohttp_server) as world:
        world.gloo.model, world.gloo.usage = EMBEDDINGS, {"prompt_tokens": 1_000, "total_tokens": 1_000}
        assert await world.ask("/v1/embeddings", {"model": EMBEDDINGS, "input": "Hello"}) == 200
        event = await world.event()
        assert (event["cost_nano_usd"], event["completion_tokens"], event["flags"]) == (20_000, 0, ["overrun"])

        assert await world.ask("/ai/v2/chat/completions", {"model": EMBEDDINGS, "messages": []}) == 400
        assert len(world.gloo.bodies) == 1


@pytest.mark.parametrize("answering", ["gloo-unheard-of", EMBEDDINGS, None])
async def test_an_answering_model_without_a_price_is_charged_at_the_bound_and_flagged(
    tmp_path: Path, aiohttp_server: Any, answering: str | None
) -> None:
    async with gloo_world(tmp_path, aiohttp_server) as world:
        world.gloo.model, world.gloo.usage = answering, {"prompt_tokens": 2, "completion_tokens": 100}
        event = await world.chat(auto_routing=True)
        assert (event["cost_nano_usd"], event["flags"]) == (100 * 30_000, ["charged_at_bound"])
        assert event["price_version"].startswith("dearest.")

        event = await world.chat(model=SONNET)
        assert event["cost_nano_usd"] == 2 * 3_000 + 100 * 15_000
        assert event["flags"] == ([] if answering is None else ["charged_at_bound"])


async def test_an_answering_model_with_a_price_is_charged_at_it_without_a_flag(tmp_path: Path, aiohttp_server: Any) -> None:
    async with gloo_world(tmp_path, aiohttp_server) as world:
        world.gloo.usage = {"prompt_tokens": 2, "completion_tokens": 100}
        event = await world.chat(auto_routing=True)
        assert (event["cost_nano_usd"], event["flags"]) == (2 * 3_000 + 100 * 15_000, [])


CACHED = {"prompt_tokens": 2_025, "completion_tokens": 150, "cache_tokens": 2_000}
PLAIN = {"prompt_tokens": 2_025, "completion_tokens": 150}


@pytest.mark.parametrize(
    ("usage", "ttl", "cost"),
    [
        (CACHED, "", 2_925_000),  # 2,000 at a tenth of 3 USD a million, 25 at 3, 150 out at 15
        (PLAIN, "", 8_325_000),
        (PLAIN | {"prompt_tokens_details": {"cache_write_tokens": 2_000}}, "5m", 9_825_000),
        (PLAIN | {"prompt_tokens_details": {"cache_write_tokens": 2_000}}, "1h", 14_325_000),
    ],
)
async def test_cached_tokens_cost_their_familys_ratio_of_input(
    tmp_path: Path, aiohttp_server: Any, usage: dict[str, Any], ttl: str, cost: int
) -> None:
    async with gloo_world(tmp_path, aiohttp_server) as world:
        world.gloo.usage = usage
        body = {"model": SONNET, "max_tokens": 200, "messages": [{"role": "user", "content": "word " * 3_000}]}
        assert await world.ask("/ai/v2/chat/completions", body, **({"X-Cache-TTL": ttl} if ttl else {})) == 200
        event = await world.event()
        assert (event["cost_nano_usd"], event["flags"]) == (cost, [])


@pytest.mark.parametrize(
    ("ratios", "cached"),
    [({"openai": {"cached_input": "0.25"}}, 875_000), ({"*": {"cached_input": "0.5"}}, 1_750_000), ({}, 3_500_000)],
)
async def test_an_operator_states_the_ratios(tmp_path: Path, aiohttp_server: Any, ratios: dict[str, Any], cached: int) -> None:
    async with gloo_world(tmp_path, aiohttp_server, cache_ratios=ratios) as world:
        world.gloo.model, world.gloo.usage = "gloo-openai-gpt-5.2", CACHED
        event = await world.chat(model="gloo-openai-gpt-5.2", messages=[{"role": "user", "content": "word " * 3_000}])
        assert event["cost_nano_usd"] == cached + 25 * 1_750 + 150 * 14_000


RESPONSES_UP = {"method": "POST", "path": "/ai/v2/responses", "capability": "chat", "dialect": "openai_responses"}
CHAT_PLAIN = {"method": "POST", "path": "/ai/v2/chat/completions", "capability": "chat", "dialect": "openai_chat"}


@pytest.mark.parametrize(
    ("of_route", "of_upstream", "millionths"), [("6.5", "50", 65_000), (None, "50", 500_000), ("0", "50", 0), (None, "0.0001", 1)]
)
async def test_a_markup_is_held_and_charged_and_stands_in_the_prices_version(
    tmp_path: Path, aiohttp_server: Any, of_route: str | None, of_upstream: str, millionths: int
) -> None:
    route = RESPONSES_UP | ({} if of_route is None else {"markup_percent": of_route})
    config = {"routes": {"routes": [route, CHAT_PLAIN]}}
    async with gloo_world(tmp_path, aiohttp_server, config=config, markup_percent=of_upstream) as world:
        world.gloo.usage = {"input_tokens": 25, "output_tokens": 150, "input_tokens_details": {"cached_tokens": 20}}
        body = {"model": SONNET, "input": "word " * 20, "max_output_tokens": 200}
        assert await world.ask("/ai/v2/responses", body) == 200
        event = await world.event()

    pico = [-(-rate * (1_000_000 + millionths) // 1_000_000) for rate in (3_000_000, 300_000, 15_000_000)]
    assert event["cost_nano_usd"] == -(-(5 * pico[0] + 20 * pico[1] + 150 * pico[2]) // 1_000)
    assert event["price_version"].partition("+")[2] == {0: "", 65_000: "6.5%", 500_000: "50%", 1: "0.0001%"}[millionths]


async def test_a_markup_is_part_of_the_hold_and_of_the_bound(tmp_path: Path, aiohttp_server: Any) -> None:
    async with gloo_world(tmp_path, aiohttp_server, markup_percent="6.5") as world:
        world.gloo.model, world.gloo.usage = "gloo-unheard-of", {"prompt_tokens": 2, "completion_tokens": 200}
        event = await world.chat(auto_routing=True)
        assert (event["cost_nano_usd"], event["flags"]) == (200 * 31_950, ["charged_at_bound"])  # 30 USD a million and 6.5 %
        assert event["price_version"].startswith("dearest.")
        assert event["price_version"].endswith("+6.5%")

        world.gloo.model = SONNET
        event = await world.chat(auto_routing=True)
        assert (event["cost_nano_usd"], event["flags"]) == (2 * 3_195 + 200 * 15_975, [])


DEAR_ROWS = [
    row("gloo-openai-gpt-5-pro", "OpenAI", "15.00", "120.00", 272_000),  # 32.64 USD a request
    row("gloo-openai-gpt-5-mini", "OpenAI", "0.25", "2.00", 128_000),
    row("gloo-deepseek-v4", "Open Source", "0.28", "3.48", 384_000),
    row(SONNET, "Anthropic", "3.00", "15.00", 64_000),
    row("gloo-anthropic-old", "Anthropic", "0.80", "4.00", 8_192),
]
ROUTED = {"messages": [{"role": "user", "content": "Hello"}], "auto_routing": True}


async def test_twenty_callers_at_once_are_admitted_on_the_shipped_plan_whatever_the_dearest_model(
    tmp_path: Path, aiohttp_server: Any
) -> None:
    async with gloo_world(tmp_path, aiohttp_server, rows=DEAR_ROWS, usd="100") as world:
        world.gloo.usage, world.gloo.waits_for = {"prompt_tokens": 2, "completion_tokens": 100}, 20
        assert await asyncio.gather(*(world.ask("/ai/v2/chat/completions", ROUTED) for _ in range(20))) == [200] * 20
        await world.harness.at_rest()
        assert (await world.harness.window()).spent_nano_usd == 20 * (2 * 3_000 + 100 * 15_000)
        assert [body.get("max_tokens", body.get("max_completion_tokens")) for body in world.gloo.bodies] == [8_192] * 20


async def test_a_routed_request_goes_as_it_is_where_its_worst_case_is_a_small_part_of_the_limit(
    tmp_path: Path, aiohttp_server: Any
) -> None:
    async with gloo_world(tmp_path, aiohttp_server, usd="100") as world:
        world.gloo.usage = {"prompt_tokens": 2, "completion_tokens": 100}
        assert await world.ask("/ai/v2/chat/completions", ROUTED) == 200
        assert world.gloo.bodies == [ROUTED]


@pytest.mark.parametrize(
    ("narrowed", "sent"),
    [
        ({"auto_routing": {"reaches": ["gloo-openai-gpt-5-m*", "Anthropic"]}}, None),
        ({"auto_routing": {"reaches": ["gloo-openai-gpt-5-mini"], "max_output_tokens": 2_000}}, 2_000),
        ({"auto_routing": {"max_output_tokens": 50_000}}, 8_192),  # more would be refused by one of them
        ({"families": {"openai": ["gloo-openai-gpt-5-mini"]}}, None),
        # Names as the shipped prices.yaml has them are those of the catalogue too.
        ({"families": {"openai": ["gpt-5-mini"]}}, None),
        ({"auto_routing": {"reaches": ["gpt-5-pro"]}}, 33_325),
    ],
)
async def test_an_operator_narrows_what_routing_reaches_and_states_its_maximum(
    tmp_path: Path, aiohttp_server: Any, narrowed: dict[str, Any], sent: int | None
) -> None:
    prices = {"prices": [{"model": "gpt-4o", "effective": "2024-08-06", "input": "2.5", "output": "10"}], **narrowed}
    async with gloo_world(tmp_path, aiohttp_server, rows=DEAR_ROWS, usd="100", config={"prices": prices}) as world:
        world.gloo.usage = {"prompt_tokens": 2, "completion_tokens": 100}
        assert await world.ask("/ai/v2/chat/completions", ROUTED) == 200
        (body,) = world.gloo.bodies
        assert body.get("max_tokens", body.get("max_completion_tokens")) == sent
        event = await world.event()
        assert event["flags"] == []


async def test_a_family_that_only_the_catalogue_has_is_bounded_by_it(tmp_path: Path, aiohttp_server: Any) -> None:
    narrow = {"families": {"openai": ["gloo-openai-gpt-5-mini"]}}
    prices = {"prices": [{"model": "gpt-4o", "effective": "2024-08-06", "input": "2.5", "output": "10"}], **narrow}
    async with gloo_world(tmp_path, aiohttp_server, rows=DEAR_ROWS, config={"prices": prices}) as world:
        world.gloo.model, world.gloo.usage = None, {"prompt_tokens": 2, "completion_tokens": 100}
        assert (await world.chat(model_family="Anthropic"))["cost_nano_usd"] == 2 * 3_000 + 100 * 15_000
        assert (await world.chat(model_family="openai"))["cost_nano_usd"] == 2 * 250 + 100 * 2_000
