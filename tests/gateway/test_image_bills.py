"""What images cost, from the hold to the usage event: costs worked out by hand from the providers' pages."""

import json
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession, FormData, web
from gateway_harness import ACME_KEY, Harness, running_gateway
from usage_events import cost_by_kind

from tallygate.config.document import read_document
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.dialects.openai_images import OpenAiImages
from tallygate.domain.organization import Plan
from tallygate.domain.unit import Unit
from tallygate.gateway.exchange.asked_price import as_priced
from tallygate.gateway.exchange.estimate import estimate

PATH = "/v1/images/generations"
DRAWS = "gpt-image-1.5"
PRICES: dict[str, Any] = {
    "prices": [
        {
            "model": DRAWS,
            "effective": "2026-01-01",
            "input": "5",
            "cached_input": "1.25",
            "input_image": "8",
            "cached_input_image": "2",
            "output": "10",
            "output_image": "32",
        },
        {
            "model": "dall-e-3",
            "effective": "2026-01-01",
            "input": "0",
            "output": "0",
            "image": "0.12",
            "image:standard": "0.08",
            "image:standard:1024x1024": "0.04",
            "image:auto:1024x1024": "0.04",
            "image:hd:1024x1024": "0.08",
        },
        {
            "model": "grok-imagine-image",
            "effective": "2026-01-01",
            "input": "0",
            "output": "0",
            "image": "0.02",
            "source_image": "0.002",
        },
        {"model": "gpt-image-2", "effective": "2026-01-01", "input": "5", "output": "10", "output_image": "30"},
        {"model": "text-embedding-3-small", "effective": "2026-01-01", "input": "0.02", "output": "0"},
        {"model": "gpt-6-sol", "effective": "2026-01-01", "input": "2", "output": "10", "max_output_tokens": 1_000},
    ]
}


class World:
    def __init__(self, harness: Harness, session: ClientSession) -> None:
        self.harness, self.session = harness, session

    async def ask(self, body: dict[str, Any], directive: str = "") -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {ACME_KEY}"} | ({"x-sim": directive} if directive else {})
        body = {"model": DRAWS, "prompt": "A cat"} | body
        async with self.session.post(self.harness.url + PATH, json=body, headers=headers) as answer:
            try:
                return answer.status, await answer.read()
            except ClientPayloadError:  # it was cut
                return answer.status, b""

    async def event(self, body: dict[str, Any], directive: str = "") -> dict[str, Any]:
        before = len(self.harness.events())
        await self.ask(body, directive)
        await self.harness.at_rest()
        assert len(self.harness.events()) == before + 1
        event = self.harness.events()[-1]
        assert "overrun" not in event["flags"]
        window = await self.harness.window()
        assert window.held_nano_usd == 0
        return event


async def test_tokens_of_images_are_what_the_provider_counted(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        world = World(harness, session)
        for body in ({}, {"n": 3, "quality": "high"}, {"stream": True, "partial_images": 3}, {"stream": True, "n": 2}):
            event, record = await world.event(body), harness.ledger.records[-1]
            assert (event["prompt_tokens"], event["completion_tokens"]) == (record.prompt_tokens, record.generated_tokens)
            assert event["cost_nano_usd"] == record.prompt_tokens * 5_000 + record.image_tokens * 32_000
            assert json.loads(event["billed"])["quantities"] == {"output_image": record.image_tokens}
            assert (event["usage_source"], event["flags"]) == ("upstream", [])
        await world.event({"model": "gpt-image-2", "quality": "high", "size": "1536x1024"})  # within its hold, though exactly held
        assert harness.ledger.records[-1].image_tokens == 5_488
        edited = await world.event({"n": 2, "image": [{"url": "https://example.org/a.png"}] * 2, "quality": "low"})
        record = harness.ledger.records[-1]
        assert record.source_image_tokens == 4_096
        text = record.prompt_tokens - 4_096
        assert edited["cost_nano_usd"] == text * 5_000 + 4_096 * 8_000 + 544 * 32_000
        assert cost_by_kind(edited).keys() == {"input", "media"}


async def test_a_stated_cost_is_charged_where_it_is_settled_by(tmp_path: Path, aiohttp_server: Any) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"url": "u"}], "usage": {"cost_in_usd_ticks": 220_000_000}})

    app = web.Application()
    app.router.add_post("/{tail:.*}", answer)
    url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    body = {"model": "grok-imagine-image", "image": {"url": "https://example.org/a.png"}}
    for way, cost in (("compare", 22_000_000), ("settle", 22_000_000)):
        config = {"prices": PRICES, "upstreams": {"upstreams": {"default": {"stated_cost": way}}}}
        (tmp_path / way).mkdir()
        async with running_gateway(tmp_path / way, upstream_url=url, config=config) as harness, ClientSession() as session:
            event = await World(harness, session).event(body)
            assert event["cost_nano_usd"] == cost
            stated = json.loads(event["billed"])["stated_cost"]
            assert stated == {"nano_usd": 22_000_000} | ({"is_charged": True} if way == "settle" else {})


async def test_an_answer_without_usage_is_charged_by_what_it_has(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        world = World(harness, session)
        for stream in (False, True):
            event = await world.event({"n": 2, "quality": "low", "stream": stream}, "usage=missing")
            record = harness.ledger.records[-1]
            assert event["cost_nano_usd"] == record.prompt_tokens * 5_000 + 2 * 272 * 32_000
            assert (event["usage_source"], event["flags"]) == ("counted", [])


async def test_images_that_are_billed_as_such_cost_their_quality_and_size(tmp_path: Path) -> None:
    small = {"model": "dall-e-3", "size": "1024x1024"}
    asked = [
        (small, 40_000_000),
        (small | {"quality": "standard"}, 40_000_000),
        (small | {"quality": "hd"}, 80_000_000),
        (small | {"quality": "standard", "size": "1792x1024"}, 80_000_000),
        ({"model": "dall-e-3", "n": 2}, 240_000_000),
        ({"model": "grok-imagine-image", "n": 3}, 60_000_000),
        ({"model": "grok-imagine-image", "n": 2, "image": {"url": "https://example.org/a.png"}}, 44_000_000),
        ({"model": "dall-e-3", "size": "1024x1024", "images": ["a", "b"]}, 40_000_000),  # nothing is stated for those
    ]
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        world = World(harness, session)
        for body, cost in asked:
            event = await world.event(body)
            assert event["cost_nano_usd"] == cost, body
            assert (event["prompt_tokens"], event["completion_tokens"]) == (0, 0)
            assert (event["usage_source"], event["flags"]) == ("upstream", [])
            assert cost_by_kind(event) == {"media": cost}
            assert harness.ledger.records[-1].images == body.get("n", 1)


async def test_an_image_that_broke_off_is_charged_whole(tmp_path: Path) -> None:
    drawn = {"stream": True, "partial_images": 2, "quality": "low", "size": "1024x1024"}
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        world = World(harness, session)
        most = 272 + 2 * 100 + 1_000
        for directive in ("fault=cut at=1", "fault=cut at=2 byte=90", "fault=cut at=2 how=end", "fault=error at=1", "fault=drop"):
            event = await world.event(drawn, directive)
            assert event["completion_tokens"] == most, directive
            assert event["usage_source"] == "assumed"
            assert "assumed" in event["flags"]
        one = await world.event(drawn | {"n": 2}, "fault=cut at=4")  # the first of two had come, and its usage
        assert one["completion_tokens"] == 2 * most
        whole = await world.event({"n": 3, "model": "dall-e-3", "size": "1024x1024"}, "fault=cut byte=200")
        assert whole["cost_nano_usd"] == 120_000_000
        refused = await world.event({"n": 3, "model": "dall-e-3"}, "fault=status:400")
        assert refused["cost_nano_usd"] == 0


async def test_forms_are_held_and_charged(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:

        async def send(path: str, pictures: int, bytes_of_each: int, **fields: str) -> tuple[int, Any]:
            form = FormData()
            for name, value in fields.items():
                form.add_field(name, value)
            for index in range(pictures):
                form.add_field(
                    "image[]", BytesIO(b"\x89PNG" * (bytes_of_each // 4)), filename=f"{index}.png", content_type="image/png"
                )
            headers = {"Authorization": f"Bearer {ACME_KEY}"}
            async with session.post(harness.url + path, data=form, headers=headers) as answer:
                await answer.read()
                await harness.at_rest()
                return answer.status, harness.events()[-1] if answer.status == 200 else await answer.json()

        for size in (9, 5_000_000):  # kept whole, and streamed
            status, event = await send("/v1/images/edits", 2, size, model=DRAWS, prompt="A hat", n="2", quality="low")
            record = harness.ledger.records[-1]
            assert status == 200
            assert record.source_image_tokens == 4_096
            text = record.prompt_tokens - 4_096
            assert event["cost_nano_usd"] == text * 5_000 + 4_096 * 8_000 + 544 * 32_000
            assert (event["usage_source"], event["flags"]) == ("upstream", [])
        status, event = await send("/v1/images/edits", 3, 9, model="grok-imagine-image", prompt="A hat")
        assert (status, event["cost_nano_usd"]) == (200, 20_000_000 + 3 * 2_000_000)
        status, event = await send("/v1/images/variations", 1, 9, model="dall-e-3", size="1024x1024", n="2")
        assert (status, event["cost_nano_usd"]) == (200, 80_000_000)
        served = len(harness.ledger.records)
        status, refused = await send("/v1/images/edits", 1, 9, model=DRAWS, prompt="A hat", n="many")
        assert (status, refused["error"]["param"]) == (400, "n")
        status, refused = await send("/v1/images/edits", 1, 3_000_000, model=DRAWS, prompt="A hat", n="1000")
        assert (status, refused["error"]["code"]) == (429, "spend_limit_exceeded")
        assert len(harness.ledger.records) == served


async def test_megabytes_of_base64_change_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        world = World(harness, session)
        for body in ({"stream": True, "partial_images": 1}, {}):
            for at in (0, 1) if body else (0,):
                event = await world.event(body, f"fault=huge at={at} size=20000000")
                assert (event["usage_source"], event["flags"]) == ("upstream", [])


async def test_what_cannot_be_priced_is_refused(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        world = World(harness, session)
        for model, word in (("gpt-image-99", "gpt-image-99"), ("text-embedding-3-small", "image:auto:auto")):
            status, body = await world.ask({"model": model})
            assert status == 400
            error = json.loads(body)["error"]
            assert (error["code"], error["param"]) == ("unknown_model", "model")
            assert word in error["message"]
            assert "tool" not in error["message"]
        status, body = await world.ask({"n": 1_000, "quality": "high"})  # $200 of $100
        assert (status, json.loads(body)["error"]["code"]) == (429, "spend_limit_exceeded")
        assert not harness.ledger.records


async def test_the_author_of_an_svg_is_held_and_charged(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config={"prices": PRICES}, acme_usd="100") as harness, ClientSession() as session:
        world = World(harness, session)
        svg = {"output_format": "svg", "quality": "low"}
        assert (await world.ask(svg | {"svg": {"model": "gpt-99"}}))[0] == 400
        event = await world.event(svg | {"svg": {"model": "gpt-6-sol"}}, "fault=cut byte=20")
        assert [each.get("model") for each in json.loads(event["billed"])["passes"]] == [None, "gpt-6-sol"]


def price_of(model: str) -> Any:
    document = read_document("prices.yaml", json.dumps(PRICES).encode(), Problems())
    assert document is not None
    return read_prices(document).find(model, 1_800_000_000_000)


@pytest.mark.parametrize("model", [DRAWS, "dall-e-3", "grok-imagine-image"])
def test_no_bill_is_above_its_hold(model: str) -> None:
    """Whatever an answer states of what the request left open."""
    price = price_of(model)
    plan = Plan(id="p", unknown_input_tokens=300_000)
    open_sizes, sizes = (None, "auto", "1024 x 1024"), ("1024x1024", "1792x1024", "1024x1536")
    open_qualities, qualities = (None, "auto"), ("low", "high", "standard", "hd")
    for size, quality, number in product((*open_sizes, *sizes), (*open_qualities, *qualities), (1, 4)):
        body = {"model": model, "prompt": "A cat", "n": number, "size": size, "quality": quality, "image": "a"}
        facts = OpenAiImages().read_request(json.dumps(body).encode(), path={}, query={})
        billed = as_priced(facts, price)
        held = estimate(billed, plan, price, 6_250)
        assert held.rate_tokens <= 16_384 + number * plan.default_output_tokens
        assert held.hold_min_nano_usd == held.hold_nano_usd
        for got_size, got_quality in product(
            sizes if size in open_sizes else (size,), qualities if quality in open_qualities else (quality,)
        ):
            answer = {"data": [{}] * number, "size": got_size, "quality": got_quality}
            meter = OpenAiImages().meter(billed, content_type="application/json", hide_usage_chunk=False)
            meter.feed(json.dumps(answer).encode())
            meter.end_body()
            reading = meter.reading
            calls = {} if reading.usage is None else reading.usage.quantities
            quantities = {Unit.INPUT_IMAGE: number * 6_250, **reading.media_tokens, **calls}
            assert sum(price.pico_usd_by_kind([quantities]).values()) <= held.hold_nano_usd * 1_000, (body, answer)


async def test_an_odd_answer_is_never_free(tmp_path: Path, aiohttp_server: Any) -> None:
    said: list[Any] = []

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(said[-1])

    app = web.Application()
    app.router.add_post("/{tail:.*}", answer)
    url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    zeros, no_output = ({"input_tokens": each, "output_tokens": 0, "total_tokens": each} for each in (0, 50))
    counted = 272 * 32_000
    async with (
        running_gateway(tmp_path, upstream_url=url, config={"prices": PRICES}, acme_usd="100") as harness,
        ClientSession() as session,
    ):
        world = World(harness, session)
        for usage in (zeros, no_output, {"output_tokens": -5}, {"input_tokens": "a"}, []):
            said.append({"data": [{"url": "u"}], "usage": usage})
            event = await world.event({"quality": "low", "size": "1024x1024"})
            assert event["cost_nano_usd"] == event["prompt_tokens"] * 5_000 + counted, usage
            assert event["usage_source"] == "counted"
        for odd in ({}, {"created": 1}, {"data": {"url": "u"}}, {"output": ["u"]}, [{"url": "u"}]):
            said.append(odd)
            event = await world.event({"quality": "low", "size": "1024x1024"})
            assert event["cost_nano_usd"] > counted, odd
            event = await world.event({"model": "dall-e-3", "n": 2})
            assert (event["cost_nano_usd"], event["usage_source"]) == (240_000_000, "assumed"), odd
        for listed in ({"data": ["u", "u"]}, {"images": ["u", "u"]}):
            said.append(listed)
            event = await world.event({"model": "dall-e-3", "n": 2})
            assert (event["cost_nano_usd"], event["usage_source"]) == (240_000_000, "upstream"), listed
