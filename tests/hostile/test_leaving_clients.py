"""Clients that leave, at every moment there is. The upstream stops, the hold ends, and what was generated is paid: never nothing."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import Harness, running_gateway
from raw_client import BIG, RawClient, asking, chat, connected

EVENTS = 200
BATCH = 40  # clients at once
STEP = 997  # what the simulator reports for a prompt does not matter here; offsets are taken apart below


def streamed(directive: str, **members: Any) -> bytes:
    return chat(asking(directive, **members), headers=BIG, stream=True)


async def seen_to_end(harness: Harness, seconds: float = 5.0) -> None:
    """Wait until gateway and simulator are both at rest."""
    await harness.at_rest(seconds)
    async with asyncio.timeout(seconds):
        while harness.ledger.totals.open:  # noqa: ASYNC110 - the simulator has no event for it
            await asyncio.sleep(0.002)


async def assert_nothing_held(harness: Harness) -> None:
    assert not any(reading.held_nano_usd for reading in [await harness.window()])
    assert not harness.limiter.reservations_open() if hasattr(harness.limiter, "reservations_open") else True
    assert harness.metrics.open == 0


def assert_paid(harness: Harness, *, outcome: str | None = None) -> None:
    """Every accepted request has one event, which charges its prompt and no more output than was generated."""
    events = {event["event_id"]: event for event in harness.events()}
    accepted = [record for record in harness.ledger.records if record.accepted]
    assert len(accepted) == sum(1 for event in events.values() if event["cost_nano_usd"])
    for record in accepted:
        event = events[str(record.request_id)]
        assert event["cost_nano_usd"] > 0
        assert event["prompt_tokens"] == record.prompt_tokens
        assert event["completion_tokens"] <= record.generated_tokens
        if outcome is not None:
            assert event["outcome"] == outcome


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
        await seen_to_end(harness)

        assert not harness.ledger.records
        assert not harness.events()
        await assert_nothing_held(harness)


@LEAVING
@pytest.mark.parametrize("is_stream", [True, False])
async def test_while_waiting_for_the_first_byte_the_prompt_is_paid(tmp_path: Path, leave: Leave, is_stream: bool) -> None:
    async with running_gateway(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(chat(asking("delay=60000"), headers=BIG, stream=is_stream))
            async with asyncio.timeout(5):
                while not any(record.accepted for record in harness.ledger.records):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            await leave(client)
            await seen_to_end(harness, seconds=1.0)

        (served,) = harness.ledger.records
        assert served.cancelled_at_ms
        (event,) = harness.events()
        assert (event["prompt_tokens"], event["completion_tokens"]) == (served.prompt_tokens, 0)
        assert event["cost_nano_usd"] > 0
        assert event["outcome"] == "client_gone"
        assert "uncertain" in event["flags"]
        await assert_nothing_held(harness)


@LEAVING
async def test_in_mid_stream_what_was_generated_is_paid(tmp_path: Path, leave: Leave) -> None:
    async with running_gateway(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(streamed("tokens=2000 tps=300", max_tokens=2000))
            seen = 0
            while seen < 20:
                seen += b'"content":"' in await client.read_until(b"\n\n")
            await leave(client)
            await seen_to_end(harness, seconds=1.0)

        (served,) = harness.ledger.records
        assert served.cancelled_at_ms
        (event,) = harness.events()
        assert 19 <= event["completion_tokens"] <= served.generated_tokens < 2000
        assert_paid(harness, outcome="client_gone")
        await assert_nothing_held(harness)


async def test_in_mid_answer_without_a_stream_the_upstream_is_stopped_and_the_prompt_paid(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(chat(asking("tokens=1000 tps=100", max_tokens=1000), headers=BIG))
            await asyncio.sleep(0.2)
            client.reset()
        await seen_to_end(harness, seconds=1.0)

        assert harness.ledger.records[0].cancelled_at_ms
        assert_paid(harness, outcome="client_gone")


@LEAVING
async def test_after_the_last_event_the_whole_is_paid(tmp_path: Path, leave: Leave) -> None:
    async with running_gateway(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(streamed("tokens=9"))
            await client.read_until(b"data: [DONE]\n\n")
            await leave(client)
        await seen_to_end(harness)

        (event,) = harness.events()
        assert (event["completion_tokens"], event["usage_source"], event["outcome"]) == (9, "upstream", "success")


async def test_while_a_body_streams_up_the_upstream_sees_it_too(tmp_path: Path) -> None:
    head = b"POST /ai/data/v1/search HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n" + BIG + b"\r\n"
    async with running_gateway(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(head + b"{")
            async with asyncio.timeout(5):
                while not harness.ledger.records:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            client.reset()
        await seen_to_end(harness, seconds=1.0)

        assert not harness.ledger.totals.accepted
        await assert_nothing_held(harness)


def boundaries(answer: bytes) -> list[int]:
    """Where events end: offsets into the bytes after the head."""
    found, at = [], answer.find(b"\n\n")
    while at >= 0:
        found.append(at + 2)
        at = answer.find(b"\n\n", at + 2)
    return found


def chosen_offsets(answer: bytes) -> list[int]:
    """Every byte of the first and the last five events, and every event's end with its neighbours; with TALLYGATE_FULL all."""
    if os.environ.get("TALLYGATE_FULL"):
        return list(range(len(answer) + 1))
    ends = boundaries(answer)
    near = {end + step for end in ends for step in (-1, 0, 1)}
    whole = {*range(ends[4] + 1), *range(ends[-6], len(answer) + 1)}
    return sorted(offset for offset in near | whole if offset <= len(answer))


async def leave_at(port: int, request: bytes, offset: int) -> int:
    """Read `offset` bytes of the answer's body and reset the connection; returns the bytes read of it."""
    async with connected(port) as client:
        await client.send(request)
        await client.read_until(b"\r\n\r\n")
        if offset:
            async with asyncio.timeout(20):
                await client.reader.readexactly(offset)
        client.reset()
        return offset


async def in_batches(jobs: Iterable[Callable[[], Awaitable[Any]]], size: int) -> None:
    few = asyncio.Semaphore(size)

    async def run(job: Callable[[], Awaitable[Any]]) -> None:
        async with few:
            await job()

    await asyncio.gather(*[run(job) for job in jobs])


@pytest.mark.timeout(3_600 if os.environ.get("TALLYGATE_FULL") else 120)
async def test_at_every_byte_of_a_stream_of_200_events(tmp_path: Path) -> None:
    """The charge is at least what was delivered and at most what was generated, and never nothing."""
    plans = {"plans": {"pay_as_you_go": {}, "enterprise": {}, "free": {}}}  # unlimited, for tens of thousands of requests
    request = streamed(f"tokens={EVENTS} tps=20000", max_tokens=EVENTS, stream_options={"include_usage": True})
    async with running_gateway(tmp_path, config={"plans": plans}) as harness:
        async with connected(harness.port) as client:
            await client.send(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            await client.read_until(b"\r\n\r\n")
            body = (await client.read_to_close()).data
        ends = boundaries(body)
        assert len(ends) >= EVENTS
        offsets = chosen_offsets(body)
        delivered = {offset: body[:offset].count(b'"content":"') for offset in offsets}
        for start in range(0, len(offsets), 2_000):
            await run_offsets(harness, request, offsets[start : start + 2_000], delivered)


async def run_offsets(harness: Harness, request: bytes, offsets: list[int], delivered: dict[int, int]) -> None:
    """Leave at each of the offsets; the x-request-id of the client tells which exchange was which."""
    harness.ledger.reset()
    harness.limiter.events.clear()
    named = [(request.replace(b"\r\n", b"\r\nX-Request-Id: at-%d\r\n" % offset, 1), offset) for offset in offsets]
    await in_batches([lambda named=named, number=number: leave_at(harness.port, *named[number]) for number in range(len(named))], BATCH)
    await seen_to_end(harness, seconds=20.0)

    served = {record.request_id: record for record in harness.ledger.records}
    events = harness.events()
    assert len(events) == len(offsets) == len(served)
    assert sorted(int(event["client_request_id"].removeprefix("at-")) for event in events) == offsets
    for event in events:
        record = served[event["event_id"]]
        offset = int(event["client_request_id"].removeprefix("at-"))
        # An event without its last bytes is not delivered; the count of markers may include a role chunk with empty content.
        assert max(0, delivered[offset] - 2) <= event["completion_tokens"] <= record.generated_tokens, offset
        assert event["prompt_tokens"] == record.prompt_tokens
        assert event["cost_nano_usd"] > 0
        assert event["outcome"] in {"client_gone", "success"}
    await assert_nothing_held(harness)
