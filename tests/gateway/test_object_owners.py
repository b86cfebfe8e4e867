"""One key of the operator's serves two organizations: what one made, the other cannot read, name, list, continue or delete."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, FormData, web
from gateway_harness import ACME_KEY, BIG_KEY, Harness, running_gateway
from object_upstream import ID_PREFIXES, ObjectUpstream, object_upstream

from tallygate.domain.made_object import MadeObject
from tallygate.gateway.exchange.finish import OTHER_TOKENIZER

ACME = {"authorization": f"Bearer {ACME_KEY}"}
BIG = {"authorization": f"Bearer {BIG_KEY}"}
NOWHERE = "nobody-has-it"


def routes() -> list[dict[str, str]]:
    """Every collection with its operations, none of which says anything of owners: the paths do."""
    listed = []
    for collection in (*(f"/v1/{name}" for name in ID_PREFIXES), "/v1beta/files", "/v1beta/cachedContents"):
        metered = {"/v1/responses": "openai_responses", "/v1/chat/completions": "openai_chat"}.get(collection)
        listed += [
            {"method": "POST", "path": collection, "capability": "chat"} | ({"dialect": metered} if metered else {}),
            {"method": "GET", "path": collection, "capability": "chat"},
            {"method": "DELETE", "path": collection, "capability": "chat"},
            {"method": "GET", "path": f"{collection}/{{it_id}}", "capability": "chat"},
            {"method": "POST", "path": f"{collection}/{{it_id}}", "capability": "chat"},
            {"method": "POST", "path": f"{collection}/{{it_id}}/cancel", "capability": "chat"},
            {"method": "GET", "path": f"{collection}/{{it_id}}/content", "capability": "chat"},
            {"method": "DELETE", "path": f"{collection}/{{it_id}}", "capability": "chat"},
        ]
    return [
        *listed,
        {"method": "POST", "path": "/v1/messages", "capability": "chat", "dialect": "anthropic_messages"},
        {"method": "POST", "path": "/v1beta/models/{model}:generateContent", "capability": "chat", "dialect": "gemini_generate"},
        {"method": "POST", "path": "/v1/images/edits", "capability": "images", "dialect": "openai_image_edits"},
        {"method": "GET", "path": "/custom/{thing_id}", "capability": "chat"},
        {"method": "GET", "path": "/v1/models/{model*}", "capability": "models"},
        {"method": "DELETE", "path": "/v1/models/{model*}", "capability": "models"},
    ]


@pytest.fixture
def operator_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJECTS_UPSTREAM_KEY", "sk-operator")


@asynccontextmanager
async def world(
    tmp_path: Path, *, auth: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[tuple[Harness, ObjectUpstream]]:
    kept = auth or {"kind": "bearer", "secret_env": "OBJECTS_UPSTREAM_KEY"}
    async with object_upstream() as upstream:
        config = {
            "routes": {"routes": routes()},
            "upstreams": {"upstreams": {"default": {"base_url": upstream.url, "auth": kept}}},
        }
        upstream.answers["POST", "/v1/images/edits"] = {"data": [{"b64_json": ""}]}
        async with running_gateway(tmp_path, config=config, upstream_url=upstream.url, **options) as harness:
            yield harness, upstream


class Caller:
    """Requests of one organization."""

    def __init__(self, session: ClientSession, url: str, headers: dict[str, str]) -> None:
        self._session, self._url, self._headers = session, url, headers

    async def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any, dict[str, str]]:
        given = {} if body is None else {"data" if isinstance(body, bytes) else "json": body}
        typed = self._headers | ({"content-type": "application/json"} if isinstance(body, bytes) else {})
        async with self._session.request(method, f"{self._url}{path}", headers=typed, **given, **options) as response:
            text = await response.text()
            headers = {name.lower(): value for name, value in response.headers.items()}
        try:
            return response.status, json.loads(text), headers
        except ValueError:
            return response.status, text, headers


@asynccontextmanager
async def callers(harness: Harness) -> AsyncIterator[tuple[Caller, Caller]]:
    async with ClientSession() as session:
        yield Caller(session, harness.url, ACME), Caller(session, harness.url, BIG)


def body_for(collection: str) -> dict[str, Any]:
    if collection == "chat/completions":
        return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "store": True, "max_tokens": 9}
    if collection == "responses":
        return {"model": "gpt-4o-mini", "input": "hi", "max_output_tokens": 9}
    return {"metadata": {"name": "mine"}}


def without_what_differs(answer: tuple[int, Any, dict[str, str]]) -> tuple[int, Any, dict[str, str]]:
    status, body, headers = answer
    changing = {"date", "x-request-id", "server-timing", "request-id", "content-length"}
    told = {
        name: value for name, value in headers.items() if name not in changing and not name.startswith(("ratelimit", "x-ratelimit"))
    }
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "request_id"}
        body = json.loads(re.sub(r"There is no such [a-z ]+: '[^']*'", "There is no such thing", json.dumps(body)))
    return status, body, told


@pytest.mark.usefixtures("operator_key")
@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_answer_showed_can_be_handed_back_though_nothing_was_kept(tmp_path: Path, stream: bool) -> None:
    """Codex and others keep the context themselves: all items of the answer come again with the next request."""
    item = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "peace"}}
    usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    whole = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-4o-mini", "output": [item], "usage": usage}

    async def answer(_request: web.Request) -> web.Response:
        if not stream:
            return web.json_response(whole)
        events: list[dict[str, Any]] = [
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        return web.Response(text=text, content_type="text/event-stream")

    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        upstream.answers["POST", "/v1/responses"] = answer
        first = {"model": "gpt-4o-mini", "input": "hi", "max_output_tokens": 9, "store": False, "stream": stream}
        then = first | {"input": [{"role": "user", "content": "hi"}, item, {"role": "user", "content": "go on"}]}
        assert (await acme("POST", "/v1/responses", first))[0] == 200

        assert (await acme("POST", "/v1/responses", then))[0] == 200
        assert (await big("POST", "/v1/responses", then))[0] == 404
        assert (await acme("POST", "/v1/responses", first | {"previous_response_id": "resp_1"}))[0] == 404


@pytest.mark.usefixtures("operator_key")
@pytest.mark.parametrize("collection", [*(f"/v1/{name}" for name in ID_PREFIXES), "/v1beta/files", "/v1beta/cachedContents"])
async def test_an_object_is_there_for_who_made_it_and_for_nobody_else(tmp_path: Path, collection: str) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        status, made, _ = await acme("POST", collection, body_for(collection.removeprefix("/v1/")))
        assert status == 200
        id_ = made["id"] if "id" in made else made["name"].partition("/")[2]
        assert (await acme("GET", f"{collection}/{id_}"))[0] == 200
        arrived = len(upstream.requests)

        for method, below in (("GET", ""), ("POST", ""), ("POST", "/cancel"), ("GET", "/content"), ("DELETE", "")):
            foreign = await big(method, f"{collection}/{id_}{below}")
            unknown = await big(method, f"{collection}/{NOWHERE}{below}")
            assert foreign[0] == 404
            assert foreign[1]["error"]["code"] in ("object_not_found", 404)
            assert id_ in foreign[1]["error"]["message"]
            assert without_what_differs(foreign) == without_what_differs(unknown)
        assert (await big("DELETE", collection))[0] == (await acme("DELETE", collection))[0] == 403

        assert len(upstream.requests) == arrived, "something reached the upstream"
        assert (await acme("DELETE", f"{collection}/{id_}"))[0] == 200
        assert (await acme("GET", f"{collection}/{id_}"))[0] == 404
        assert len(upstream.requests) == arrived + 1, "what was deleted is not asked for again"


REFERRING = [
    ("/v1/responses", {"model": "gpt-4o-mini", "input": "go on", "previous_response_id": "$"}, "responses"),
    ("/v1/responses", {"model": "gpt-4o-mini", "input": "go on", "conversation": "$"}, "conversations"),
    ("/v1/responses", {"model": "gpt-4o-mini", "input": "go on", "conversation": {"id": "$"}}, "conversations"),
    (
        "/v1/responses",
        {"model": "gpt-4o-mini", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "$"}]}]},
        "files",
    ),
    (
        "/v1/responses",
        {"model": "gpt-4o-mini", "input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["$"]}]},
        "vector_stores",
    ),
    (
        "/v1/responses",
        {"model": "gpt-4o-mini", "input": "x", "tools": [{"type": "code_interpreter", "container": "$"}]},
        "containers",
    ),
    (
        "/v1/chat/completions",
        {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "$"}}]}]},
        "files",
    ),
    ("/v1/batches", {"input_file_id": "$", "endpoint": "/v1/responses", "completion_window": "24h"}, "files"),
    ("/v1/vector_stores", {"file_ids": ["$"]}, "files"),
    ("/v1/assistants", {"tool_resources": {"code_interpreter": {"file_ids": ["$"]}}}, "files"),
    ("/v1/threads", {"messages": [{"attachments": [{"file_id": "$"}]}]}, "files"),
    ("/v1/containers", {"file_ids": ["$"]}, "files"),
    ("/v1/images/edits", {"model": "gpt-image-2", "prompt": "x", "size": "1024x1024", "images": [{"file_id": "$"}]}, "files"),
    ("/v1/images/edits", {"model": "gpt-image-2", "prompt": "x", "size": "1024x1024", "mask": {"file_id": "$"}}, "files"),
]


@pytest.mark.usefixtures("operator_key")
@pytest.mark.parametrize(("path", "body", "collection"), REFERRING)
async def test_a_body_can_name_own_objects_only(tmp_path: Path, path: str, body: dict[str, Any], collection: str) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        _, made, _ = await acme("POST", f"/v1/{collection}", body_for(collection))

        def naming(id_: str) -> Any:
            return json.loads(json.dumps(body).replace("$", id_))

        arrived = len(upstream.requests)
        foreign, unknown = await big("POST", path, naming(made["id"])), await big("POST", path, naming(NOWHERE))
        assert foreign[0] == 404
        assert without_what_differs(foreign) == without_what_differs(unknown)
        assert len(upstream.requests) == arrived

        assert (await acme("POST", path, naming(made["id"])))[0] == 200


@pytest.mark.usefixtures("operator_key")
async def test_gemini_and_anthropic_bodies_name_own_objects_only(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        _, cached, _ = await acme("POST", "/v1beta/cachedContents", {"model": "models/gemini-2.5-flash"})
        _, file, _ = await acme("POST", "/v1beta/files", {})
        _, document, _ = await acme("POST", "/v1/files", {})
        arrived = len(upstream.requests)
        generate = "/v1beta/models/gemini-2.5-flash:generateContent"
        uri = f"https://generativelanguage.googleapis.com/v1beta/{file['name']}"
        said = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
        shown = {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": uri, "mimeType": "application/pdf"}}]}]}
        source = {"type": "document", "source": {"type": "file", "file_id": document["id"]}}
        message = {"model": "claude-opus-4-6", "max_tokens": 9, "messages": [{"role": "user", "content": [source]}]}

        assert (await big("POST", generate, said | {"cachedContent": cached["name"]}))[0] == 404
        assert (await big("POST", generate, shown))[0] == 404
        status, body, _ = await big("POST", "/v1/messages", message)
        assert (status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")
        assert len(upstream.requests) == arrived


@pytest.mark.usefixtures("operator_key")
async def test_a_client_cannot_claim_what_it_only_names(tmp_path: Path) -> None:
    """Metadata comes back in the answer, and the bytes of a file are whatever was uploaded."""
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        _, made, _ = await acme("POST", "/v1/files", {})
        claim = {"id": made["id"], "file_id": made["id"], "output": [{"container_id": made["id"]}]}
        assert (await big("POST", "/v1/responses", body_for("responses") | {"metadata": claim}))[0] in (200, 400)
        _, own, _ = await big("POST", "/v1/files", {"metadata": claim})
        upstream.answers["GET", f"/v1/files/{own['id']}/content"] = {"id": made["id"], "file": {"id": made["id"]}}
        assert (await big("GET", f"/v1/files/{own['id']}/content"))[0] == 200

        assert (await big("GET", f"/v1/files/{made['id']}"))[0] == 404


@pytest.mark.usefixtures("operator_key")
async def test_a_name_that_its_maker_chose_is_nobodys(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, _), callers(harness) as (acme, _):
        assert (await acme("POST", "/v1beta/files", {"file": {"name": "files/g1"}}))[0] == 200
        assert (await acme("GET", "/v1beta/files/g1"))[0] == 404
        assert (await acme("POST", "/v1beta/files", {"file": {"display_name": "mine"}}))[0] == 200
        assert (await acme("GET", "/v1beta/files/g2"))[0] == 200
        for spelled in (b"files\\/g3", b"f\\u0069les/g4"):
            assert (await acme("POST", "/v1beta/files", b'{"file": {"name": "%b"}}' % spelled))[0] == 200
        assert [(await acme("GET", f"/v1beta/files/{name}"))[0] for name in ("g3", "g4")] == [404, 404], "however JSON spells it"


@pytest.mark.usefixtures("operator_key")
async def test_a_streamed_answer_is_owned_before_it_ends_and_when_its_client_leaves(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), ClientSession() as session, callers(harness) as (acme, big):
        proceed = asyncio.Event()

        async def slow(request: Any) -> Any:
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            created = {"type": "response.created", "response": {"id": "resp_slow", "object": "response", "model": "gpt-4o-mini"}}
            await response.write(f"event: response.created\ndata: {json.dumps(created)}\n\n".encode())
            upstream.objects.setdefault("responses", []).append("resp_slow")
            await proceed.wait()
            return response

        upstream.answers["POST", "/v1/responses"] = slow
        url = f"{harness.url}/v1/responses"
        async with session.post(url, headers=ACME, json=body_for("responses") | {"stream": True}) as response:
            assert b"resp_slow" in await response.content.readany()
            assert (await acme("GET", "/v1/responses/resp_slow"))[0] == 200
        proceed.set()
        await harness.at_rest()

        assert (await acme("POST", "/v1/responses/resp_slow/cancel"))[0] == 200
        assert (await big("POST", "/v1/responses/resp_slow/cancel"))[0] == 404
        (event,) = [event for event in harness.events() if event["endpoint"] == "/v1/responses"]
        assert event["made"] == [{"kind": "response", "id": "resp_slow", "upstream": "default"}]


@pytest.mark.usefixtures("operator_key")
async def test_a_custom_route_is_closed_until_something_is_adopted(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, _):
        assert (await acme("GET", "/custom/thing"))[0] == 404
        assert not upstream.requests


@pytest.mark.usefixtures("operator_key")
async def test_a_model_is_deleted_by_its_owner_alone(tmp_path: Path) -> None:
    """Every model can be asked about, but deleting one is for whoever trained it."""
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        upstream.answers["DELETE", "/v1/models/org/ft:one"] = {"id": "org/ft:one", "deleted": True}
        for path in ("/v1/models/org/ft:one", "/v1/models/org%2Fft:one", "/v1/models/gpt-4o"):
            status, body, _ = await acme("DELETE", path)
            assert (status, body["error"]["code"]) == (404, "object_not_found")
        assert not upstream.requests

        organization = harness.gateway.services.view.config.organizations[0]
        harness.gateway.services.owners.remember(organization, [MadeObject(kind="model", id="org/ft:one", upstream="default")])
        assert (await big("DELETE", "/v1/models/org/ft:one"))[0] == 404
        assert (await acme("DELETE", "/v1/models/org%2Fft:one"))[0] == 200
        assert upstream.requests == [("DELETE", "/v1/models/org/ft:one")]


@pytest.mark.usefixtures("operator_key")
async def test_the_head_of_a_list_does_not_tell_of_others(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        await make_some(acme, big, "/v1/files", acmes=1, bigs=3)
        status, text, headers = await acme("HEAD", "/v1/files")
        assert (status, text) == (200, "")
        assert "content-length" not in headers
        assert upstream.requests[-1] == ("HEAD", "/v1/files")
        (mine,) = [item["id"] for item in (await acme("GET", "/v1/files"))[1]["data"]]
        assert (await acme("HEAD", f"/v1/files/{mine}"))[0] == 200
        assert (await big("HEAD", f"/v1/files/{mine}"))[0] == 404


@pytest.mark.usefixtures("operator_key")
async def test_a_form_cannot_name_an_object_that_a_check_would_have_to_wait_for(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, _), callers(harness) as (acme, _):
        form = FormData()
        form.add_field("file_id", "file-1")
        form.add_field("file", b"x" * 100, filename="x.txt")
        status, body, _ = await acme("POST", "/v1/files", data=form)
        assert (status, body["error"]["param"]) == (400, "file_id")
        harmless = FormData()
        harmless.add_field("purpose", "batch")
        harmless.add_field("file", b'{"file_id": "file-1"}', filename="x.jsonl")

        assert (await acme("POST", "/v1/files", data=harmless))[0] == 200


@pytest.mark.usefixtures("operator_key")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"file_ids": ["file-1"]}', {}),
        (b'--b\r\nContent-Disposition: form-data;\r\n name="file_id"\r\n\r\nfile-1\r\n--b--\r\n', {}),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n', {"content-encoding": "gzip"}),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n', {"content-type": "multipart/form-data"}),
    ],
)
async def test_nothing_hides_in_the_guise_of_a_form(tmp_path: Path, body: bytes, headers: dict[str, str]) -> None:
    async with world(tmp_path) as (harness, upstream), ClientSession() as session:
        sent = ACME | {"content-type": "multipart/form-data; boundary=b"} | headers
        async with session.post(f"{harness.url}/v1/vector_stores", data=body, headers=sent) as answer:
            assert answer.status == 400, await answer.text()
        assert not upstream.objects.get("vector_stores")


@pytest.mark.usefixtures("operator_key")
async def test_an_upload_says_what_its_file_is_called(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, _), callers(harness) as (acme, _):
        asked = {"purpose": "batch", "filename": "x.jsonl", "bytes": 3, "mime_type": "text/jsonl"}
        assert (await acme("POST", "/v1/uploads", asked))[0] == 200


@pytest.mark.usefixtures("operator_key")
async def test_a_key_in_another_case_is_no_way_around(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, _):
        status, body, _ = await acme("POST", "/v1/vector_stores", {"File_IDs": ["file-1"]})
        assert (status, body["error"]["param"]) == (400, "File_IDs")
        for name in ("Chat_ID", "chatId", "chat-id", "filter[chat_id]", "chat%5Fid", "After"):
            assert (await acme("GET", f"/v1/files?{name}=x"))[0] == 404, name
        assert (await acme("POST", "/v1/vector_stores", data=b"file_ids=file-1"))[0] == 400
        assert not upstream.requests


async def test_callers_that_bring_their_own_key_have_their_own_account(tmp_path: Path) -> None:
    async with world(tmp_path, auth={"kind": "passthrough"}) as (harness, _), callers(harness) as (acme, big):
        _, made, _ = await acme("POST", "/v1/files", {})

        assert (await big("GET", f"/v1/files/{made['id']}"))[0] == 200
        assert (await big("DELETE", "/v1/files"))[0] == 200
        assert not harness.events()[0]["made"]


async def make_some(acme: Caller, big: Caller, path: str, *, acmes: int, bigs: int) -> list[str]:
    """Objects of acme, then as many newer ones of big; acme's ids, oldest first."""
    made = [(await acme("POST", path, {}))[1] for _ in range(acmes)]
    for _ in range(bigs):
        await big("POST", path, {})
    return [item.get("id") or item["name"] for item in made]


@pytest.mark.usefixtures("operator_key")
@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches", "/v1/vector_stores", "/v1/messages/batches", "/v1/chat/completions"])
async def test_a_list_shows_ones_own_with_cursors_that_are_ones_own(tmp_path: Path, path: str) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        collection = path.removeprefix("/v1/")
        if collection == "chat/completions":
            made = [(await acme("POST", path, body_for(collection)))[1]["id"] for _ in range(3)]
            for _ in range(25):
                await big("POST", path, body_for(collection))
        else:
            made = await make_some(acme, big, path, acmes=3, bigs=25)
        newest = made[::-1]

        status, page, _ = await acme("GET", f"{path}?limit=2")
        assert (status, [item["id"] for item in page["data"]]) == (200, newest[:2])
        assert (page["first_id"], page["last_id"], page["has_more"]) == (newest[0], newest[1], True)
        _, page, _ = await acme("GET", f"{path}?limit=2&after={page['last_id']}")
        assert ([item["id"] for item in page["data"]], page["has_more"]) == (newest[2:], False)

        foreign = upstream.objects[collection][-1]
        assert (await acme("GET", f"{path}?after={foreign}"))[0] == (await acme("GET", f"{path}?after={NOWHERE}"))[0] == 404
        _, page, _ = await big("GET", f"{path}?limit=100")
        assert len(page["data"]) == 25
        assert not set(made) & {item["id"] for item in page["data"]}


@pytest.mark.usefixtures("operator_key")
@pytest.mark.parametrize("collection", ["files", "cachedContents"])
async def test_googles_lists_go_on_by_token(tmp_path: Path, collection: str) -> None:
    async with world(tmp_path) as (harness, _), callers(harness) as (acme, big):
        path = f"/v1beta/{collection}"
        await make_some(big, acme, path, acmes=5, bigs=0)
        made = await make_some(acme, big, path, acmes=2, bigs=3)

        seen, token = [], ""
        while True:
            status, page, _ = await acme("GET", f"{path}?pageToken={token}" if token else path)
            assert status == 200
            seen += [item["name"] for item in page.get(collection, [])]
            if not (token := page.get("nextPageToken", "")):
                break
        assert seen == made


@pytest.mark.usefixtures("operator_key")
@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"id": "x"}], "others": [{"id": "y"}]},
        {"data": {"items": [{"id": "x"}]}},
        {"object": "list", "data": [{"id": f"file-{n}", "pad": "x" * 1_000} for n in range(5_000)]},
        "no list",
    ],
    ids=["two lists", "a list inside", "too large", "a text"],
)
async def test_a_list_that_cannot_be_taken_apart_is_refused(tmp_path: Path, answer: Any) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, _):
        upstream.answers["GET", "/v1/files"] = answer
        status, body, _ = await acme("GET", "/v1/files")
        assert (status, body["error"]["code"]) == (502, "list_unreadable")


@pytest.mark.usefixtures("operator_key")
async def test_a_list_tells_neither_how_many_there_are_nor_what_has_no_id(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        _, made, _ = await acme("POST", "/v1/files", {})
        items = [{"id": "file-foreign"}, {"secret": 1}, "text", {"id": made["id"], "bytes": 5}, {"id": None}, [{"id": made["id"]}]]
        upstream.answers["GET", "/v1/files"] = {"data": items, "total": 99, "next": "file-foreign"}

        assert (await acme("GET", "/v1/files"))[1] == {"data": [{"id": made["id"], "bytes": 5}]}
        upstream.answers["GET", "/v1/files"] = items
        assert (await acme("GET", "/v1/files"))[1] == [{"id": made["id"], "bytes": 5}]
        assert (await big("GET", "/v1/files"))[1] == []


@pytest.mark.usefixtures("operator_key")
async def test_pages_of_others_are_passed_over_up_to_a_bound(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, _):

        async def endless(_request: Any) -> Any:
            return web.json_response({"object": "list", "data": [{"id": "file-foreign"}], "has_more": True})

        upstream.answers["GET", "/v1/files"] = endless
        assert (await acme("GET", "/v1/files"))[0] == 502
        assert len(upstream.requests) == 50


@pytest.mark.usefixtures("operator_key")
async def test_files_that_a_batch_wrote_belong_to_who_made_the_batch(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), callers(harness) as (acme, big):
        _, batch, _ = await acme("POST", "/v1/batches", {})
        done = {"id": batch["id"], "output_file_id": "file-out", "error_file_id": "file-err"}
        upstream.objects.setdefault("files", []).extend(["file-out", "file-err"])
        assert (await acme("GET", "/v1/files/file-out"))[0] == 404
        upstream.answers["GET", f"/v1/batches/{batch['id']}"] = done
        await acme("GET", f"/v1/batches/{batch['id']}")
        assert (await acme("GET", "/v1/files/file-out/content"))[0] == 200
        _, other, _ = await acme("POST", "/v1/batches", {})
        upstream.objects["files"].append("file-listed")
        foreign = {"id": "batch_foreign", "output_file_id": "file-theirs"}
        upstream.answers["GET", "/v1/batches"] = {"data": [{"id": other["id"], "output_file_id": "file-listed"}, foreign]}
        await acme("GET", "/v1/batches")

        assert (await acme("GET", "/v1/files/file-listed"))[0] == 200
        assert (await acme("GET", "/v1/files/file-theirs"))[0] == (await big("GET", "/v1/files/file-listed"))[0] == 404


@pytest.mark.usefixtures("operator_key")
async def test_a_list_of_an_own_account_is_left_as_it_is(tmp_path: Path) -> None:
    async with world(tmp_path, auth={"kind": "passthrough"}) as (harness, upstream), callers(harness) as (acme, _):
        upstream.answers["GET", "/v1/files"] = {"data": [{"id": "x"}], "total": 1}
        assert (await acme("GET", "/v1/files"))[1] == {"data": [{"id": "x"}], "total": 1}


@pytest.mark.usefixtures("operator_key")
async def test_a_chat_is_asked_for_by_its_own_id_or_not_at_all(tmp_path: Path) -> None:
    async with object_upstream() as upstream:
        config = {
            "routes": {
                "routes": [
                    {"method": "POST", "path": "/ai/v1/message", "capability": "chat"},
                    {"method": "GET", "path": "/ai/v1/chat", "capability": "chat"},
                    {"method": "POST", "path": "/engine/v2/item", "capability": "chat"},
                    {"method": "GET", "path": "/engine/v2/item/{item_id}", "capability": "chat"},
                ]
            },
            "upstreams": {
                "upstreams": {
                    "default": {"base_url": upstream.url, "auth": {"kind": "bearer", "secret_env": "OBJECTS_UPSTREAM_KEY"}}
                }
            },
        }
        upstream.answers |= {
            ("POST", "/ai/v1/message"): {"chat_id": "c1", "message": "hi"},
            ("GET", "/ai/v1/chat"): {"chat_id": "c1"},
            ("POST", "/engine/v2/item"): {"item_id": "i1"},
            ("GET", "/engine/v2/item/i1"): {"item_id": "i1"},
        }
        async with running_gateway(tmp_path, config=config, upstream_url=upstream.url) as harness, callers(harness) as (acme, big):
            assert (await acme("POST", "/ai/v1/message", {"query": "hi"}))[0] == 200
            assert (await acme("GET", "/ai/v1/chat?chat_id=c1"))[0] == 200
            assert (await acme("POST", "/ai/v1/message", {"query": "on", "chat_id": "c1"}))[0] == 200
            for path in ("/ai/v1/chat?chat_id=c1", "/ai/v1/chat?chat_id=none", "/ai/v1/chat", "/ai/v1/chat?chat_id="):
                assert (await big("GET", path))[0] == 404
            assert (await big("POST", "/ai/v1/message", {"query": "on", "chat_id": "c1"}))[0] == 404

            assert (await big("POST", "/engine/v2/item", {"any": {"thing": "i1"}}))[0] == 200
            assert (await big("GET", "/engine/v2/item/i1"))[0] == 404  # it may have been named
            for claim in (
                {"item_id": "i1"},
                {"id": "i1"},
                {"items": [{"id": "i1"}]},
                {"producer_id": "of-acme", "item_title": "x"},
            ):
                assert (await big("POST", "/engine/v2/item", claim))[0] == 404, claim  # an item is put where its id says
            assert (await big("POST", "/engine/v2/item?producer_id=of-acme", {"item_title": "x"}))[0] == 404
            assert (await acme("POST", "/engine/v2/item", {"title": "new"}))[0] == 200
            assert (await acme("GET", "/engine/v2/item/i1"))[0] == 200


@pytest.mark.usefixtures("operator_key")
async def test_items_of_gloo_are_changed_and_deleted_by_ones_own_ids_alone(tmp_path: Path) -> None:
    """Shapes of bodies: Gloo's cookbook, "rag-pipeline-part-2"."""
    async with object_upstream() as upstream:
        routes = [
            {"method": method, "path": path, "capability": "chat"}
            for method, path in (
                ("POST", "/ingestion/v2/files"),
                ("PATCH", "/engine/v2/item"),
                ("PATCH", "/engine/v2/items"),
                ("DELETE", "/engine/v2/items"),
            )
        ]
        auth = {"kind": "bearer", "secret_env": "OBJECTS_UPSTREAM_KEY"}
        config = {
            "routes": {"routes": routes},
            "upstreams": {"upstreams": {"default": {"base_url": upstream.url, "auth": auth}}},
        }
        bodies: list[bytes] = []

        async def change(request: web.Request) -> web.Response:
            bodies.append(await request.read())
            return web.json_response({"total_patched": 1})

        changes = [("PATCH", "/engine/v2/item"), ("PATCH", "/engine/v2/items"), ("DELETE", "/engine/v2/items")]
        upstream.answers |= dict.fromkeys(changes, change)
        async with running_gateway(tmp_path, config=config, upstream_url=upstream.url) as harness, callers(harness) as (acme, big):
            for caller, item in ((acme, "a1"), (big, "b1")):
                upstream.answers["POST", "/ingestion/v2/files"] = {"ingesting": [item], "duplicates": []}
                assert (await caller("POST", "/ingestion/v2/files", {"content": "x"}))[0] == 200
            ops = [{"op": "append", "field": "item_tags", "value": ["new"]}, {"op": "replace", "field": "author", "value": ["B"]}]
            title = {"publisher_id": "p", "item_title": "Ruth"}
            served = [
                ("PATCH", "/engine/v2/item", title | {"item_id": "a1"}),
                ("PATCH", "/engine/v2/items?publisher_id=p", {"filter": {"item_ids": ["a1"]}, "ops": ops}),
                ("DELETE", "/engine/v2/items", {"item_ids": ["a1"]}),
            ]
            for method, path, body in served:
                assert (await acme(method, path, body))[0] == 200, path
                assert json.loads(bodies[-1]) == body
                assert (await big(method, path, body))[0] == 404, path
            for method, path, body in (
                ("PATCH", "/engine/v2/item", title | {"producer_id": "of-big"}),
                ("PATCH", "/engine/v2/item", title | {"item_id": "a1", "id": "b1"}),
                ("PATCH", "/engine/v2/items", {"filter": {"item_ids": ["a1", "b1"]}, "ops": ops}),
                ("DELETE", "/engine/v2/items", {"item_ids": ["a1", "b1"]}),
            ):
                assert (await acme(method, path, body))[0] == 404, body
            for method, path, body in (
                ("PATCH", "/engine/v2/item", title),
                ("PATCH", "/engine/v2/item", None),
                ("PATCH", "/engine/v2/item", [title | {"item_id": "a1"}]),
                ("PATCH", "/engine/v2/item", title | {"filter": {}}),
                ("PATCH", "/engine/v2/item", title | {"filter": {"item_id": {"$in": ["b1"]}}}),
                ("PATCH", "/engine/v2/item", title | {"item_id": {"$in": ["b1"]}}),
                ("PATCH", "/engine/v2/item", title | {"item_id": "a1", "Filter": {"author": "B"}}),
                ("PATCH", "/engine/v2/item?author=B", title | {"item_id": "a1"}),
                ("PATCH", "/engine/v2/items", {"filter": {}, "ops": ops}),
                ("PATCH", "/engine/v2/items", {"ops": ops}),
                ("PATCH", "/engine/v2/items", {"item_ids": ["a1"], "ops": ops}),
                ("PATCH", "/engine/v2/items", {"filter": {"item_ids": []}, "ops": ops}),
                ("PATCH", "/engine/v2/items", {"filter": {"item_ids": ["a1"], "author": "B"}, "ops": ops}),
                ("PATCH", "/engine/v2/items", {"filter": {"item_ids": ["a1"]}, "item_ids": ["a1"], "ops": ops}),
                ("PATCH", "/engine/v2/items", {"filter": {"item_ids": ["a1"]}, "ops": [ops[0] | {"field": "item_id"}]}),
                ("PATCH", "/engine/v2/items?author=B", {"filter": {"item_ids": ["a1"]}, "ops": ops}),
                ("DELETE", "/engine/v2/items", {"item_ids": []}),
                ("DELETE", "/engine/v2/items", {"item_ids": ["a1"], "filter": {}}),
                ("DELETE", "/engine/v2/items", None),
            ):
                status, answer, _ = await acme(method, path, body)
                assert (status, answer["error"]["code"]) == (403, "bulk_operation_refused"), body
            assert len(bodies) == len(served)


@pytest.mark.usefixtures("operator_key")
async def test_an_upload_to_gloo_neither_takes_nor_shows_what_others_keep_under_a_producers_name(tmp_path: Path) -> None:
    async with object_upstream() as upstream:
        paths = ("/ingestion/v2/files", "/ingestion/v1/real_time_upload", "/ai/ingestion/v1/real_time_upload")
        config = {
            "routes": {
                "routes": [
                    *({"method": "POST", "path": path, "capability": "chat"} for path in paths),
                    {"method": "GET", "path": "/engine/v2/items/{item_id}", "capability": "chat"},
                ]
            },
            "upstreams": {
                "upstreams": {
                    "default": {"base_url": upstream.url, "auth": {"kind": "bearer", "secret_env": "OBJECTS_UPSTREAM_KEY"}}
                }
            },
        }
        queries: list[str] = []
        told: dict[str, Any] = {}

        async def ingest(request: web.Request) -> web.Response:
            queries.append(request.query_string)
            return web.Response(text=told["text"]) if "text" in told else web.json_response(told)

        for path in paths:
            upstream.answers["POST", path] = ingest
        upstream.answers |= {("GET", f"/engine/v2/items/{item}"): {"item_id": item} for item in ("i1", "i2", "i3")}

        async with running_gateway(tmp_path, config=config, upstream_url=upstream.url) as harness, callers(harness) as (acme, big):
            told |= {"success": True, "ingesting": ["i1"], "duplicates": []}
            for query in ("?producer_id=psalm-1", "?Producer-Id=psalm-1;x=1", "?producer%5Fid=acme:psalm-1"):
                assert (await acme("POST", f"{paths[0]}{query}", {"content": "x"}))[:2] == (200, told)
            assert queries == ["producer_id=acme:psalm-1", "Producer-Id=acme:psalm-1&x=1", "producer_id=acme:psalm-1"]
            assert (await acme("GET", "/engine/v2/items/i1"))[0] == 200

            told |= {"ingesting": ["i2"], "duplicates": ["i1", "i2", 7, None]}
            status, shown, _ = await big("POST", f"{paths[0]}?producer_id=acme:psalm-1", {"content": "x"})
            assert (status, shown) == (200, {"success": True, "ingesting": ["i2"], "duplicates": ["i2"]})
            assert queries[-1] == "producer_id=big:acme:psalm-1"
            assert (await big("GET", "/engine/v2/items/i1"))[0] == 404
            assert (await big("GET", "/engine/v2/items/i2"))[0] == 200
            assert (await acme("POST", paths[0], {"content": "x"}))[1]["duplicates"] == ["i1", "i2"]

            told |= {"ingesting": ["i3"]}
            for key, name in (("producer_id", "psalm-1"), ("producerId", "acme:psalm-1"), ("producer_id", ["big:1", "x"])):
                assert (await big("POST", paths[1], {"content": "x", "meta": {key: name}}))[0] == 200
                assert (await big("GET", "/engine/v2/items/i3"))[0] == 404, "it may be another's, who named it so"
            form = FormData()
            form.add_field("producer_id", "psalm-1")
            form.add_field("files", b"text", filename="a.md")
            async with ClientSession() as session, session.post(f"{harness.url}{paths[0]}", data=form, headers=BIG) as response:
                assert response.status == 400
                assert "query" in (await response.json())["error"]["message"]
            assert (await big("POST", paths[1], {"content": "x", "producer_id": "big:1"}))[0] == 200
            assert (await big("GET", "/engine/v2/items/i3"))[0] == 200

            asked = len(queries)
            for query in ("?update=i1", "?producer_id=x&Update=i1", "?x=1;update=i1", "?up%64ate=i1", "?update=unheard-of"):
                assert (await big("POST", f"{paths[2]}{query}", {"content": "x"}))[0] == 404, "it would replace what others keep"
            assert len(queries) == asked
            assert (await acme("POST", f"{paths[0]}?update=i1", {"content": "x"}))[0] == 200
            assert queries[asked:] == ["update=i1"]

            for text in ('["i1"]', '{"duplicates": ["i1"]', "i1"):
                told["text"] = text
                status, body, _ = await big("POST", paths[0], {"content": "x"})
                assert (status, body["error"]["code"]) == (502, "list_unreadable"), text
            told["text"] = ""
            assert (await big("POST", paths[0], {"content": "x"}))[:2] == (200, "")


@pytest.mark.usefixtures("operator_key")
async def test_a_known_earlier_answer_is_held_at_its_size_and_others_at_all_that_the_model_can_read(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, _), callers(harness) as (acme, _):
        holds: list[int] = []
        admit = harness.limiter.admit

        async def watched(request: Any, *words: Any) -> Any:
            holds.append(request.floor_prompt_tokens)
            return await admit(request, *words)

        harness.limiter.admit = watched
        _, first, _ = await acme("POST", "/v1/responses", body_for("responses"))
        follow = body_for("responses") | {"previous_response_id": first["id"]}
        assert (await acme("POST", "/v1/responses", follow))[0] == 200
        assert holds[1] == holds[0] + OTHER_TOKENIZER * 12

        _, file, _ = await acme("POST", "/v1/files", {})
        shown = {"role": "user", "content": [{"type": "input_file", "file_id": file["id"]}]}
        _, unseen, _ = await acme("POST", "/v1/responses", body_for("responses") | {"input": [shown]})
        assert (await acme("POST", "/v1/responses", follow | {"previous_response_id": unseen["id"]}))[0] == 200
        assert holds[-1] > 100_000  # it may bring the file along, whose size nobody knows


@pytest.mark.usefixtures("operator_key")
@pytest.mark.parametrize(
    "shortened",
    [{"truncation": "auto"}, {"truncation": "new"}, {"context_management": [{"type": "compaction", "compact_threshold": 1_000}]}],
)
async def test_an_earlier_answer_that_was_made_of_a_part_of_its_context_is_held_at_all_that_the_model_can_read(
    tmp_path: Path, shortened: dict[str, Any]
) -> None:
    """Its usage tells of what a small model has read, and a larger one continues with the whole."""
    async with world(tmp_path) as (harness, _), callers(harness) as (acme, _):
        holds: list[int] = []
        admit = harness.limiter.admit

        async def watched(request: Any, *words: Any) -> Any:
            holds.append(request.floor_prompt_tokens)
            return await admit(request, *words)

        harness.limiter.admit = watched
        _, cut, _ = await acme("POST", "/v1/responses", body_for("responses") | shortened)
        follow = body_for("responses") | {"previous_response_id": cut["id"]}
        _, later, _ = await acme("POST", "/v1/responses", follow)
        assert holds[-1] > 100_000
        assert (await acme("POST", "/v1/responses", follow | {"previous_response_id": later["id"]}))[0] == 200
        assert holds[-1] > 100_000  # nor is the next one's context known


@pytest.mark.usefixtures("operator_key")
async def test_what_is_not_ones_own_is_refused_in_the_shape_of_the_api_that_was_called(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, _), ClientSession() as session:
        anthropic = {"x-api-key": ACME_KEY, "anthropic-version": "2023-06-01"}
        async with session.get(f"{harness.url}/v1/messages/batches/msgbatch_x", headers=anthropic) as response:
            body = await response.json()
            assert (response.status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")
        async with session.get(f"{harness.url}/v1beta/files/x", headers={"x-goog-api-key": ACME_KEY}) as response:
            body = await response.json()
            assert (response.status, body["error"]["code"], body["error"]["status"]) == (404, 404, "NOT_FOUND")
        async with session.get(f"{harness.url}/v1/files/x", headers=ACME) as response:
            assert (await response.json())["error"]["code"] == "object_not_found"


@pytest.mark.usefixtures("operator_key")
async def test_what_a_client_made_that_left_before_the_answer_is_its_own(tmp_path: Path) -> None:
    async with world(tmp_path) as (harness, upstream), ClientSession() as session, callers(harness) as (acme, big):
        arrived, proceed = asyncio.Event(), asyncio.Event()

        async def slow(_request: Any) -> Any:
            arrived.set()
            await proceed.wait()
            upstream.objects.setdefault("files", []).append("file-late")
            return web.json_response({"id": "file-late"})

        upstream.answers["POST", "/v1/files"] = slow
        leaving = asyncio.ensure_future(session.post(f"{harness.url}/v1/files", headers=ACME, json={}))
        await arrived.wait()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        proceed.set()
        await harness.at_rest()

        assert (await acme("GET", "/v1/files/file-late"))[0] == 200
        assert (await big("GET", "/v1/files/file-late"))[0] == 404


@pytest.mark.usefixtures("operator_key")
async def test_an_id_longer_than_any_is_nobodys_without_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent to the store and the ledger, and be remembered as unknown: some megabytes each time."""
    async with world(tmp_path) as (harness, _), callers(harness) as (acme, _):
        asked: list[Any] = []
        monkeypatch.setattr(harness.gateway.services.owners, "owned", asked.append)
        said = {"model": "gpt-4o-mini", "input": "go on", "previous_response_id": "r" * 600}
        assert (await acme("POST", "/v1/responses", said))[0] == 404
        assert (await acme("GET", "/v1/files/" + "f" * 600))[0] == 404
        assert not asked
