"""Endpoints beside the usual ones, under the shipped routes: what they cost is charged, and what they name is looked at."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest
from aiohttp import ClientSession, web
from gateway_harness import ACME_KEY, BIG_KEY, Harness, running_gateway
from object_upstream import ObjectUpstream, object_upstream

from tallygate.config.route_objects import route_objects
from tallygate.domain.made_object import MadeObject

ACME = {"authorization": f"Bearer {ACME_KEY}"}
BIG = {"authorization": f"Bearer {BIG_KEY}"}
BETA = {"anthropic-beta": "files-api-2025-04-14"}  # as older versions of the SDK send it
NARROW = {"authorization": "Bearer tg_big-narrow_narrowsecret"}
PRICES = {
    "with_listed": False,
    "prices": [
        {
            "model": "claude-shown",
            "effective": "2024-01-01",
            "input": "1",
            "output": "5",
            "max_input_tokens": 10000,
            "max_output_tokens": 500,
            "reasons": False,
        },
        {
            "model": "gpt-4o-mini",
            "effective": "2024-01-01",
            "input": "1",
            "output": "10",
            "max_input_tokens": 10000,
            "max_output_tokens": 500,
        },
        {
            "model": "gpt-large",
            "effective": "2024-01-01",
            "input": "20",
            "output": "100",
            "max_input_tokens": 9000,
            "max_output_tokens": 400,
        },
    ],
}
COMPLETE = {"model": "claude-shown", "prompt": "[[sim tokens=20]] Human: Hello", "max_tokens_to_sample": 50}


@asynccontextmanager
async def simulated(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Harness, ClientSession]]:
    async with running_gateway(tmp_path, config={"prices": PRICES}, **options) as harness, ClientSession(harness.url) as session:
        yield harness, session


@asynccontextmanager
async def with_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> AsyncIterator[tuple[Harness, ObjectUpstream, ClientSession]]:
    """The shipped routes in front of an upstream that keeps everything under the operator's one key."""
    monkeypatch.setenv("OBJECTS_UPSTREAM_KEY", "sk-operator")
    async with object_upstream() as upstream:
        auth = {"kind": "bearer", "secret_env": "OBJECTS_UPSTREAM_KEY"}
        config = {"prices": PRICES, "upstreams": {"upstreams": {"default": {"base_url": upstream.url, "auth": auth}}}}
        config |= changes
        async with (
            running_gateway(tmp_path, config=config, upstream_url=upstream.url) as harness,
            ClientSession(harness.url) as session,
        ):
            yield harness, upstream, session


async def answer(session: ClientSession, method: str, path: str, headers: dict[str, str], body: Any = None) -> tuple[int, Any]:
    async with session.request(method, path, headers=headers, json=body) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_text_completion_is_charged_for_what_is_counted_of_it(tmp_path: Path, stream: bool) -> None:
    async with simulated(tmp_path) as (harness, session):
        async with session.post("/v1/complete", headers=ACME, json=COMPLETE | {"stream": stream}) as response:
            text = await response.text()
            assert (response.status, '"usage"' in text) == (200, False)
        await harness.at_rest()
        (event,) = harness.events()
        (served,) = harness.ledger.records
        assert (event["usage_source"], event["stream"], event["capability"]) == ("counted", stream, "completions")
        assert event["cost_nano_usd"] == event["prompt_tokens"] * 1_000 + event["completion_tokens"] * 5_000
        assert event["completion_tokens"] >= served.generated_tokens == 20
        assert event["prompt_tokens"] > 5
        window = await harness.window()
        assert (window.spent_nano_usd, window.held_nano_usd) == (event["cost_nano_usd"], 0)


async def test_a_text_completion_of_a_model_that_may_reason_unseen_is_assumed(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (harness, session):
        body = COMPLETE | {"model": "gpt-4o-mini", "prompt": "[[sim tokens=20 reasoning=10]] Hello"}
        assert (await answer(session, "POST", "/v1/complete", ACME, body))[0] == 200
        await harness.at_rest()
        (event,) = harness.events()
        assert event["usage_source"] == "assumed"
        assert 30 <= event["completion_tokens"] <= 50


async def test_a_text_completion_is_lowered_to_what_is_affordable(tmp_path: Path) -> None:
    async with simulated(tmp_path, acme_usd="0.008") as (harness, session):
        body = COMPLETE | {"max_tokens_to_sample": 100_000, "prompt": "[[sim tokens=3000]] Hello"}
        async with session.post("/v1/complete", headers=ACME, json=body) as response:
            lowered = int(response.headers["tallygate-max-output-tokens"])
            assert (await response.json())["stop_reason"] == "max_tokens"
        assert 750 <= lowered < 2_000
        assert harness.ledger.records[0].generated_tokens == lowered


@pytest.mark.parametrize("acme_usd", ["0.008", "10"])
async def test_a_stream_that_tells_its_usage_unasked_keeps_it_clamped_or_not(tmp_path: Path, acme_usd: str) -> None:
    told = {"prompt_tokens": 8, "completion_tokens": 9, "total_tokens": 17}
    pieces = [{"delta": {"content": " add"}, "finish_reason": None}, {"delta": {"content": ""}, "finish_reason": "stop"}]
    chunks: list[dict[str, Any]] = [{"model": "gpt-4o-mini", "choices": [{"index": 0, **piece}]} for piece in pieces]
    chunks[-1]["usage"] = told
    sent = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
    bodies: list[Any] = []

    async def serve(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.Response(text=sent, content_type="text/event-stream")

    async with object_upstream() as upstream:
        upstream.answers["POST", "/v1/fim/completions"] = serve
        world = running_gateway(tmp_path, config={"prices": PRICES}, upstream_url=upstream.url, acme_usd=acme_usd)
        async with world as harness, ClientSession(harness.url) as session:
            asked = {"model": "gpt-4o-mini", "prompt": "def", "suffix": "return a+b", "max_tokens": 5000, "stream": True}
            async with session.post("/v1/fim/completions", headers=ACME, json=asked) as response:
                assert (response.status, await response.text()) == (200, sent)
                assert ("tallygate-max-output-tokens" in response.headers) == (acme_usd == "0.008")
            await harness.at_rest()
            (event,) = harness.events()
    assert "stream_options" not in bodies[0]
    assert (event["usage_source"], event["prompt_tokens"], event["completion_tokens"]) == ("upstream", 8, 9)
    assert event["cost_nano_usd"] == 8 * 1_000 + 9 * 10_000


async def test_a_text_completion_refused_speaks_as_its_api_does(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (harness, session):
        status, body = await answer(session, "POST", "/v1/complete", ACME, {"prompt": "Hi", "max_tokens_to_sample": 5})
        assert (status, body["type"], body["error"]["type"], body["error"]["param"]) == (
            400,
            "error",
            "invalid_request_error",
            "model",
        )
        assert not harness.ledger.records


async def test_a_compaction_is_held_at_the_models_maximum_and_charged_by_its_usage(tmp_path: Path) -> None:
    body = {"model": "gpt-4o-mini", "input": "[[sim tokens=30 reasoning=5]] Hello"}
    async with simulated(tmp_path) as (harness, session):
        status, made = await answer(session, "POST", "/v1/responses/compact", ACME, body)
        assert (status, made["object"], made["output"][-1]["type"]) == (200, "response.compaction", "compaction")
        await harness.at_rest()
        (event,) = harness.events()
        (served,) = harness.ledger.records
        assert (event["usage_source"], event["prompt_tokens"], event["completion_tokens"]) == ("upstream", served.prompt_tokens, 35)
        assert event["cost_nano_usd"] == served.prompt_tokens * 1_000 + 35 * 10_000

        follow_up = {"model": "gpt-4o-mini", "input": [made["output"][-1], {"role": "user", "content": "[[sim tokens=3]] On"}]}
        assert (await answer(session, "POST", "/v1/responses", ACME, follow_up))[0] == 200
    async with simulated(tmp_path, acme_usd="0.004") as (harness, session):  # its 500 tokens cost 0.005
        status, refused = await answer(session, "POST", "/v1/responses/compact", ACME, body)
        assert (status, refused["error"]["code"]) == (429, "spend_limit_exceeded")
        assert not harness.ledger.records, "nothing could lower its maximum"


async def test_a_compaction_knows_whose_the_earlier_response_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_objects(tmp_path, monkeypatch) as (_, upstream, session):
        upstream.answers["POST", "/v1/responses/compact"] = {
            "id": "resp_compacted",
            "object": "response.compaction",
            "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": ""}],
            "usage": {"input_tokens": 5, "output_tokens": 7},
        }
        _, made = await answer(session, "POST", "/v1/responses", ACME, {"model": "gpt-4o-mini", "input": "Hi"})
        asked = {"model": "gpt-4o-mini", "previous_response_id": made["id"]}
        arrived = len(upstream.requests)
        status, refused = await answer(session, "POST", "/v1/responses/compact", BIG, asked)
        assert (status, refused["error"]["code"], len(upstream.requests)) == (404, "object_not_found", arrived)
        assert (await answer(session, "POST", "/v1/responses/compact", ACME, asked))[0] == 200
        named = {"model": "gpt-4o-mini", "input": [{"type": "compaction", "id": "cmp_1"}]}
        assert (await answer(session, "POST", "/v1/responses", ACME, named))[0] == 200, "its items are their maker's"
        assert (await answer(session, "POST", "/v1/responses", BIG, named))[0] == 404


@pytest.mark.parametrize("spelled", ["msg_acme", "\\u006dsg_acme"])
async def test_a_message_that_a_compaction_repeats_belongs_to_who_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    """OpenAI, "Compact a response": its answer has the users' messages as they were sent, and only the compaction is new."""
    repeated = {"type": "message", "role": "user", "id": "msg_acme", "content": "Hi"}
    async with with_objects(tmp_path, monkeypatch) as (_, upstream, session):
        made = {"id": "resp_acme", "output": [{"type": "message", "role": "assistant", "id": "msg_acme", "content": []}]}
        upstream.answers["POST", "/v1/responses"] = made
        assert (await answer(session, "POST", "/v1/responses", ACME, {"model": "gpt-4o-mini", "input": "Hi"}))[0] == 200
        upstream.answers["POST", "/v1/responses/compact"] = {
            "id": "resp_compacted",
            "object": "response.compaction",
            "output": [repeated, {"type": "compaction", "id": "cmp_1", "encrypted_content": ""}],
            "usage": {"input_tokens": 5, "output_tokens": 7},
        }
        asked = json.dumps({"model": "gpt-4o-mini", "input": [repeated]}).replace("msg_acme", spelled)
        sent = BIG | {"content-type": "application/json"}
        async with session.post("/v1/responses/compact", headers=sent, data=asked) as compacted:
            assert compacted.status == 200
        named = {"model": "gpt-4o-mini", "input": [{"type": "item_reference", "id": "msg_acme"}]}
        assert (await answer(session, "POST", "/v1/responses", BIG, named))[0] == 404
        assert (await answer(session, "POST", "/v1/responses", ACME, named))[0] == 200


async def test_a_stored_prompt_is_held_at_the_dearest_model_and_charged_by_the_one_that_answers(tmp_path: Path) -> None:
    body = {"prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Oslo"}}, "max_output_tokens": 100}
    async with simulated(tmp_path, acme_usd="0.18") as (harness, session):
        status, refused = await answer(session, "POST", "/v1/responses", ACME, body)
        assert (status, refused["error"]["code"]) == (429, "spend_limit_exceeded")
        assert float(refused["error"]["needed_usd"]) == pytest.approx(9_000 * 20 / 1e6 + 100 * 100 / 1e6, rel=0.01)
        assert not harness.ledger.records
    async with simulated(tmp_path, acme_usd="0.3") as (harness, session):
        assert (await answer(session, "POST", "/v1/responses", ACME, body))[0] == 200
        await harness.at_rest()
        (event,) = harness.events()
        assert (event["request_model"], event["response_model"], event["usage_source"]) == (None, "gpt-4o-mini", "upstream")
        assert event["cost_nano_usd"] == event["prompt_tokens"] * 1_000 + event["completion_tokens"] * 10_000

        status, refused = await answer(session, "POST", "/v1/responses", NARROW, body)
        assert (status, refused["error"]["code"], refused["error"]["param"]) == (403, "model_not_allowed", "model")
        assert "must name one of them" in refused["error"]["message"]
        for nothing in ({"input": "Hi"}, {"input": "Hi", "model": None}, {"input": "Hi", "prompt": None}):
            status, refused = await answer(session, "POST", "/v1/responses", ACME, nothing)
            assert (status, refused["error"]["code"], refused["error"]["param"]) == (400, "invalid_request", "model")
        assert len(harness.ledger.records) == 1


MESSAGE = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
STORED = [
    ("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "store": True}),
    ("/v1/messages/batches", {"requests": [{"custom_id": "a", "params": MESSAGE}]}),
    ("/v1/conversations", {"items": [{"role": "user", "content": "hi"}]}),
]
BELOW = {
    "/v1/chat/completions": [("GET", ""), ("GET", "/messages"), ("POST", ""), ("DELETE", "")],
    "/v1/messages/batches": [("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")],
    "/v1/conversations": [("GET", ""), ("GET", "/items"), ("GET", "/items/i_1"), ("POST", ""), ("POST", "/items"), ("DELETE", "")],
}


@pytest.mark.parametrize(("collection", "body"), STORED)
async def test_what_is_stored_is_its_makers_at_every_shipped_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collection: str, body: Any
) -> None:
    async with with_objects(tmp_path, monkeypatch) as (harness, upstream, session):
        _, answered = await answer(session, "POST", collection, ACME, body)
        made = answered["id"]
        arrived = len(upstream.requests)
        for method, below in BELOW[collection]:
            sent = {"metadata": {"conversation": "mine"}} if method == "POST" else None
            status, refused = await answer(session, method, f"{collection}/{made}{below}", BIG, sent)
            assert (status, refused["error"]["code"]) == (404, "object_not_found"), (method, below)
        assert len(upstream.requests) == arrived
        for method, below in BELOW[collection]:
            sent = {"metadata": {"conversation": "mine"}} if method == "POST" else None
            assert (await answer(session, method, f"{collection}/{made}{below}", ACME, sent))[0] == 200, (method, below)
        await harness.at_rest()
        assert all(event["cost_nano_usd"] == 0 for event in harness.events() if event["usage_source"] == "none")


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "mistral-large-latest", "inputs": "Hi"},
        {"agent_id": "a", "inputs": "Hi"},
        {"inputs": "On"},
        {"items": [], "completion_args": {}},
    ],
)
async def test_a_conversation_asks_no_model_past_the_meter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    """Mistral, "Conversations": the same paths start and continue one, and a model answers."""
    async with with_objects(tmp_path, monkeypatch) as (_, upstream, session):
        _, made = await answer(session, "POST", "/v1/conversations", ACME, {"items": [], "metadata": {"topic": "x"}})
        arrived = len(upstream.requests)
        for below in ("", f"/{made['id']}", f"/{made['id']}/items"):
            status, refused = await answer(session, "POST", f"/v1/conversations{below}", ACME, asked)
            assert (status, refused["error"]["code"]) == (400, "invalid_request")
            assert refused["error"]["param"] in asked
        assert len(upstream.requests) == arrived


async def test_a_conversation_with_a_fee_may_ask_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    route = {"method": "POST", "path": "/v1/conversations", "capability": "chat", "fee_usd": "0.01"}
    async with with_objects(tmp_path, monkeypatch, routes={"with_shipped": True, "routes": [route]}) as (harness, _, session):
        asked = {"model": "mistral-large-latest", "inputs": "Hi"}
        assert (await answer(session, "POST", "/v1/conversations", ACME, asked))[0] == 200
        await harness.at_rest()
        assert [event["cost_nano_usd"] for event in harness.events()] == [10_000_000]


@pytest.mark.parametrize(("collection", "cursor"), [("chat/completions", "after"), ("messages/batches", "after_id")])
async def test_a_list_shows_ones_own_and_may_be_filtered_by_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collection: str, cursor: str
) -> None:
    async with with_objects(tmp_path, monkeypatch) as (harness, upstream, session):
        ids = upstream.objects[collection] = [f"made-{number}" for number in range(4)]
        kind = route_objects("GET", f"/v1/{collection}").lists
        for org, own in (("acme", ids[::2]), ("big", ids[1::2])):
            made = [MadeObject(kind=kind, id=id_, upstream="default") for id_ in own]
            harness.gateway.services.owners.remember(organization_of(harness, org), made)
        path = f"/v1/{collection}?metadata[conversation]=mine&limit=20"
        status, page = await answer(session, "GET", path, BIG)
        assert (status, [item["id"] for item in page["data"]]) == (200, ["made-3", "made-1"])
        status, page = await answer(session, "GET", f"/v1/{collection}?limit=20&{cursor}=made-3", BIG)
        assert (status, [item["id"] for item in page["data"]]) == (200, ["made-1"])
        assert (await answer(session, "GET", f"/v1/{collection}?{cursor}=made-2", BIG))[0] == 404


async def test_a_stored_answer_streams_on_from_where_its_reader_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_objects(tmp_path, monkeypatch) as (harness, upstream, session):
        _, made = await answer(session, "POST", "/v1/responses", ACME, {"model": "gpt-4o-mini", "input": "Hi"})
        event = {"type": "response.completed", "sequence_number": 6, "response": made}
        stream = b"event: response.completed\ndata: " + json.dumps(event).encode() + b"\n\n"
        asked: list[str] = []

        async def serve(request: web.Request) -> web.Response:
            asked.append(request.query_string)
            return web.Response(body=stream, content_type="text/event-stream")

        path = f"/v1/responses/{made['id']}"
        upstream.answers["GET", path] = serve
        query = "stream=true&starting_after=5&include[]=message.output_text.logprobs"
        async with session.get(f"{path}?{query}", headers=ACME) as response:
            assert (response.status, response.content_type, await response.read()) == (200, "text/event-stream", stream)
        assert asked == [query]
        async with session.get(f"{path}?{query}", headers=BIG) as response:
            assert response.status == 404
        await harness.at_rest()
        assert [event["usage_source"] for event in harness.events()] == ["upstream", "none"]


async def test_the_files_and_models_of_anthropics_sdk_go_the_way_of_openais(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with with_objects(tmp_path, monkeypatch) as (harness, upstream, _):
        seen: list[tuple[str | None, str | None, bytes]] = []

        async def upload(request: web.Request) -> web.Response:
            seen.append((request.headers.get("anthropic-beta"), request.headers.get("authorization"), await request.read()))
            upstream.objects["files"] = ["file_011"]
            return web.json_response({"id": "file_011", "type": "file", "filename": "a.txt", "size_bytes": 5})

        upstream.answers["POST", "/v1/files"] = upload
        models = {"data": [{"id": "claude-shown", "type": "model"}], "has_more": False, "first_id": None, "last_id": None}
        upstream.answers["GET", "/v1/models"] = models
        async with (
            anthropic.AsyncAnthropic(base_url=harness.url, api_key=ACME_KEY, max_retries=0) as own,
            anthropic.AsyncAnthropic(base_url=harness.url, api_key=BIG_KEY, max_retries=0) as other,
        ):
            made = await own.beta.files.upload(file=("a.txt", b"hello", "text/plain"), extra_headers=BETA)
            assert made.id == "file_011"
            ((beta, key, form),) = seen
            assert (beta, key, b"hello" in form) == (BETA["anthropic-beta"], "Bearer sk-operator", True)
            assert [file.id async for file in await own.beta.files.list()] == ["file_011"]
            assert [file.id async for file in await other.beta.files.list()] == []
            assert (await own.beta.files.retrieve_metadata("file_011")).id == "file_011"
            with pytest.raises(anthropic.NotFoundError) as refused:
                await other.beta.files.delete("file_011")
            assert refused.value.body["error"]["type"] == "not_found_error"  # type: ignore[index, call-overload]  # Anthropic's shape
            assert (await own.beta.files.delete("file_011")).id == "file_011"
            assert [model.id async for model in await own.models.list()] == ["claude-shown"]


def organization_of(harness: Harness, org: str) -> Any:
    return next(each for each in harness.gateway.services.view.config.organizations if each.id == org)
