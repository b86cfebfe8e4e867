"""An operator's `routes.yaml` of some lines over the shipped one: fees of what tells no usage, and `/ai/v1/message` turned on."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from fake_gloo import MESSAGE
from gloo_world import World, running_world
from request_forms import FORMS, Form

pytestmark = pytest.mark.asyncio(loop_scope="module")
FORM = {f"{form.name} {form.path}": form for form in FORMS}
ASKED: dict[str, Any] = {  # cookbook chat-tutorial
    "query": "Who was Ruth?",
    "character_limit": 1000,
    "sources_limit": 5,
    "stream": False,
    "publishers": [],
    "enable_suggestions": 1,
}
ROUTES = [
    {"method": "GET", "path": "/platform/v9/news", "capability": "models"},
    {"method": "POST", "path": "/ai/v1/message", "capability": "chat", "fee_usd": "0.01"},
    {"method": "POST", "path": "/ai/data/v1/search", "capability": "search", "fee_usd": "0.002"},
    {"method": "POST", "path": "/ai/v1/data/items/recommendations/verbose", "capability": "recommendations", "fee_usd": "0.003"},
    {"method": "POST", "path": "/ingestion/v2/files", "capability": "ingestion", "fee_usd": "0.0000005"},
    {
        "method": "POST",
        "path": "/ai/v2/guarded/responses",
        "capability": "chat",
        "dialect": "gloo_responses",
        "fee_usd": "0.001",
        "markup_percent": "6.5",
    },
]


def message(name: str, query: str = "", **more: Any) -> Form:
    return Form(name=name, source="cookbook chat-tutorial", path="/ai/v1/message", query=query, body=ASKED | more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_world(tmp_path_factory.mktemp("gloo"), routes={"with_shipped": True, "routes": ROUTES}) as found:
        yield found


@pytest.mark.parametrize(
    ("form", "org", "fee"),
    [
        (message("a message"), "acme", 10_000_000),
        (message("of the reference", "intent=0&enable_sources=0&enable_suggestions=0", stream=True), "acme", 10_000_000),
        (FORM["search /ai/data/v1/search"], "partner", 2_000_000),
        (FORM["search of before /ai/v1/kallm/search"], "partner", 0),
        (FORM["verbose /ai/v1/data/items/recommendations/verbose"], "partner", 3_000_000),
        (FORM["verbose /ai/data/v1/items/recommendations/verbose"], "partner", 0),
        (FORM["two files /ingestion/v2/files"], "partner", 500),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else str(value),
)
async def test_a_route_without_tokens_costs_its_fee(world: World, form: Form, org: str, fee: int) -> None:
    answered = await world.ask(form, org)
    assert answered.served is not None
    assert answered.event is not None
    assert (answered.status, answered.body, answered.served.path) == (200, answered.served.answer, form.target_up)
    told = {name: answered.event[name] for name in ("cost_nano_usd", "fee_nano_usd", "prompt_tokens", "usage_source", "flags")}
    assert told == {"cost_nano_usd": fee, "fee_nano_usd": fee, "prompt_tokens": 0, "usage_source": "none", "flags": []}


async def test_a_fee_adds_up_with_tokens_and_a_markup_of_them(world: World) -> None:
    answered = await world.ask(FORM["guarded /ai/v2/guarded/responses"], "acme")
    assert answered.event is not None
    # 25 and 150 tokens at 3.195 and 15.975 USD a million, and a fee of 0.001 USD
    assert answered.event["cost_nano_usd"] == 25 * 3_195 + 150 * 15_975 + 1_000_000
    assert answered.event["fee_nano_usd"] == 1_000_000


@pytest.mark.parametrize(
    ("fails", "status"), [("rate", 429), ("spending", 429), ("entitlement", 403), ("provider", 503), ("not_found", 404)]
)
async def test_no_fee_is_owed_of_what_gloo_refuses(world: World, fails: str, status: int) -> None:
    answered = await world.ask(FORM["search /ai/data/v1/search"], "partner", fails=fails)
    assert answered.event is not None
    assert (answered.status, answered.event["cost_nano_usd"], answered.event["fee_nano_usd"]) == (status, 0, 0)


async def test_a_chat_is_gone_on_with_and_read_by_whom_it_belongs_to(world: World) -> None:
    assert (await world.ask(message("a message"), "acme")).status == 200
    goes_on = message("goes on", chat_id=MESSAGE["chat_id"])
    history = Form(
        name="history", source="cookbook chat-tutorial", method="GET", path="/ai/v1/chat", query=f"chat_id={MESSAGE['chat_id']}"
    )
    for form in (goes_on, history):
        assert (await world.ask(form, "acme")).status == 200
        refused = await world.ask(replace(form, name="of others"), "partner")
        assert (refused.status, refused.served) == (404, None)


async def test_a_path_that_was_unknown_is_let_through_by_one_line(world: World) -> None:
    form = Form(name="new", source="", method="GET", path="/platform/v9/news", capability="models")
    answered = await world.ask(form, "acme")
    assert answered.served is not None
    assert (answered.status, answered.body) == (404, answered.served.answer)
    assert (await world.ask(replace(form, path="/platform/v9/other"), "acme")).served is None


async def test_the_window_has_the_fees(world: World) -> None:
    await world.ask(message("a message"), "acme")
    window = await world.harness.window()
    spent = sum(event["cost_nano_usd"] for event in world.harness.events() if event["org"] == "acme")
    assert (window.spent_nano_usd, window.held_nano_usd) == (spent, 0)
    assert spent >= 10_000_000
