"""What languages and SDKs send beside the same body, and what of it goes up: headers of Gloo's recipes in six languages."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
import pytest_asyncio
from gloo_world import World, running_world
from request_forms import FORMS

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = next(form for form in FORMS if form.name == "model")
SEARCH = next(form for form in FORMS if form.name == "search")
# As their HTTP clients send them of themselves; the first is the cookbook's Python.
CLIENTS: Mapping[str, Mapping[str, str]] = {
    "requests": {
        "User-Agent": "python-requests/2.32.3",
        "Accept-Encoding": "gzip, deflate",
        "Accept": "*/*",
        "Connection": "keep-alive",
    },
    "node": {
        "User-Agent": "node",
        "Accept": "*/*",
        "Accept-Language": "*",
        "Accept-Encoding": "gzip, deflate",
        "Sec-Fetch-Mode": "cors",
        "Connection": "keep-alive",
    },
    "axios": {
        "User-Agent": "axios/1.7.2",
        "Accept": "application/json, text/plain, */*",
        "Accept-Encoding": "gzip, compress, deflate, br",
    },
    "go": {"User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip"},
    "java": {
        "User-Agent": "Java-http-client/21",
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAEAAEAAAAIAAAAB",
    },
    "php": {"Accept": "*/*"},
    "openai": {
        "User-Agent": "OpenAI/Python 3.54.0",
        "Accept": "application/json",
        "X-Stainless-Lang": "python",
        "X-Stainless-Retry-Count": "0",
        "OpenAI-Project": "proj_1",
    },
}
NEVER_UP = {"upgrade", "http2-settings", "openai-project", "cookie", "x-forwarded-for", "openai-organization"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_world(tmp_path_factory.mktemp("gloo")) as found:
        yield found


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("form", "org"), [(CHAT, "acme"), (SEARCH, "partner")], ids=["chat", "search"])
async def test_any_languages_request_is_served_and_counted_alike(world: World, client: str, form: object, org: str) -> None:
    sent = CLIENTS[client]
    asked = replace(form, headers=sent)  # type: ignore[type-var]
    answered = await world.ask(asked, org)
    assert answered.served is not None
    assert answered.event is not None
    assert (answered.status, answered.served.body, answered.event["cost_nano_usd"]) == (200, asked.body_up, asked.cost)
    up = answered.served.headers
    assert not NEVER_UP & up.keys()
    assert "keep-alive" not in up.get("connection", "")
    assert up.get("user-agent") == sent.get("User-Agent", "gloo-recipe")
    assert {name for name in up if name.startswith("x-stainless-")} == {
        name.lower() for name in sent if name.startswith("X-Stainless-")
    }
    assert up["accept"] in {sent.get("Accept"), "*/*", "application/json, */*", "application/json, text/plain, */*"}
