"""Every public form of a request to Gloo AI, through the shipped configuration: each answer, count and cost exact."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from fake_gloo import API_KEY
from gloo_world import SENT, Answered, World, running_world
from request_forms import FORMS, NOT_IN_PAY_AS_YOU_GO, Form

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_world(tmp_path_factory.mktemp("gloo")) as found:
        yield found


def org_of(form: Form) -> str:
    return "partner" if form.capability in NOT_IN_PAY_AS_YOU_GO else "acme"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.name} {form.path}")
async def test_a_form_goes_up_comes_down_and_is_counted_exactly(world: World, form: Form) -> None:
    org = org_of(form)
    answered = await world.ask(form, org)
    served, event = answered.served, answered.event
    assert answered.status == 200, answered.body
    assert served is not None
    assert event is not None

    assert (served.method, served.path, served.body) == (form.method, form.target_up, form.body_up)
    assert served.headers == headers_up(world, form, answered)
    assert answered.body == (form.answer or served.answer + (served.usage_chunk if form.asks_usage else b""))
    assert answered.headers["x-upstream-request-id"] == "req-of-gloo"

    prompt, completion, cached, reasoning = form.tokens or (0, 0, 0, 0)
    told = {
        "org": org,
        "credential": f"{org}-prod",
        "capability": form.capability,
        "endpoint": form.endpoint or form.path,
        "method": form.method,
        "status": 200,
        "outcome": "success",
        "response_model": form.model,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": cached,
        "reasoning_tokens": reasoning,
        "cache_write_tokens": 0,
        "cost_nano_usd": form.cost,
        "usage_source": "none" if form.tokens is None else "upstream",
        "flags": [],
    }
    assert {name: event[name] for name in told} == told
    assert event["stream"] is (b'"stream": true' in form.body_bytes)
    assert len([each for each in event["made"] if each["kind"] == "content_item"]) == form.made
    assert (served.cost_nano_usd, served.usage.prompt, served.usage.completion) == (form.cost, prompt, completion), "Gloo's account"

    route = next(
        route
        for route in world.harness.gateway.services.view.config.routes
        if (route.method, route.path) == (form.method, event["endpoint"])
    )
    assert (route.capability, route.dialect) == (form.capability, form.dialect)


def headers_up(world: World, form: Form, answered: Answered) -> dict[str, str]:
    """Gloo's key in place of the caller's, and nothing of what was kept back."""
    assert answered.event is not None
    is_read = form.dialect is not None or form.answer or form.made or form.path == "/engine/v2/item"
    headers = {name.lower(): value for name, value in (SENT | dict(form.headers)).items()} | {
        "host": world.harness.upstream_url.removeprefix("http://"),
        "authorization": f"Bearer {API_KEY}",
        "via": "1.1 tallygate",
        "x-request-id": answered.event["event_id"],
    }
    if is_read:
        headers["accept-encoding"] = "identity"
    if form.body_bytes:
        headers |= {"content-type": form.content_type, "content-length": str(len(form.body_up))}
    return headers


async def test_twenty_routed_callers_at_once_are_all_admitted_by_a_plan_of_a_hundred_dollars(tmp_path: Path) -> None:
    """None states a maximum, as Gloo recommends, and GPT-5 Pro could answer: alone it may cost 32.64 USD of the 100."""
    form = next(form for form in FORMS if form.name == "the recommended call")
    async with running_world(tmp_path) as world:
        world.gloo.waits_for = len(world.gloo.served) + 20

        async def call() -> int:
            headers = {"Authorization": f"Bearer {world.keys['acme']}", "Content-Type": "application/json"}
            url = world.harness.url + form.path
            async with world.session.post(url, data=form.body_bytes, headers=headers) as answer:
                await answer.read()
                return answer.status

        assert await asyncio.gather(*(call() for _ in range(20))) == [200] * 20
        await world.harness.at_rest()
        window = await world.harness.window()
        assert (window.spent_nano_usd, window.held_nano_usd) == (20 * form.cost, 0)
