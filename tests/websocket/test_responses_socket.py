"""The Responses API over a WebSocket: each response is held, relayed event by event, metered and settled by itself."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError, web
from gateway_harness import ACME_KEY, BIG_KEY, FREE_KEY, LIMITS, Harness, organizations, running_gateway
from openai import AsyncOpenAI, OpenAI
from talking import HEARD_SECONDS_MAX, MODEL, kinds, talking

from tallygate.domain.rate_limit import Quantity, RateLimit
from tallygate.gateway.cors import CorsPolicy
from tallygate.gateway.exchange import entrance
from tallygate.gateway.exchange.account import checkpoint_all
from tallygate.gateway.websocket.session import sendable
from tallygate.telemetry.metrics import OPEN_SOCKETS, REFUSED

OPERATORS_KEY = {"upstreams": {"upstreams": {"default": {"auth": {"kind": "bearer", "secret_env": "OPERATORS_KEY"}}}}}


@pytest.fixture(autouse=True)
def _operators_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATORS_KEY", "sk-operator")


async def test_the_sdk_goes_through_turns_of_one_socket_and_each_is_an_exchange(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        client = AsyncOpenAI(api_key=ACME_KEY, base_url=f"{harness.url}/v1", max_retries=0)
        before: dict[str, Any] = {}
        async with client.responses.connect() as connection:
            for tokens in (5, 7, 3):
                await connection.response.create(model=MODEL, input=f"[[sim tokens={tokens}]] Hi", store=False, **before)
                async for event in connection:
                    assert event.type != "error", event
                    if event.type == "response.completed":
                        assert event.response.usage is not None
                        assert event.response.usage.output_tokens == tokens
                        before = {"previous_response_id": event.response.id}
                        break
        await client.close()
        await harness.at_rest()
        events, served = harness.events(), list(harness.ledger.records)
        assert [event["completion_tokens"] for event in events] == [5, 7, 3] == [each.generated_tokens for each in served]
        assert [event["prompt_tokens"] for event in events] == [each.prompt_tokens for each in served]
        assert {(event["outcome"], event["usage_source"], event["stream"], event["status"]) for event in events} == {
            ("success", "upstream", True, 200)
        }
        assert len({event["event_id"] for event in events}) == 3
        window = await harness.window()
        assert window.spent_nano_usd == sum(event["_cost"] for event in events) > 0
        assert window.held_nano_usd == 0
        assert not any(each.has_gateway_key for each in served)
        assert harness.metrics.levels[OPEN_SOCKETS] == 0


def test_the_blocking_sdk_does_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as harness:
            assert await asyncio.to_thread(blocking, harness.url) == "completed"
            await harness.at_rest()
            assert len(harness.events()) == 1

    def blocking(url: str) -> str:
        with (
            OpenAI(api_key=BIG_KEY, base_url=f"{url}/v1", max_retries=0) as client,
            client.responses.connect() as connection,
        ):
            connection.response.create(model=MODEL, input="[[sim tokens=2]] Hi")
            for event in connection:
                if event.type == "response.completed":
                    return event.response.status or ""
        return ""

    asyncio.run(main())


async def test_lanes_run_side_by_side_and_each_in_order(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness) as talk:
        await talk.ask("tokens=4 delay=200 tps=50", stream_id="slow")
        await talk.ask("tokens=2", stream_id="fast")
        first, second = await talk.rest(), await talk.rest()
        both = first + second
        ended = [event["stream_id"] for event in both if event["type"] == "response.completed"]
        assert ended == ["fast", "slow"]
        await talk.ask("tokens=1", stream_id="slow")
        await talk.ask("tokens=2", stream_id="slow")
        assert kinds(await talk.rest())[-1] == kinds(await talk.rest())[-1] == "response.completed"
        await talk.socket.close()
        await harness.at_rest()
        assert sorted(event["completion_tokens"] for event in harness.events()) == [1, 2, 2, 4]


@pytest.mark.parametrize("at", range(12))
@pytest.mark.parametrize("fault", ["cut how=fin", "cut how=rst", "error", "stall"])
async def test_an_upstream_that_ends_at_any_event_is_charged_once_for_what_was_seen(tmp_path: Path, at: int, fault: str) -> None:
    async with running_gateway(tmp_path) as harness:
        async with talking(harness, key=ACME_KEY) as talk:
            if fault == "stall":
                await talk.ask(f"tokens=5 fault=stall at={at}")
                for _ in range(at):
                    assert await talk.hear() is not None
                (session,) = harness.gateway.pipeline.sockets.open
                while not session.turns:
                    await asyncio.sleep(0)
                await harness.gateway.pipeline.sockets.watch(harness.gateway.services.clock() + 1e6)
                events = await talk.rest()
                assert events[-1]["error"]["code"] == "upstream_timeout"
            else:
                events = await talk.turn(f"tokens=5 fault={fault} at={at}")
                assert kinds(events)[-1] == "error"
            if fault != "error":
                assert await talk.hear() is None
                assert talk.close_code in {1000, 1011}
        await harness.at_rest()
        (event,), (served,) = harness.events(), harness.ledger.records
        assert event["outcome"] in {"upstream_error", "truncated"}
        assert event["prompt_tokens"] >= served.prompt_tokens
        assert event["completion_tokens"] >= served.delivered_tokens
        assert event["_cost"] > 0
        window = await harness.window()
        assert (window.held_nano_usd, window.spent_nano_usd) == (0, event["_cost"])


@pytest.mark.parametrize("at", range(13))
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_client_that_leaves_at_any_event_is_charged_once_for_what_was_used(tmp_path: Path, at: int, how: str) -> None:
    async with running_gateway(tmp_path) as harness:
        async with talking(harness, key=ACME_KEY) as talk:
            await talk.ask("tokens=5 delay=50 tps=200")
            for _ in range(at):
                assert await talk.hear() is not None
            if how == "close":
                await talk.socket.close(code=1001)
            else:
                transport = talk.socket.get_extra_info("socket")
                assert transport is not None
                talk.socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await harness.at_rest()
        (event,), (served,) = harness.events(), harness.ledger.records
        assert event["completion_tokens"] >= served.generated_tokens
        assert event["_cost"] > 0
        window = await harness.window()
        assert (window.held_nano_usd, window.spent_nano_usd) == (0, event["_cost"])


async def test_a_turn_is_clamped_to_what_its_organization_can_pay(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, acme_usd="0.005") as harness, talking(harness, key=ACME_KEY) as talk:
        assert kinds(await talk.turn("tokens=3"))[-1] == "response.completed"
        await talk.socket.close()
        await harness.at_rest()
        (event,) = harness.events()
        assert "output_clamped" in event["flags"]


async def test_an_organization_that_pauses_is_told_and_its_socket_is_closed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, acme_usd="0.000005") as harness, talking(harness, key=ACME_KEY) as talk:
        (event,) = await talk.turn(stream_id="a")
        assert (event["type"], event["status"], event["error"]["code"]) == ("error", 429, "spend_limit_exceeded")
        assert event["stream_id"] == "a"
        assert await talk.hear() is None
        assert talk.close_code == 1008
        await harness.at_rest()
        assert not harness.ledger.records
        assert [labels[0] for labels in harness.metrics.counted[REFUSED]] == ["acme"]


async def test_a_turn_that_is_refused_leaves_the_socket_open(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness) as talk:
        (event,) = await talk.turn(model="no-such-model")
        assert event["error"]["code"] == "unknown_model"
        assert event["error"]["headers"]["x-request-id"] == event["error"]["request_id"]
        assert kinds(await talk.turn())[-1] == "response.completed"


async def test_a_rate_limit_refuses_the_turn_alone_and_says_when_to_come_again(tmp_path: Path) -> None:
    config = organizations()
    acme = config["organizations"][0]["credentials"][0]
    acme["rate_limits"] = [{"requests": 1, "window": "1m"}]
    async with running_gateway(tmp_path, config={"organizations": config}) as harness, talking(harness, key=ACME_KEY) as talk:
        assert kinds(await talk.turn())[-1] == "response.completed"
        for _ in range(2):
            (event,) = await talk.turn()
            assert (event["status"], event["error"]["code"]) == (429, "rate_limit_exceeded")
            assert 0 < int(event["headers"]["retry-after-ms"]) <= 60_000
            assert event["headers"] == event["error"]["headers"]
            assert event["headers"]["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("{", "invalid_request", None),
        ("[]", "invalid_request", None),
        ("{}", "invalid_request", None),
        ({"type": "response.steer", "previous_response_id": "resp_1", "input": "Go on"}, "invalid_request", "type"),
        ({"type": "response.inject", "input": []}, "invalid_request", "type"),
        ({"type": "session.update"}, "invalid_request", "type"),
        ({"type": "response.create", "model": MODEL, "input": "Hi", "background": True}, "invalid_request", "background"),
        ({"type": "response.create", "model": MODEL, "input": "Hi", "response": {"model": "gpt-5"}}, "invalid_request", "response"),
        ('{"type": "response.processed", "type": "response.create", "model": "gpt-4o-mini"}', "invalid_request", "type"),
        ('{"type": "response.processed", "Type": "response.create", "model": "gpt-4o-mini"}', "invalid_request", "Type"),
        ('{"type": "response.create", "model": "gpt-4o-mini", "streamId": "a", "input": "Hi"}', "invalid_request", "streamId"),
        ({"type": "response.create", "input": "Hi"}, "invalid_request", "model"),
        ({"type": "response.create", "model": MODEL, "previous_response_id": "resp_of_another"}, "object_not_found", None),
        ({"type": "response.create", "model": MODEL, "stream_id": "x" * 257}, "invalid_request", "stream_id"),
    ],
    ids=str,
)
async def test_a_message_that_may_not_pass_is_answered_and_never_forwarded(
    tmp_path: Path, message: Any, code: str, param: str | None
) -> None:
    async with running_gateway(tmp_path, config=OPERATORS_KEY) as harness, talking(harness) as talk:
        await talk.say(message)
        event = await talk.hear()
        assert event is not None
        assert (event["type"], event["error"]["code"]) == ("error", code)
        assert param is None or event["error"]["param"] == param
        assert kinds(await talk.turn())[-1] == "response.completed"
        await talk.socket.close()
        await harness.at_rest()
        assert len(harness.ledger.records) == len(harness.events()) == 1


async def test_a_response_of_another_organization_cannot_be_continued(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=OPERATORS_KEY) as harness:
        async with talking(harness, key=ACME_KEY) as owner:
            stored = (await owner.turn(store=True))[-1]["response"]["id"]
        async with talking(harness) as other:
            (event,) = await other.turn(previous_response_id=stored)
            assert (event["status"], event["error"]["code"]) == (404, "object_not_found")
        async with talking(harness, key=ACME_KEY) as owner:  # on another socket it is known as stored
            assert kinds(await owner.turn(previous_response_id=stored))[-1] == "response.completed"


async def test_what_a_socket_does_not_store_can_be_continued_there_alone(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=OPERATORS_KEY) as harness:
        async with talking(harness) as talk:
            kept = (await talk.turn(store=False))[-1]["response"]["id"]
            assert kinds(await talk.turn(store=False, previous_response_id=kept))[-1] == "response.completed"
        async with talking(harness) as talk:
            (event,) = await talk.turn(previous_response_id=kept)
            assert event["error"]["code"] == "object_not_found"


async def test_a_page_authenticates_by_a_subprotocol_that_stays_here(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        offers = ("realtime", f"openai-insecure-api-key.{BIG_KEY}", "openai-beta.realtime-v1")
        async with talking(harness, key=None, protocols=offers) as talk:
            assert kinds(await talk.turn())[-1] == "response.completed"
            await talk.socket.close()
        await harness.at_rest()
        assert not any(
            each.has_gateway_key or "sec-websocket-protocol" in each.credential_headers for each in harness.ledger.records
        )
        with pytest.raises(WSServerHandshakeError) as refused:
            async with talking(harness, key=ACME_KEY, protocols=offers):
                pass
        assert refused.value.status == 401


@pytest.mark.parametrize(
    ("origin", "listed", "status"),
    [
        ("https://app.example.com", ("https://app.example.com",), 101),
        ("https://app.example.com", ("*",), 101),
        ("https://evil.example.com", ("https://app.example.com",), 403),
        ("https://evil.example.com", (), 403),
        ("null", (), 403),
    ],
)
async def test_a_page_needs_a_listed_origin(tmp_path: Path, origin: str, listed: tuple[str, ...], status: int) -> None:
    offers = (f"openai-insecure-api-key.{BIG_KEY}",)
    async with running_gateway(tmp_path, cors=CorsPolicy(frozenset(listed))) as harness:
        try:
            async with talking(harness, key=None, protocols=offers, origin=origin):
                found = 101
        except WSServerHandshakeError as error:
            found = error.status
        assert found == status
        own = f"http://127.0.0.1:{harness.port}"
        async with talking(harness, key=None, protocols=offers, origin=own), talking(harness, origin="https://evil.example.com"):
            pass  # of the gateway's own origin; and no page, as its key is in a header


async def test_azure_has_its_own_path_and_key_header(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=OPERATORS_KEY) as harness:
        async with talking(harness, key=None, headers={"api-key": ACME_KEY}, path="/openai/v1/responses") as talk:
            assert kinds(await talk.turn())[-1] == "response.completed"
        await harness.at_rest()
        (served,) = harness.ledger.records
        assert served.credential_headers == ("api-key",)
        assert len(harness.events()) == 1


@pytest.mark.parametrize(
    ("key", "headers", "status"),
    [
        (None, {}, 401),
        ("tg_acme-prod_wrong", {}, 401),
        (FREE_KEY, {}, 403),
        (BIG_KEY, {"Sec-WebSocket-Version": "12"}, 400),
        (BIG_KEY, {"x-goog-fieldmask": "id"}, 400),
        (BIG_KEY, {"x-sim": "fault=none"}, 101),
    ],
)
async def test_a_handshake_is_refused_as_a_request_is(
    tmp_path: Path, key: str | None, headers: dict[str, str], status: int
) -> None:
    async with running_gateway(tmp_path) as harness:
        if status == 101:
            async with talking(harness, key=key, headers=headers) as talk:
                assert talk.socket.protocol is None
            return
        with pytest.raises(WSServerHandshakeError) as refused:
            async with talking(harness, key=key, headers=headers):
                pass
        assert refused.value.status == status
        assert not harness.gateway.pipeline.sockets.open


async def test_a_key_that_is_revoked_closes_its_socket_and_its_turn_is_charged(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY) as talk:
        await talk.ask("tokens=50 tps=20")
        assert await talk.hear() is not None
        harness.gateway.services.view.directory.remove("acme")
        await harness.gateway.pipeline.sockets.watch(harness.gateway.services.clock() + 10)
        events = await talk.rest()
        assert events[-1]["error"]["code"] == "invalid_api_key"
        assert await talk.hear() is None
        assert talk.close_code == 1008
        await harness.at_rest()
        (event,) = harness.events()
        assert event["_cost"] > 0


async def test_a_turn_is_identified_anew(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY) as talk:
        assert kinds(await talk.turn())[-1] == "response.completed"
        harness.gateway.services.view.directory.remove("acme")
        (event,) = await talk.turn()
        assert event["status"] == 401
        assert await talk.hear() is None
        assert talk.close_code == 1008


async def test_a_silent_socket_is_closed_and_one_with_a_turn_is_not(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, limits=replace(LIMITS, socket_idle_seconds=60.0)) as harness, talking(harness) as talk:
        sockets, clock = harness.gateway.pipeline.sockets, harness.gateway.services.clock
        await talk.turn()
        await sockets.watch(clock() + 59)
        assert len(sockets.open) == 1
        await sockets.watch(clock() + 61)
        assert await talk.hear() is None
        assert talk.close_code == 1001


async def test_binary_messages_and_too_long_ones_end_the_socket(tmp_path: Path) -> None:
    limits = replace(LIMITS, body_bytes_max=10_000)
    async with running_gateway(tmp_path, limits=limits) as harness:
        async with talking(harness) as talk:
            await talk.socket.send_bytes(b"{}")
            (event,) = await talk.rest()
            assert event["error"]["code"] == "invalid_request"
            assert await talk.hear() is None
            assert talk.close_code == 1003
        async with talking(harness) as talk:
            await talk.ask(metadata={"long": "x" * 20_000})
            assert await talk.hear() is None
            assert talk.close_code == 1009
        await harness.at_rest()
        assert not harness.ledger.records


async def test_messages_take_no_more_memory_than_bodies_may(tmp_path: Path) -> None:
    limits = replace(LIMITS, body_bytes_max=1_000_000, body_budget_bytes=1_000_000)
    async with running_gateway(tmp_path, limits=limits) as harness:
        async with talking(harness) as first, talking(harness) as second:
            writer = first.socket._writer
            writer._write_websocket_frame(b"x" * 10, 1, 0)  # parsed and answered: it is no JSON
            assert await first.hear() is not None
            assert harness.gateway.pipeline.entrance.body_bytes == 0
            await first.socket._writer.send_frame(b"", WSMsgType.PING)
            big = json.dumps({"type": "response.create", "model": MODEL, "input": "y" * 900_000})
            await asyncio.gather(first.say(big), second.say(big))
            answers = [await first.rest(), await second.rest()]
            codes = [events[-1].get("error", {}).get("code") if events else None for events in answers]
            assert "overloaded" in codes
        await harness.at_rest()
        assert harness.gateway.pipeline.entrance.body_bytes == 0


async def test_pings_are_answered_and_close_codes_go_through(tmp_path: Path) -> None:
    seen: list[int | None] = []

    async def upstream(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.data.count("close"):
                await socket.close(code=4321, message=b"as asked")
        seen.append(socket.close_code)
        return socket

    app = web.Application()
    app.router.add_get("/v1/responses", upstream)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with running_gateway(tmp_path, upstream_url=url) as harness:
            async with talking(harness, autoping=False) as talk:
                await talk.socket.ping(b"are you there")
                pong = await talk.socket.receive(timeout=HEARD_SECONDS_MAX)
                assert (pong.type, pong.data) == (WSMsgType.PONG, b"are you there")
                await talk.socket.close(code=4000)
            await harness.at_rest()
            assert seen == [4000]
            async with talking(harness) as talk:
                await talk.say({"type": "response.processed", "response_id": "close"})
                message = await talk.socket.receive(timeout=HEARD_SECONDS_MAX)
                assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4321, "as asked")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("code", "sent"), [(1000, 1000), (1001, 1001), (1006, 1011), (1005, 1000), (1015, 1000), (None, 1000), (3999, 3999)]
)
def test_no_code_is_sent_that_may_not_be(code: int | None, sent: int) -> None:
    assert sendable(code) == sent


async def test_a_client_that_does_not_read_stops_the_upstream_and_nothing_is_lost(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness) as talk:
        await talk.ask("tokens=3000 per_event=1", stream_id="s" * 250)
        await asyncio.sleep(0.3)
        (session,) = harness.gateway.pipeline.sockets.open
        events = await talk.rest()
        assert kinds(events)[-1] == "response.completed"
        assert kinds(events).count("response.output_text.delta") == 3000
        assert not session.turns
        assert harness.events()[0]["completion_tokens"] == 3000


async def test_a_drain_lets_turns_end_and_closes_the_sockets(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness) as busy, talking(harness) as idle:
        await busy.ask("tokens=4 tps=20")
        assert await busy.hear() is not None
        draining = asyncio.ensure_future(harness.gateway.drain(5))
        assert await idle.hear() is None
        assert idle.close_code == 1001
        assert kinds(await busy.rest())[-1] == "response.completed"
        assert await busy.hear() is None
        assert busy.close_code == 1001
        await draining
        assert not harness.gateway.pipeline.open


async def test_a_gateway_that_closes_settles_turns_as_they_stand(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY) as talk:
        await talk.ask("tokens=500 tps=20")
        for _ in range(6):
            assert await talk.hear() is not None
        closing = asyncio.ensure_future(harness.gateway.close())
        events = await talk.rest()
        assert events[-1]["error"]["code"] == "shutting_down"
        assert await talk.hear() is None
        assert talk.close_code == 1001
        await closing
        (event,) = harness.events()
        assert event["_cost"] > 0
        assert (await harness.window()).held_nano_usd == 0


async def test_an_upstream_that_speaks_no_websocket_is_told_as_the_gateway_did_before(tmp_path: Path) -> None:
    answers = iter(
        [(404, {}), (405, {}), (200, {}), (302, {"Location": "http://127.0.0.1:9/elsewhere"}), (401, {}), (429, {}), (503, {})]
    )
    asked: list[str] = []

    async def upstream(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        status, headers = next(answers)
        return web.Response(status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with running_gateway(tmp_path, upstream_url=f"http://127.0.0.1:{runner.addresses[0][1]}") as harness:
            for expected in (426, 426, 426, 426, 401, 502, 502):
                with pytest.raises(WSServerHandshakeError) as refused:
                    async with talking(harness):
                        pass
                assert refused.value.status == expected
            assert asked == ["/v1/responses"] * 7
            await harness.at_rest()
    finally:
        await runner.cleanup()


async def test_a_response_that_nobody_asked_for_ends_the_socket(tmp_path: Path) -> None:
    async def upstream(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_json({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}})
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/v1/responses", upstream)
    runner = web.AppRunner(app)
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    try:
        async with running_gateway(tmp_path, upstream_url=f"http://127.0.0.1:{runner.addresses[0][1]}") as harness:
            async with talking(harness) as talk:
                assert await talk.hear() is None
                assert talk.close_code == 1011
            await harness.at_rest()
    finally:
        await site.stop()
        await runner.cleanup()


async def test_an_end_that_is_said_twice_ends_no_turn_but_its_own(tmp_path: Path) -> None:
    async def upstream(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        number, before = 0, dict[str, Any]()
        async for _ in socket:
            number += 1
            usage = {"input_tokens": 9, "output_tokens": number, "total_tokens": 9 + number}
            done = {"id": f"resp_{number}", "status": "completed", "model": MODEL, "usage": usage}
            if number > 1:
                await socket.send_json(before)
            await socket.send_json({"type": "response.created", "response": {"id": f"resp_{number}", "status": "in_progress"}})
            before = {"type": "response.completed", "response": done}
            await socket.send_json(before)
        return socket

    app = web.Application()
    app.router.add_get("/v1/responses", upstream)
    runner = web.AppRunner(app)
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    try:
        async with running_gateway(tmp_path, upstream_url=f"http://127.0.0.1:{runner.addresses[0][1]}") as harness:
            async with talking(harness) as talk:
                await talk.turn()
                await talk.turn()
                await talk.rest()
            await harness.at_rest()
            assert [event["completion_tokens"] for event in harness.events()] == [1, 2]
    finally:
        await site.stop()
        await runner.cleanup()


async def test_a_worker_that_is_killed_leaves_the_hold_to_the_sweep_and_a_late_end_corrects_it(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY) as talk:
        await talk.ask("tokens=30 tps=20")
        for _ in range(7):
            assert await talk.hear() is not None
        await checkpoint_all(harness.gateway.services, harness.gateway.pipeline.answers)
        harness.clock.offset_ms += LIMITS.lease_ms + 1_000
        harness.limiter.sweep("acme")
        (expired,) = harness.events()
        assert (expired["outcome"], expired["usage_source"]) == ("expired", "checkpoint")
        assert expired["_cost"] > 0
        assert kinds(await talk.rest())[-1] == "response.completed"
        await talk.socket.close()
        await harness.at_rest()
        window = await harness.window()
        assert window.held_nano_usd == 0
        last = harness.events()[-1]
        assert last["event_id"] == expired["event_id"]
        assert window.spent_nano_usd == last["_cost"] if last["_kind"] == "corrected" else expired["_cost"]


async def test_a_client_that_leaves_during_the_handshake_leaves_nothing(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def upstream(request: web.Request) -> web.StreamResponse:
        begun.set()
        await asyncio.sleep(0.2)
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.receive()
        return socket

    app = web.Application()
    app.router.add_get("/v1/responses", upstream)
    runner = web.AppRunner(app)
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    try:
        async with running_gateway(tmp_path, upstream_url=f"http://127.0.0.1:{runner.addresses[0][1]}") as harness:

            async def come() -> None:
                async with talking(harness):
                    pass

            coming = asyncio.ensure_future(come())
            await begun.wait()
            coming.cancel()
            await harness.at_rest()
            assert not harness.gateway.pipeline.sockets.open
            assert harness.gateway.pipeline.entrance.body_bytes == 0
    finally:
        await site.stop()
        await runner.cleanup()


async def test_sockets_are_bounded_by_organization_and_by_worker(tmp_path: Path) -> None:
    limits = replace(LIMITS, requests_open_max=5)
    async with running_gateway(tmp_path, limits=limits) as harness:
        async with AsyncExitStack() as open_ones:
            for _ in range(3):
                await open_ones.enter_async_context(talking(harness))
            assert await status_of_handshake(harness, BIG_KEY) == 503
            assert await status_of_handshake(harness, ACME_KEY) == 101
        await harness.at_rest()


async def test_handshakes_have_a_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = RateLimit(name="handshakes", quantity=Quantity.REQUESTS, capacity=3, refill_units=1, window_ms=60_000)
    monkeypatch.setattr(entrance, "_HANDSHAKES", (("handshakes", few),))
    async with running_gateway(tmp_path) as harness:
        statuses = [await status_of_handshake(harness, BIG_KEY) for _ in range(8)]
        assert statuses[:3] == [101] * 3
        assert statuses[-1] == 503
        assert await status_of_handshake(harness, ACME_KEY) == 101


async def status_of_handshake(harness: Harness, key: str) -> int:
    try:
        async with talking(harness, key=key):
            return 101
    except WSServerHandshakeError as error:
        return error.status
