"""The OpenAPI document says what the endpoints do: schemathesis calls each, rightly and wrongly, and judges the answers."""

import asyncio
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import schemathesis
from api_values import NOW_MS, a_refusal, an_entry
from api_world import World, served
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.strategies import booleans
from new_ledger import new_ledger
from notice_values import a_notice
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from search import cases

from tallygate.console.server import HEADER_BYTES_MAX

EXAMPLES = cases(short=4, steady=20, deep=100)
LINE_BYTES_MAX = HEADER_BYTES_MAX - 200  # a longer request line is refused before any endpoint sees it
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API over a filled ledger, on a loop of its own thread: schemathesis calls it from plain code."""
    ready, done = threading.Event(), asyncio.Event()
    found: dict[str, object] = {}

    async def run() -> None:
        found["loop"] = asyncio.get_running_loop()
        database = await new_ledger(tmp_path_factory.mktemp("ledger"))
        async with served(database) as world:
            await fill(world)
            found["url"] = world.url
            ready.set()
            await done.wait()
        await database.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait(30)
    yield str(found["url"])
    found["loop"].call_soon_threadsafe(done.set)
    thread.join(30)


async def fill(world: World) -> None:
    await world.keep("acme", "globex", "stored")
    await world.record([an_entry(number, settled_at_ms=NOW_MS - number * 40_000_000, org="acme") for number in range(12)])
    await world.note_refused([a_refusal(number, at_ms=NOW_MS - number * 40_000_000) for number in range(12)])
    await world.notify([a_notice(number, at_ms=NOW_MS - number * 40_000_000) for number in range(12)], "ops")


_ORG, _CREDENTIAL = "/api/organizations/{org}", "/api/organizations/{org}/credentials/{credential}"
OPERATIONS = [
    ("GET", "/api/sign-in"),
    ("GET", "/api/session"),
    ("POST", "/api/session"),
    ("DELETE", "/api/session"),
    ("GET", "/v1/organization/usage/completions"),
    ("GET", "/v1/organization/usage/embeddings"),
    ("GET", "/v1/organization/usage/moderations"),
    ("GET", "/v1/organization/projects"),
    ("GET", "/v1/organization/projects/{project_id}"),
    ("GET", "/v1/organization/costs"),
    ("GET", "/api/usage"),
    ("GET", "/api/usage/values"),
    ("GET", "/api/limits"),
    ("GET", "/api/prices"),
    ("GET", "/api/spend"),
    ("GET", "/api/events"),
    ("GET", "/api/events/{id}"),
    ("GET", "/api/refusals"),
    ("GET", "/api/notices"),
    ("GET", "/api/credentials"),
    ("GET", "/api/capabilities"),
    ("GET", "/api/retired-organizations"),
    ("GET", "/api/export"),
    ("GET", "/api/invoices/{org}/{month}"),
    ("GET", "/api/statements/{org}/{week}"),
    ("GET", "/api/organizations"),
    ("POST", "/api/organizations"),
    ("GET", "/api/plans"),
    ("GET", _ORG),
    ("PATCH", _ORG),
    ("DELETE", _ORG),
    ("GET", f"{_ORG}/credentials"),
    ("POST", f"{_ORG}/credentials"),
    ("GET", _CREDENTIAL),
    ("PATCH", _CREDENTIAL),
    ("POST", f"{_CREDENTIAL}/rotate"),
    ("POST", f"{_CREDENTIAL}/revoke"),
    ("POST", "/api/client-ids/{credential}/release"),
    ("POST", "/api/apply"),
    ("GET", f"{_ORG}/objects"),
    ("POST", f"{_ORG}/objects/adopt"),
    ("POST", f"{_ORG}/objects/forget"),
    ("GET", "/api/tokens"),
    ("POST", "/api/tokens"),
    ("POST", "/api/tokens/{token}/revoke"),
    ("GET", "/api/audit"),
    ("GET", "/api/openapi.json"),
    ("GET", "/docs"),
]
# Nothing can be wrong about a call of what takes no parameters, or any text as one.
ANYTHING_IS_RIGHT = [
    ("GET", "/api/sign-in"),
    ("GET", "/api/session"),
    ("GET", "/api/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/api/tokens"),
    ("POST", "/api/tokens/{token}/revoke"),
    *((method, path) for method, path in OPERATIONS if path.startswith(_ORG) and method in {"GET", "DELETE"}),
    ("POST", f"{_CREDENTIAL}/revoke"),
]
EXISTING = {
    "org": "stored",
    "project_id": "stored",
    "credential": "stored-prod",
    "month": "2026-08",
    "week": "2026-W32",
    "token": "none",
    "id": an_entry(0, settled_at_ms=NOW_MS).event_id,
}
# Headers by which a request is one at all: a broken one is answered before its path is known, and not as the document says.
FRAMING = {"content-length", "expect", "host", "transfer-encoding", "upgrade"}
CALLS = [
    (method, path, mode)
    for method, path in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE or (method, path) not in ANYTHING_IS_RIGHT
]


@pytest.mark.search
@pytest.mark.parametrize(("method", "path", "mode"), CALLS)
def test_every_endpoint_answers_as_the_document_says(api_url: str, method: str, path: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{api_url}/api/openapi.json")
    operation = schema[path][method]
    parameters = schema.raw_schema["paths"][path][method.lower()].get("parameters", [])
    lists = [parameter["name"] for parameter in parameters if parameter.get("schema", {}).get("type") == "array"]

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), names_what_exists=booleans())
    def every_answer_conforms(case: schemathesis.Case, *, names_what_exists: bool) -> None:
        if names_what_exists and mode is GenerationMode.POSITIVE and method != "DELETE":
            case.path_parameters.update({name: EXISTING[name] for name in case.path_parameters})
        asked = case.query or {}
        prepared = requests.Request(**case.as_transport_kwargs(base_url=api_url)).prepare()
        assume(len(prepared.url or "") < LINE_BYTES_MAX)
        assume(FRAMING.isdisjoint(name.lower() for name in case.headers or {}))
        # A violation must arrive as one: in a URL one value is a list of one, and nothing is not there at all.
        assume(all(isinstance(asked.get(name, []), list) for name in lists))
        assume(asked.keys() <= parse_qs(urlsplit(prepared.url or "").query, keep_blank_values=True).keys())
        case.call_and_validate(base_url=api_url, headers={"Authorization": "Bearer platform"}, checks=CHECKS)

    every_answer_conforms()


def test_every_operation_of_the_document_is_tried(api_url: str) -> None:
    paths = schemathesis.openapi.from_url(f"{api_url}/api/openapi.json").raw_schema["paths"]
    assert sorted((method.upper(), path) for path, methods in paths.items() for method in methods) == sorted(OPERATIONS)
