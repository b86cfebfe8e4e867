"""Failures of upstreams in log and metric."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession, WSServerHandshakeError
from gateway_harness import ACME_KEY, running_gateway
from recording_metrics import RecordingMetrics

from tallygate.gateway.refusals import SHUTTING_DOWN
from tallygate.gateway.upstream_failures import LOGGED_EVERY_S, REASONS_MAX, UpstreamFailures
from tallygate.http1.upstream_pool import UpstreamPool
from tallygate.telemetry.metrics import UPSTREAM_ERRORS

CHAT = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
KEY = {"Authorization": f"Bearer {ACME_KEY}"}


class Minutes:
    """A loop whose time a test lets pass."""

    def __init__(self) -> None:
        self.due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def call_later(self, delay: float, call: Callable[..., None], *arguments: object) -> None:
        assert delay == LOGGED_EVERY_S
        self.due.append((call, arguments))

    def let_one_pass(self) -> None:
        due, self.due = self.due, []
        for call, arguments in due:
            call(*arguments)


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "an upstream fails"]


def test_a_reason_is_logged_at_once_then_once_a_minute_with_the_number_of_others(caplog: pytest.LogCaptureFixture) -> None:
    minutes, metrics = Minutes(), RecordingMetrics()
    failures = UpstreamFailures(metrics, cast("asyncio.AbstractEventLoop", minutes))
    first = {"upstream": "openai", "kind": "unreachable", "reason": "connection refused"}

    for _ in range(500):
        failures.note("openai", "unreachable", "connection refused")
    failures.note("gemini", "timeout", "no connection in time")
    assert told(caplog) == [first, {"upstream": "gemini", "kind": "timeout", "reason": "no connection in time"}]
    caplog.clear()

    minutes.let_one_pass()
    assert told(caplog) == [{**first, "in_the_last_minute": 499}]
    caplog.clear()

    minutes.let_one_pass()
    assert (told(caplog), minutes.due) == ([], [])
    failures.note("openai", "unreachable", "connection refused")
    assert told(caplog) == [first]
    assert len(metrics.counted[UPSTREAM_ERRORS]) == 502


def test_reasons_are_bounded_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    metrics = RecordingMetrics()
    failures = UpstreamFailures(metrics, cast("asyncio.AbstractEventLoop", Minutes()))

    for number in range(REASONS_MAX + 50):
        failures.note("openai", "unreachable", f"reason {number}")

    assert len(told(caplog)) == REASONS_MAX
    assert len(metrics.counted[UPSTREAM_ERRORS]) == REASONS_MAX + 50


async def test_an_upstream_that_is_down_is_logged_by_name_and_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with running_gateway(tmp_path, upstream_url=url) as harness, ClientSession() as session:
        for _ in range(3):
            async with session.post(f"{harness.url}/v1/chat/completions", json=CHAT, headers=KEY) as answer:
                assert answer.status == 502
                assert "refused" not in await answer.text()
        with pytest.raises(WSServerHandshakeError):
            await session.ws_connect(f"{harness.url}/v1/responses", headers=KEY)
        await harness.at_rest()

        assert told(caplog) == [{"upstream": "default", "kind": "unreachable", "reason": "connection refused"}]
        assert harness.metrics.counted[UPSTREAM_ERRORS] == [("default", "unreachable")] * 4
    assert all(record.levelno < logging.ERROR for record in caplog.records)


async def test_a_reload_trusts_what_is_trusted_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[UpstreamPool] = []

    def renew_tls(pool: UpstreamPool) -> None:
        renewed.append(pool)

    monkeypatch.setattr(UpstreamPool, "renew_tls", renew_tls)
    async with running_gateway(tmp_path) as harness:
        await harness.gateway.read_again()
        assert renewed == [harness.gateway.services.view.upstreams["default"].pool]


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("status:503", "status", "it answered with status 503"),
        ("error; at=2", "in_stream", "its answer has an error inside"),
        ("drop", "reset", "the upstream closed the connection before it answered"),
    ],
)
async def test_what_an_upstream_answers_may_be_a_failure_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str, kind: str, reason: str
) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        headers = {**KEY, "x-sim": f"fault={fault}"}
        async with session.post(f"{harness.url}/v1/chat/completions", json={**CHAT, "stream": True}, headers=headers) as answer:
            await answer.read()
        async with session.post(f"{harness.url}/v1/chat/completions", json=CHAT, headers=KEY) as answer:
            assert answer.status == 200
        await harness.at_rest()

        assert told(caplog) == [{"upstream": "default", "kind": kind, "reason": reason}]
        assert harness.metrics.counted[UPSTREAM_ERRORS] == [("default", kind)]


async def test_what_the_gateway_itself_cuts_off_is_no_failure_of_the_upstream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        headers = {**KEY, "x-sim": "fault=stall"}
        asking = asyncio.ensure_future(session.post(f"{harness.url}/v1/chat/completions", json=CHAT, headers=headers))
        pipeline = harness.gateway.pipeline
        async with asyncio.timeout(5):
            while not any(answer.sent_at for answer in pipeline.answers):
                await asyncio.sleep(0.01)
        (answer,) = pipeline.answers
        answer.relay.cut(SHUTTING_DOWN)  # as at the end of a worker
        async with await asking as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "shutting_down")
        await harness.at_rest()

        assert told(caplog) == []
        assert UPSTREAM_ERRORS not in harness.metrics.counted
