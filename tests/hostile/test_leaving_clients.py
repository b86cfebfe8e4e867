"""Clients that leave an upstream with `on_disconnect: cancel`, at every moment: it stops, the hold ends, and what was generated is
paid, never nothing. What is read on otherwise: test_hanging_up.py.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from at_rest import assert_paid, come_to_rest, until_accepted
from gateway_harness import Harness, running_gateway
from raw_client import BIG, KEY, RawClient, asking, chat, connected
from search import cases

EVENTS = 200
BATCH = 40  # clients at once
CANCEL: dict[str, Any] = {"upstreams": {"upstreams": {"default": {"on_disconnect": "cancel"}}}}


def streamed(directive: str, **members: Any) -> bytes:
    return chat(asking(directive, **members), headers=KEY, stream=True)


Leave = Callable[[RawClient], Awaitable[None]]


async def by_reset(client: RawClient) -> None:
    client.reset()


async def by_close(client: RawClient) -> None:
    client.writer.close()


async def by_half_close(client: RawClient) -> None:
    """The sending side only: the gateway takes that for leaving too."""
    client.writer.write_eof()


LEAVING = pytest.mark.parametrize("leave", [by_reset, by_close, by_half_close])


@LEAVING
@pytest.mark.parametrize("sent", [0, 1, 30, -60, -1])
async def test_before_the_request_is_whole_nothing_is_forwarded(tmp_path: Path, leave: Leave, sent: int) -> None:
    async with running_gateway(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(streamed("tokens=5")[:sent])
            await asyncio.sleep(0.05)
            await leave(client)
            await asyncio.sleep(0.05)
        await come_to_rest(harness)

        assert not harness.ledger.records
        assert not harness.events()


@LEAVING
@pytest.mark.parametrize("is_stream", [True, False])
async def test_while_waiting_for_the_first_byte_the_prompt_is_paid_and_what_can_have_been_generated(
    tmp_path: Path, leave: Leave, is_stream: bool
) -> None:
    async with running_gateway(tmp_path, config=CANCEL) as harness:
        async with connected(harness.port) as client:
            await client.send(chat(asking("delay=60000"), headers=KEY, stream=is_stream))
            await until_accepted(harness)
            await leave(client)
            await come_to_rest(harness, seconds=1.0)

        (served,) = harness.ledger.records
        assert served.cancelled_at_ms
        (event,) = harness.events()
        assert event["prompt_tokens"] == served.prompt_tokens
        assert served.generated_tokens < event["completion_tokens"] <= 50  # its max_tokens
        assert event["cost_nano_usd"] > 0
        assert (event["outcome"], event["usage_source"]) == ("client_gone", "assumed")
        assert {"assumed", "uncertain"} <= set(event["flags"])


@LEAVING
async def test_in_mid_stream_what_was_generated_is_paid(tmp_path: Path, leave: Leave) -> None:
    async with running_gateway(tmp_path, config=CANCEL) as harness:
        async with connected(harness.port) as client:
            await client.send(streamed("tokens=2000 tps=300", max_tokens=2000))
            seen = 0
            while seen < 20:
                seen += b'"content":"' in await client.read_until(b"\n\n")
            await leave(client)
            await come_to_rest(harness, seconds=1.0)

        (served,) = harness.ledger.records
        assert served.cancelled_at_ms
        (event,) = harness.events()
        assert 19 <= event["completion_tokens"] <= served.generated_tokens < 2000
        assert event["usage_source"] == "counted"
        assert_paid(harness, outcome="client_gone")
        assert (await harness.window()).held_nano_usd == 0


async def test_in_mid_answer_without_a_stream_the_upstream_is_stopped_and_what_it_can_have_generated_is_paid(
    tmp_path: Path,
) -> None:
    async with running_gateway(tmp_path, config=CANCEL) as harness:
        async with connected(harness.port) as client:
            await client.send(chat(asking("tokens=1000 tps=100", max_tokens=1000), headers=KEY))
            await asyncio.sleep(0.2)
            client.reset()
        await come_to_rest(harness, seconds=1.0)

        (served,), (event,) = harness.ledger.records, harness.events()
        assert served.cancelled_at_ms
        assert served.generated_tokens <= event["completion_tokens"] <= 1000
        assert (event["outcome"], event["usage_source"]) == ("client_gone", "assumed")


@LEAVING
async def test_after_the_last_event_the_whole_is_paid(tmp_path: Path, leave: Leave) -> None:
    async with running_gateway(tmp_path, config=CANCEL) as harness:
        async with connected(harness.port) as client:
            await client.send(streamed("tokens=9"))
            await client.read_until(b"data: [DONE]\n\n")
            await leave(client)
        await come_to_rest(harness)

        (event,) = harness.events()
        assert (event["completion_tokens"], event["usage_source"], event["outcome"]) == (9, "upstream", "success")


async def test_while_a_body_streams_up_the_upstream_sees_it_too(tmp_path: Path) -> None:
    head = (
        b"POST /ai/data/v1/search HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
        + BIG
        + b"\r\n"
    )
    async with running_gateway(tmp_path, config=CANCEL) as harness:
        async with connected(harness.port) as client:
            await client.send(head + b"{")
            async with asyncio.timeout(5):
                while not harness.ledger.records:
                    await asyncio.sleep(0.005)
            client.reset()
        await come_to_rest(harness, seconds=1.0)

        assert not harness.ledger.totals.accepted


def boundaries(answer: bytes) -> list[int]:
    """Where events end: offsets into the bytes after the head."""
    found, at = [], answer.find(b"\n\n")
    while at >= 0:
        found.append(at + 2)
        at = answer.find(b"\n\n", at + 2)
    return found


def chosen_offsets(answer: bytes) -> list[int]:
    """Every byte of the first and the last five events, and every event's end with its neighbours; with TALLYGATE_FULL all.

    Fewer of them where the search is not deep.
    """
    if os.environ.get("TALLYGATE_FULL"):
        return list(range(len(answer) + 1))
    ends = boundaries(answer)
    near = {end + step for end in ends for step in (-1, 0, 1)}
    whole = {*range(ends[4] + 1), *range(ends[-6], len(answer) + 1)}
    return sorted(offset for offset in near | whole if offset <= len(answer))[:: cases(short=20, steady=2, deep=1)]


def tokens_within(body: bytes, offset: int) -> int:
    """Events with text that a client which read `offset` bytes has seen whole."""
    events = body[:offset].split(b"\n\n")[:-1]
    return sum(1 for event in events if b'"content":"' in event and b'"content":""' not in event)


@pytest.mark.search
@pytest.mark.timeout(7_200 if os.environ.get("TALLYGATE_FULL") else 120)
async def test_at_every_byte_of_a_stream_of_200_events(tmp_path: Path) -> None:
    """The charge is at least what was delivered and at most what was generated, and never nothing."""
    plans = {"plans": {"pay_as_you_go": {}, "enterprise": {}, "free": {}}}  # no rate limit for thousands of requests
    request = streamed(f"tokens={EVENTS} tps=4000", max_tokens=EVENTS, stream_options={"include_usage": True})
    async with running_gateway(tmp_path, config=CANCEL | {"plans": plans}, acme_usd="100") as harness:
        async with connected(harness.port) as client:
            await client.send(request)
            await client.read_until(b"\r\n\r\n")
            body = await client.read_until(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        offsets = chosen_offsets(body)
        assert len(boundaries(body)) > EVENTS
        for start in range(0, len(offsets), 2_000):
            await leave_at_each(harness, request, offsets[start : start + 2_000], body)


async def leave_at_each(harness: Harness, request: bytes, offsets: list[int], body: bytes) -> None:
    """The client's x-request-id tells which exchange was which."""
    harness.ledger.reset()
    harness.limiter.events.clear()
    named = {offset: request.replace(b"\r\n", b"\r\nX-Request-Id: at-%d\r\n" % offset, 1) for offset in offsets}
    few = asyncio.Semaphore(BATCH)

    async def leave(offset: int) -> None:
        async with few, connected(harness.port) as client:
            await client.send(named[offset])
            await client.read_until(b"\r\n\r\n", seconds=30)
            await client.reader.readexactly(offset)
            client.reset()

    async with asyncio.TaskGroup() as group:
        for offset in offsets:
            group.create_task(leave(offset))
    await come_to_rest(harness, seconds=20.0)

    served = {record.request_id: record for record in harness.ledger.records}
    events = {int(event["client_request_id"].removeprefix("at-")): event for event in harness.events()}
    assert not [event for event in harness.events() if event["event_id"] not in served], "charged, though never served"
    assert len(harness.events()) == len(events) == len(served)
    assert sorted(events) == offsets
    for offset, event in events.items():
        record = served[event["event_id"]]
        assert tokens_within(body, offset) <= event["completion_tokens"] <= record.generated_tokens, offset
        assert event["prompt_tokens"] == record.prompt_tokens, offset
        assert event["cost_nano_usd"] > 0, offset
        assert event["outcome"] in {"client_gone", "success"}, offset
    spent = sum(event["cost_nano_usd"] for event in harness.events())
    assert spent > 0
