"""The access log of a gateway: a line for a request, and nothing where it is off."""

import json
import threading

import pytest
from aiohttp import ClientSession, ClientTimeout
from gateway_harness import ACME_KEY, FREE_KEY, running_gateway
from recording_metrics import RecordingMetrics

from tallygate.gateway.exchange.pipeline import Pipeline
from tallygate.telemetry.access_log import AccessLog
from tallygate.telemetry.log import JsonFormatter
from tallygate.telemetry.metrics import ACCESS_LOG_DROPPED

CHAT = {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "[[sim tokens=7]] hi"}]}


class Reader:
    """Reads lines, or not."""

    def __init__(self):
        self.lines = []
        self.reads = threading.Event()
        self.reads.set()

    def __call__(self, line):
        self.reads.wait()
        self.lines.append(json.loads(line))


def log_to(reader, *, every=1, waiting_max=100, metrics=None):
    formatter = JsonFormatter(process="worker-0")
    return AccessLog(formatter, metrics or RecordingMetrics(), every=every, write=reader, waiting_max=waiting_max)


async def test_each_request_has_a_line_with_what_became_of_it(tmp_path):
    reader = Reader()
    log = log_to(reader)
    async with running_gateway(tmp_path, access_log=log) as harness, ClientSession() as session:

        async def ask(path="/v1/chat/completions", body=CHAT, key=ACME_KEY, **headers):
            headers |= {"Authorization": f"Bearer {key}"}
            async with session.post(harness.url + path, json=body, headers=headers) as answer:
                await answer.read()
                return answer.status

        assert await ask(**{"x-request-id": "mine-1"}) == 200
        assert await ask(body=CHAT | {"stream": True}) == 200
        assert await ask(body=CHAT | {"messages": [{"role": "user", "content": "[[sim fault=status:503]]"}]}) == 503
        assert await ask(body=CHAT | {"model": "none-such"}) == 400
        assert await ask(key=FREE_KEY) == 403
        assert await ask(key="tg_nobody_wrongwrong") == 401
        assert await ask("/v1/nowhere/secret-path") == 404
        async with session.options(f"{harness.url}/v1/chat/completions") as answer:
            assert answer.status == 204
        slow = CHAT | {"messages": [{"role": "user", "content": "[[sim delay=600]] hi"}]}
        with pytest.raises(TimeoutError):
            async with session.post(
                f"{harness.url}/v1/chat/completions",
                json=slow,
                headers={"Authorization": f"Bearer {ACME_KEY}"},
                timeout=ClientTimeout(total=0.3),
            ):
                pass
        await harness.at_rest()
        events = harness.events()
    await log.close()

    first, streamed, failed, unknown, free, nobody, nowhere, options, gone = reader.lines
    assert (
        first.items()
        >= {
            "logger": "tallygate.access",
            "id": events[0]["event_id"],
            "org": "acme",
            "credential": "acme-prod",
            "client_request_id": "mine-1",
            "method": "POST",
            "route": "/v1/chat/completions",
            "status": 200,
            "model": "gpt-4o",
            "prompt_tokens": events[0]["prompt_tokens"],
            "completion_tokens": 7,
            "source": "upstream",
        }.items()
    )
    assert "code" not in first
    assert first["ms"] > 0
    assert streamed["completion_tokens"] == 7
    assert (failed["status"], failed["code"]) == (503, "upstream_error")
    assert (unknown["status"], unknown["code"], unknown["org"]) == (400, "unknown_model", "acme")
    assert (free["status"], free["code"], free["org"]) == (403, "plan_without_api_access", "free")
    assert (nobody["status"], nobody["code"]) == (401, "invalid_api_key")
    assert "org" not in nobody
    assert (nowhere["status"], nowhere["code"]) == (404, "unknown_endpoint")
    assert (options["status"], options["method"]) == (204, "OPTIONS")
    assert gone["code"] == "client_gone"
    assert "status" not in gone
    assert gone["completion_tokens"] == events[-1]["completion_tokens"]
    assert "secret" not in json.dumps(reader.lines)


async def test_a_reader_that_is_slow_costs_lines_and_no_request(tmp_path):
    reader, metrics = Reader(), RecordingMetrics()
    reader.reads.clear()
    log = log_to(reader, waiting_max=2, metrics=metrics)
    for number in range(10):
        log.add({"id": number})
    reader.reads.set()
    await log.close()
    dropped = len(metrics.counted[ACCESS_LOG_DROPPED])
    assert dropped in {7, 8}, "two wait, and the thread may hold one"
    assert [line["id"] for line in reader.lines] == list(range(10 - dropped))


async def test_what_was_dropped_is_told_in_the_next_line():
    reader = Reader()
    log = log_to(reader, waiting_max=0)
    log.add({"id": 1})
    log._writer._max = 1
    log.add({"id": 2})
    await log.close()

    assert [(line["id"], line["suppressed"]) for line in reader.lines] == [(2, 1)]


async def test_a_sample_has_one_in_so_many_and_each_failure():
    log = log_to(Reader(), every=3)

    assert [log.wants(status) for status in (200, 404, 200, 503, 200, 200, 200)] == [False, False, True, True, False, True, False]
    await log.close()


async def test_without_a_log_the_stages_are_those_without_one(tmp_path):
    async with running_gateway(tmp_path) as harness:
        assert type(harness.gateway.pipeline) is Pipeline
