"""What comes of a request to Gloo AI that fails: before the answer, inside a 200, or here, where it is refused by name."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from fake_gloo import PUBLISHER
from gloo_world import World, running_world
from request_forms import (
    AUTO,
    BGE,
    FORMS,
    IMAGE,
    NOT_IN_PAY_AS_YOU_GO,
    OWN,
    PLAN_TOOL,
    SAID,
    SEARCH,
    SONNET,
    Form,
    chat,
    response,
    upload,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
FORM = {form.name: form for form in FORMS}
CHAT = FORM["model"]
STREAM = FORM["stream with usage"]
WRITTEN = (3_750, 15_000)  # an input of which nothing is told may have been written to the cache, at 1.25 times 3,000
RESPONSES_STREAM = FORM["guarded stream, flattened"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_world(tmp_path_factory.mktemp("gloo")) as found:
        yield found


@pytest.mark.parametrize(
    ("fails", "form", "org", "status"),
    [
        ("rate", CHAT, "acme", 429),
        ("rate", STREAM, "acme", 429),
        ("rate", FORM["search"], "partner", 429),
        ("spending", CHAT, "acme", 429),
        ("spending", RESPONSES_STREAM, "acme", 429),
        ("entitlement", FORM["a file"], "partner", 403),
        ("guardrail", FORM["guarded"], "acme", 403),
        ("guardrail", RESPONSES_STREAM, "acme", 403),
        ("provider", CHAT, "acme", 503),
        ("timeout", STREAM, "acme", 408),
        ("invalid", CHAT, "acme", 422),
        ("not_found", FORM["an item"], "partner", 404),
        ("", chat("an image model", "docs api-guides/responses-v1", model=IMAGE, cost=0), "acme", 400),
        (
            "",
            chat("no messages at all", "docs api-reference/completions/v2/grounded", FORM["grounded"].path, said=[], model=AUTO),
            "acme",
            400,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else str(value),
)
async def test_a_refusal_of_gloos_comes_down_byte_by_byte_and_costs_nothing(
    world: World, fails: str, form: Form, org: str, status: int
) -> None:
    answered = await world.ask(form, org, fails=fails)
    assert answered.served is not None
    assert answered.event is not None
    assert (answered.status, answered.body) == (status, answered.served.answer)
    assert answered.event["outcome"] == ("upstream_error" if status >= 500 else "client_error")
    told = {name: answered.event[name] for name in ("status", "cost_nano_usd", "prompt_tokens", "completion_tokens", "flags")}
    assert told == {"status": status, "cost_nano_usd": 0, "prompt_tokens": 0, "completion_tokens": 0, "flags": []}
    if fails == "rate":
        assert answered.headers["X-RateLimit-Reset"] == "1768500900"
    assert (await world.harness.window()).held_nano_usd == 0


@pytest.mark.parametrize(
    ("form", "most", "rates"),
    [
        (STREAM, 500, (1_750, 14_000)),
        (chat("a call", "", model=SONNET, tools=[PLAN_TOOL], tool_choice="required", stream=True, max_tokens=400), 400, WRITTEN),
        (RESPONSES_STREAM, 256, WRITTEN),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else "",
)
@pytest.mark.parametrize(("fails", "outcome"), [("error", "upstream_error"), ("drop", "truncated")])
async def test_a_failure_inside_a_200_comes_down_and_is_charged_at_what_may_have_been_generated(
    world: World, form: Form, most: int, rates: tuple[int, int], fails: str, outcome: str
) -> None:
    """Nobody says what Gloo bills of it: never less than can have been generated, and all of that is what was held."""
    answered = await world.ask(form, "acme", fails=fails)
    assert answered.served is not None
    assert answered.event is not None
    event = answered.event
    assert answered.status == 200
    assert answered.body.startswith(answered.served.answer)
    assert b'"error"' in answered.body
    assert (event["outcome"], event["usage_source"], event["flags"]) == (outcome, "assumed", ["assumed"])
    assert event["completion_tokens"] == most
    assert event["cost_nano_usd"] == event["prompt_tokens"] * rates[0] + most * rates[1] >= answered.served.cost_nano_usd > 0
    assert (await world.harness.window()).held_nano_usd == 0


@pytest.mark.parametrize("form", [CHAT, STREAM, FORM["stream"]], ids=lambda form: form.name)
async def test_a_filtered_answer_costs_what_it_says(world: World, form: Form) -> None:
    answered = await world.ask(form, "acme", fails="content_filter")
    assert answered.event is not None
    assert b'"finish_reason": "content_filter"' in answered.body
    assert (answered.event["cost_nano_usd"], answered.event["usage_source"], answered.event["flags"]) == (form.cost, "upstream", [])


def a(method: str, path: str, body: Any = None, **more: Any) -> Form:
    return Form(name=f"{method} {path}", source="", method=method, path=path, body=body, **more)


FOREIGN = "ffffffff-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("form", "org", "status", "name"),
    [
        (a("POST", "/ai/v2/grounded/responses", {"model": SONNET, "input": "x"}), "acme", 404, "UNKNOWN_ENDPOINT"),
        (a("POST", "/ai/v2/completions", {"messages": SAID}), "acme", 404, "UNKNOWN_ENDPOINT"),
        (a("POST", "/ai/v2/images/generations", {"prompt": "x"}), "acme", 404, "UNKNOWN_ENDPOINT"),
        (a("GET", f"/engine/v2/publisher/{PUBLISHER}/producer_ids"), "partner", 404, "UNKNOWN_ENDPOINT"),
        (a("DELETE", "/ingestion/v2/files"), "partner", 405, "METHOD_NOT_ALLOWED"),
        (a("GET", "/platform/v2/usage"), "acme", 404, "UNKNOWN_ENDPOINT"),
        (a("POST", "/ai/v1/message", {"query": "Who was Ruth?", "stream": False}), "acme", 403, "ENDPOINT_NOT_ENABLED"),
        (a("POST", "/ai/v1/message/kallm", {"query": "Who was Ruth?"}), "acme", 403, "ENDPOINT_NOT_ENABLED"),
        (chat("unknown", "", model="gloo-nonexistent-model-zzz", cost=0), "acme", 400, "UNKNOWN_MODEL"),
        (chat("embeds", "", model=BGE, cost=0), "acme", 400, "UNKNOWN_MODEL"),
        (chat("two ways", "", model=AUTO, auto_routing=True), "acme", 400, "INVALID_REQUEST"),
        (chat("three ways", "", model=AUTO, auto_routing=True, model_family="openai"), "acme", 400, "INVALID_REQUEST"),
        (chat("no way", "", auto_routing=False), "acme", 400, "INVALID_REQUEST"),
        (chat("no messages", "", said=None, auto_routing=True), "acme", 400, "INVALID_REQUEST"),
        (response("background", "", background=True), "acme", 400, "INVALID_REQUEST"),
        (a("GET", f"/engine/v2/items/{FOREIGN}"), "partner", 404, "OBJECT_NOT_FOUND"),
        (a("GET", f"/engine/v2/items/{OWN}"), "parish", 404, "OBJECT_NOT_FOUND"),
        (a("GET", f"/engine/v2/items/{OWN}"), "acme", 403, "CAPABILITY_NOT_IN_PLAN"),
        (a("GET", "/engine/v2/items"), "acme", 403, "CAPABILITY_NOT_IN_PLAN"),
        (a("POST", "/ai/data/v1/search", SEARCH), "acme", 403, "CAPABILITY_NOT_IN_PLAN"),
        (upload("not in the plan", "", "a.txt"), "acme", 403, "CAPABILITY_NOT_IN_PLAN"),
        (a("DELETE", "/engine/v2/items", {"item_ids": [FOREIGN]}), "partner", 404, "OBJECT_NOT_FOUND"),
        (a("PATCH", "/engine/v2/items", {"filter": {"authors": ["A"]}, "ops": []}), "partner", 403, "BULK_OPERATION_REFUSED"),
        (upload("in place", "", "a.txt", query=f"update={FOREIGN}"), "partner", 404, "OBJECT_NOT_FOUND"),
        (a("GET", "/ai/v1/chat", query="chat_id=someone-elses"), "acme", 404, "OBJECT_NOT_FOUND"),
        (a("GET", "/ai/v1/chat"), "acme", 404, "OBJECT_NOT_FOUND"),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else "",
)
async def test_what_is_not_let_through_is_refused_by_name_and_never_reaches_gloo(
    world: World, form: Form, org: str, status: int, name: str
) -> None:
    answered = await world.ask(form, org)
    told = json.loads(answered.body)
    assert (answered.status, told["error"]["name"]) == (status, name), told
    assert answered.served is None
    assert answered.event is None or answered.event["cost_nano_usd"] == 0
    assert told["retryable"] is False


@pytest.mark.parametrize(
    "form", [form for form in FORMS if form.capability in NOT_IN_PAY_AS_YOU_GO], ids=lambda form: f"{form.name} {form.path}"
)
async def test_pay_as_you_go_has_no_search_recommendations_or_data_engine(world: World, form: Form) -> None:
    answered = await world.ask(form, "acme")
    told = json.loads(answered.body)
    assert (answered.status, told["error"]["name"], told["retryable"]) == (403, "CAPABILITY_NOT_IN_PLAN", False)
    assert (answered.served, answered.event) == (None, None)


@pytest.mark.parametrize("name", ["search", "recommendations", "a file", "the recommended call", "embedding"])
async def test_pro_has_everything(world: World, name: str) -> None:
    answered = await world.ask(FORM[name], "parish")
    assert answered.event is not None
    assert (answered.status, answered.event["org"], answered.event["cost_nano_usd"]) == (200, "parish", FORM[name].cost)


@pytest.mark.parametrize("body", [b"grant_type=client_credentials", b"client_id=gloo-client&client_secret=gloo-secret"])
async def test_nobody_gets_a_token_of_gloos_through_the_gateway(world: World, body: bytes) -> None:
    answered = await world.ask(a("POST", "/oauth2/token", body, content_type="application/x-www-form-urlencoded"), "acme")
    assert (answered.status, json.loads(answered.body)["error"]["code"]) == (404, "unknown_endpoint")
    assert (answered.served, answered.event, world.gloo.tokens_issued) == (None, None, 0)


async def test_a_caller_without_a_key_is_refused(world: World) -> None:
    async with ClientSession() as session, session.post(f"{world.harness.url}/ai/data/v1/search", json=SEARCH) as answer:
        assert (answer.status, (await answer.json())["error"]["name"]) == (401, "INVALID_API_KEY")
