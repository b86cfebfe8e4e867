"""Traces and metrics of a gateway, as a collector gets them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer
from gateway_harness import ACME_KEY, BIG_KEY, running_gateway
from memory_jobs import poller_of
from otlp_collector import CLIENT, SERVER
from traced_gateway import CHAT, traced_gateway

from tallygate.dialects.gen_ai_names import operation_of, provider_of
from tallygate.dialects.registry import dialects
from tallygate.gateway.exchange.pipeline import Pipeline

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@asynccontextmanager
async def recording_upstream() -> AsyncIterator[tuple[str, list[Any]]]:
    """An upstream that answers chats, and the headers that it gets."""
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.copy())
        return web.json_response(
            {"id": "x", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_post("/v1/own", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), seen


async def test_an_exchange_is_a_span_of_the_request_and_one_of_the_call_below_the_callers(tmp_path):
    async with traced_gateway(tmp_path) as tried:
        assert await tried.ask(traceparent=TRACEPARENT, **{"x-request-id": "mine-1"}) == 200
        server, client = await tried.spans()
        (event,) = tried.harness.events()
        upstream_port = int(tried.harness.upstream_url.rpartition(":")[2])

    assert (server.name, server.kind, server.trace_id, server.parent_id) == ("POST /v1/chat/completions", SERVER, TRACE, PARENT)
    assert (client.name, client.kind, client.trace_id, client.parent_id) == ("chat gpt-4o", CLIENT, TRACE, server.span_id)
    assert server.started_ns <= client.started_ns <= client.ended_ns <= server.ended_ns
    assert server.started_ns == event["started_at_ms"] * 1_000_000
    assert not server.is_error
    assert not client.is_error
    assert server.values == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": "/v1/chat/completions",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "tallygate.request.id": event["event_id"],
        "tallygate.client_request.id": "mine-1",
        "tallygate.organization.id": "acme",
        "tallygate.credential.id": "acme-prod",
        "tallygate.capability": "chat",
    }
    assert client.values == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": event["response_model"],
        "gen_ai.usage.input_tokens": event["prompt_tokens"],
        "gen_ai.usage.output_tokens": 7,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.template": "/v1/chat/completions",
        "server.address": "127.0.0.1",
        "server.port": upstream_port,
        "tallygate.organization.id": "acme",
        "tallygate.credential.id": "acme-prod",
        "tallygate.capability": "chat",
        "tallygate.upstream": "default",
        "tallygate.outcome": "success",
        "tallygate.usage.source": "upstream",
        "tallygate.cost.nano_usd": event["cost_nano_usd"],
    }
    assert client.resource.items() >= {"service.name": "tallygate", "tallygate.worker": "worker-3"}.items()
    assert tried.collector.headers[0]["x-tenant"] == "a,b"
    assert tried.collector.schemas == {"https://opentelemetry.io/schemas/1.41.0"}
    assert "secret" not in repr(tried.collector.spans)


async def test_the_upstream_joins_the_trace_below_the_call(tmp_path):
    async with recording_upstream() as (url, seen), traced_gateway(tmp_path, upstream_url=url) as tried:
        assert await tried.ask(traceparent=TRACEPARENT, tracestate="congo=t61", baggage="user=1") == 200
        assert await tried.ask(tracestate="congo=t61") == 200
        assert await tried.ask(traceparent="00-nonsense", tracestate="congo=t61") == 200
        joined, joined_call, fresh, fresh_call, invalid, invalid_call = await tried.spans()

    assert seen[0].getall("traceparent") == [f"00-{TRACE}-{joined_call.span_id}-01"]
    assert (seen[0]["tracestate"], seen[0]["baggage"]) == ("congo=t61", "user=1")
    for headers, server, call in ((seen[1], fresh, fresh_call), (seen[2], invalid, invalid_call)):
        assert headers.getall("traceparent") == [f"00-{server.trace_id}-{call.span_id}-01"]
        assert "tracestate" not in headers, "it belongs to a trace that is not gone on with"
        assert (server.parent_id, call.parent_id) == ("", server.span_id)
    assert len({joined.trace_id, fresh.trace_id, invalid.trace_id}) == 3


async def test_without_a_collector_a_traceparent_passes_untouched_and_nobody_looks_on(tmp_path):
    async with (
        recording_upstream() as (url, seen),
        running_gateway(tmp_path, upstream_url=url) as harness,
        ClientSession() as session,
    ):
        assert type(harness.gateway.pipeline) is Pipeline
        headers = {"Authorization": f"Bearer {ACME_KEY}", "traceparent": TRACEPARENT, "tracestate": "congo=t61"}
        async with session.post(f"{harness.url}/v1/chat/completions", json=CHAT, headers=headers) as answer:
            assert answer.status == 200
    assert (seen[0].getall("traceparent"), seen[0]["tracestate"]) == ([TRACEPARENT], "congo=t61")


async def test_callers_decide_whether_their_traces_are_sampled_and_the_ratio_about_others(tmp_path):
    async with recording_upstream() as (url, seen), traced_gateway(tmp_path, ratio=0.000_001, upstream_url=url) as tried:
        await tried.ask(traceparent=TRACEPARENT)
        await tried.ask(traceparent=f"00-{TRACE}-{PARENT}-00")
        await tried.ask()
        assert [span.trace_id for span in await tried.spans()] == [TRACE, TRACE]
        assert [headers["traceparent"][-3:] for headers in seen] == ["-01", "-00", "-00"]
        assert sum(point.count for point in await tried.points("gen_ai.client.operation.duration")) == 3, "all are counted"
    (tmp_path / "none").mkdir()
    async with recording_upstream() as (url, seen), traced_gateway(tmp_path / "none", ratio=0, upstream_url=url) as tried:
        await tried.ask(traceparent=TRACEPARENT)
        assert await tried.spans() == []
        assert seen[0]["traceparent"][-3:] == "-00"


async def test_refusals_are_spans_without_a_call_and_no_errors_of_the_gateway(tmp_path):
    async with traced_gateway(tmp_path, acme_usd="0.0001") as tried:
        assert await tried.ask(body=CHAT | {"max_tokens": 10_000}) == 429
        assert await tried.ask(key="tg_nobody_wrongwrong") == 401
        assert await tried.ask("/v1/nowhere/sk-a-key-in-a-path") == 404
        spend, nobody, nowhere = await tried.spans()
        points = await tried.points("http.server.request.duration")

    assert spend.values.items() >= {"http.response.status_code": 429, "tallygate.code": "spend_limit_exceeded"}.items()
    assert spend.values.items() >= {"tallygate.refused_by": "spend_7d", "tallygate.organization.id": "acme"}.items()
    assert nobody.values["tallygate.code"] == "invalid_api_key"
    assert "tallygate.organization.id" not in nobody.values
    assert (nowhere.name, nowhere.values["url.path"]) == ("POST", "REDACTED")
    assert "sk-a-key" not in repr(tried.collector.spans)
    assert not any(span.is_error or "error.type" in span.values for span in (spend, nobody, nowhere))
    assert {point.values["http.response.status_code"] for point in points} == {401, 404, 429}


async def test_what_fails_upstream_is_an_error_of_both_and_what_it_refuses_of_the_call_alone(tmp_path):
    async with traced_gateway(tmp_path) as tried:
        for status in (503, 404):
            body = CHAT | {"messages": [{"role": "user", "content": f"[[sim fault=status:{status}]]"}]}
            assert await tried.ask(body=body) == status
        failed, failed_call, refused, refused_call = await tried.spans()
        points = await tried.points("gen_ai.client.operation.duration")
    assert (failed.is_error, failed.values["error.type"]) == (True, "upstream_error")
    assert (failed_call.is_error, failed_call.values["error.type"]) == (True, "503")
    assert (refused.is_error, refused.values["tallygate.code"]) == (False, "client_error")
    assert (refused_call.is_error, refused_call.values["error.type"]) == (True, "404")
    assert "gen_ai.usage.input_tokens" not in refused_call.values
    assert {point.values["error.type"] for point in points} == {"503", "404"}


async def test_an_upstream_that_cannot_be_reached_has_a_span(tmp_path, unused_tcp_port):
    async with traced_gateway(tmp_path, upstream_url=f"http://127.0.0.1:{unused_tcp_port}") as tried:
        assert await tried.ask() == 502
        server, call = await tried.spans()
    assert (server.values["error.type"], call.values["error.type"]) == ("upstream_unreachable", "unreachable")
    assert server.started_ns <= call.started_ns <= call.ended_ns <= server.ended_ns


async def test_streams_have_their_first_chunk_and_who_hangs_up_is_named(tmp_path):
    async with traced_gateway(tmp_path) as tried:
        assert await tried.ask(body=CHAT | {"stream": True}) == 200
        _, streamed = await tried.spans()
        slow = CHAT | {"messages": [{"role": "user", "content": "[[sim delay=600]] hi"}]}
        with pytest.raises(TimeoutError):
            async with tried.session.post(
                f"{tried.harness.url}/v1/chat/completions",
                json=slow,
                headers={"Authorization": f"Bearer {ACME_KEY}"},
                timeout=ClientTimeout(total=0.3),
            ):
                pass
        gone, gone_call = await tried.spans()
        (first,) = await tried.points("gen_ai.client.operation.time_to_first_chunk")
        event = tried.harness.events()[-1]
    assert streamed.values["gen_ai.request.stream"] is True
    seconds = streamed.values["gen_ai.response.time_to_first_chunk"]
    assert 0 < seconds <= (streamed.ended_ns - streamed.started_ns) / 1e9
    assert (first.count, first.total) == (1, pytest.approx(seconds))
    assert (gone.is_error, gone.values["error.type"]) == (True, "client_gone")
    assert "http.response.status_code" not in gone.values
    assert gone_call.values["gen_ai.usage.output_tokens"] == event["completion_tokens"]
    assert gone_call.values["tallygate.cost.nano_usd"] == event["cost_nano_usd"]


async def test_the_metrics_add_up_to_the_usage_events(tmp_path):
    async with traced_gateway(tmp_path, ratio=0) as tried:
        for model, key in (("gpt-4o", ACME_KEY), ("gpt-4o", ACME_KEY), ("gpt-4o-mini", ACME_KEY), ("gpt-4o-mini", BIG_KEY)):
            assert await tried.ask(body=CHAT | {"model": model}, key=key) == 200
        tokens = await tried.points("gen_ai.client.token.usage")
        costs = await tried.points("tallygate.cost.nano_usd")
        again = await tried.points("tallygate.cost.nano_usd")
        events = tried.harness.events()

    def of_events(org: str, model: str, name: str) -> list[int]:
        return [event[name] for event in events if (event["org"], event["request_model"]) == (org, model)]

    assert len(tokens) == 6
    for point in tokens:
        org, model = point.values["tallygate.organization.id"], point.values["gen_ai.request.model"]
        name = {"input": "prompt_tokens", "output": "completion_tokens"}[point.values["gen_ai.token.type"]]
        numbers = of_events(org, model, name)
        assert (point.count, point.total) == (len(numbers), sum(numbers))
        assert point.is_cumulative
        assert point.bounds == [4**power for power in range(14)]
        buckets = [0] * 15
        for number in numbers:
            buckets[next(place for place, bound in enumerate([*point.bounds, float("inf")]) if number <= bound)] += 1
        assert point.buckets == buckets
    for point in costs:
        wanted = of_events(point.values["tallygate.organization.id"], point.values["gen_ai.request.model"], "cost_nano_usd")
        assert point.value == sum(wanted)
        assert point.is_cumulative
    assert [point.value for point in again] == [point.value for point in costs]
    assert {point.start_ns for point in again} == {point.start_ns for point in costs}
    assert min(point.at_ns for point in again) > max(point.at_ns for point in costs)


async def test_work_that_goes_on_is_counted_when_it_has_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY_OF_A_TEST", "sk-operators")
    own = {"kind": "bearer", "secret_env": "UPSTREAM_KEY_OF_A_TEST"}
    async with traced_gateway(tmp_path, config={"upstreams": {"upstreams": {"default": {"auth": own}}}}) as tried:
        poller, jobs = poller_of(tried.harness)
        body = {"model": "gpt-4o-mini", "input": "[[sim tokens=7]] hi", "background": True, "max_output_tokens": 1000}
        assert await tried.ask("/v1/responses", body) == 200
        _, call = await tried.spans()
        assert call.values["tallygate.deferred"] is True
        assert "tallygate.cost.nano_usd" not in call.values
        assert await tried.points("tallygate.cost.nano_usd") == []
        settler = tried.harness.gateway.services.settler
        settle = settler.settle_job

        async def settle_twice(account: Any) -> Any:  # as when the answer to the first time is lost
            await settle(account)
            return await settle(account)

        monkeypatch.setattr(settler, "settle_job", settle_twice)
        for _ in range(5):
            tried.harness.clock.offset_ms += 60_000
            jobs.due.clear()
            await poller.poll_due()
        (cost,) = await tried.points("tallygate.cost.nano_usd")
        (event,) = [event for event in tried.harness.events() if event["_kind"] == "settled"]
    assert cost.value == event["cost_nano_usd"] > 0
    assert cost.values["gen_ai.request.model"] == "gpt-4o-mini"


async def test_a_fee_is_counted_though_nobody_reads_the_answer(tmp_path):
    routes = {"with_shipped": True, "routes": [{"method": "POST", "path": "/v1/own", "capability": "own", "fee_usd": "0.002"}]}
    async with recording_upstream() as (url, _), traced_gateway(tmp_path, upstream_url=url, config={"routes": routes}) as tried:
        assert await tried.ask("/v1/own") == 200
        _, unread = await tried.spans()
        (cost,) = await tried.points("tallygate.cost.nano_usd")
        assert await tried.points("gen_ai.client.operation.duration") == []
    assert (cost.value, cost.values["tallygate.capability"]) == (2_000_000, "own")
    assert (unread.name, unread.values["url.template"]) == ("POST", "/v1/own")
    assert not any(name.startswith("gen_ai") for name in unread.values)


async def test_a_key_pasted_as_a_model_does_not_leave(tmp_path):
    plans = {
        "plans": {
            "pay_as_you_go": {"unknown_model": "unpriced", "rate_limits": [{"requests": 100, "window": "1m"}]},
            "free": {},
            "enterprise": {},
        }
    }
    async with traced_gateway(tmp_path, config={"plans": plans}) as tried:
        await tried.ask(body=CHAT | {"model": "sk-ant-canary0123456789"}, **{"x-request-id": "sk-ant-canary0123456789"})
        await tried.spans()
        await tried.points("gen_ai.client.operation.duration")
    shown = repr(tried.collector.spans) + repr(tried.collector.metrics)
    assert "canary" not in shown
    assert "chat [secret]" in shown


async def test_an_observer_that_fails_is_logged_and_the_answer_stands(tmp_path, caplog, monkeypatch):
    def fail(*_args: Any) -> None:
        raise RuntimeError("of a test")

    async with traced_gateway(tmp_path) as tried:
        monkeypatch.setattr(tried.telemetry.exchanges, "ended", fail)
        assert await tried.ask() == 200
        await tried.harness.at_rest()
    assert [record.message.rpartition(" is ")[2] for record in caplog.records] == ["not shown"]


async def test_a_collector_that_hangs_delays_no_request(tmp_path):
    async with traced_gateway(tmp_path) as tried:
        hangs = asyncio.Event()

        async def hang(_request: web.Request) -> web.Response:
            await hangs.wait()
            return web.Response()

        assert await tried.ask() == 200
        tried.collector.take = hang  # type: ignore[method-assign]
        exporting = asyncio.ensure_future(tried.telemetry.exporter.export_spans())
        for _ in range(3):
            assert await tried.ask() == 200
        assert not exporting.done()
        hangs.set()
        await exporting


def test_every_dialect_has_an_operation_of_the_conventions_or_its_capabilitys():
    known = {"chat", "generate_content", "text_completion", "embeddings", "count_tokens"}
    found = {name: operation_of(name, "of-capability") for name in dialects()}
    assert set(found.values()) <= known | {"of-capability"}
    own = ("image", "speech", "transcription", "translation", "moderation", "rerank", "batch", "video", "realtime")
    assert {
        name for name, operation in found.items() if operation == "of-capability" and not any(word in name for word in own)
    } == set()
    assert operation_of(None, "files") == ""


def test_the_provider_is_known_by_the_host_and_else_by_the_api():
    assert provider_of("api.openai.com", "openai_chat") == "openai"
    assert provider_of("acme.openai.azure.com", "openai_chat") == "azure.ai.openai"
    assert provider_of("europe-west4-aiplatform.googleapis.com", "gemini_generate") == "gcp.vertex_ai"
    assert provider_of("platform.ai.gloo.com", "openai_chat") == "gloo"
    assert provider_of("evil-openai.com", "anthropic_messages") == "anthropic"
    assert provider_of("10.0.0.1", None) == "_OTHER"
