"""Whoever hangs up pays for what was generated: money of clients that leave, against what the upstream generated for them."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from at_rest import come_to_rest, until_accepted
from gateway_harness import LIMITS, Harness, running_gateway
from hostile_upstream import saying, scripted, whole
from raw_client import KEY, asking, chat, connected
from usage_events import cost_by_kind, read_event

from tallygate.gateway.exchange.account import checkpoint_all
from tallygate.gateway.exchange.drains import DrainEnd
from tallygate.limiter.reference_state import Hold
from tallygate.telemetry.metrics import READ_ON, READING_ON

GPT_5 = {"model": "gpt-5", "max_completion_tokens": 30_000, "max_tokens": None}
GPT_5_RATES = (1_250, 10_000)  # nano-USD of a token in and out
OPUS = {"model": "claude-opus-4-6", "max_tokens": 30_000}
OPUS_RATES = (5_000, 25_000)
ROOMY = {"plans": {"plans": {"pay_as_you_go": {}, "enterprise": {}, "free": {}}}}  # no rate limits


def upstreams(**keys: Any) -> dict[str, Any]:
    return ROOMY | {"upstreams": {"upstreams": {"default": keys}}}


def gpt_5(directive: str, *, stream: bool, **members: Any) -> bytes:
    return chat(asking(directive, **GPT_5 | members), headers=KEY, stream=stream)


def opus(directive: str) -> bytes:
    return chat(asking(directive, **OPUS), headers=KEY, stream=True).replace(b"/v1/chat/completions", b"/v1/messages", 1)


def bill(harness: Harness, rates: tuple[int, int] = GPT_5_RATES) -> int:
    """What the provider charges, in nano-USD."""
    accepted = [record for record in harness.ledger.records if record.accepted]
    return sum(record.prompt_tokens * rates[0] + record.generated_tokens * rates[1] for record in accepted)


def charged(harness: Harness) -> int:
    return sum(event["_cost"] for event in harness.events())


async def leave_after(harness: Harness, request: bytes, *, seen: bytes) -> None:
    async with connected(harness.port) as client:
        await client.send(request)
        await client.read_until(seen)
        client.reset()


async def leave_in(harness: Harness, request: bytes, *, seconds: float) -> None:
    async with connected(harness.port) as client:
        await client.send(request)
        await asyncio.sleep(seconds)
        client.reset()


@pytest.mark.parametrize("seen", [b'"content":" ', b'"finish_reason":"stop"'])
async def test_hidden_reasoning_is_paid_by_a_client_that_closes_after_the_visible_text(tmp_path: Path, seen: bytes) -> None:
    async with running_gateway(tmp_path, config=ROOMY) as harness:
        await leave_after(harness, gpt_5("tokens=4 tps=1000000 reasoning=20000 split=120 gap=20", stream=True), seen=seen)
        await come_to_rest(harness)

        (event,) = harness.events()
        assert event["usage_source"] == "upstream"
        assert event["completion_tokens"] == 20_004
        assert event["_cost"] == bill(harness) == pytest.approx(200_100_000, abs=100_000)
        assert harness.metrics.counted[READ_ON] == [DrainEnd.COMPLETE]


async def test_omitted_thinking_is_paid_by_a_client_that_closes_before_the_last_usage(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=ROOMY) as harness:
        await leave_after(harness, opus("tokens=5 reasoning=19995 tps=1000000"), seen=b'"type":"text_delta"')
        await come_to_rest(harness)

        (event,) = harness.events()
        assert event["usage_source"] == "upstream"
        assert event["_cost"] == bill(harness, OPUS_RATES) == pytest.approx(500_000_000, abs=200_000)


async def test_answers_that_are_not_streamed_are_paid_though_nobody_waits_for_them(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=ROOMY) as harness:
        await leave_after(harness, gpt_5("tokens=1", stream=False), seen=b"}}")  # which loads the vocabulary
        request = gpt_5("tokens=10 reasoning=19990 delay=700", stream=False)
        await asyncio.gather(*(leave_in(harness, request, seconds=0.05) for _ in range(6)))
        async with asyncio.timeout(5):
            while harness.metrics.levels[READING_ON] < 6:
                await asyncio.sleep(0.002)
        assert (await harness.window()).held_nano_usd > 6 * 200_000_000
        await come_to_rest(harness, seconds=15.0)

        assert len(harness.ledger.records) == 7
        assert charged(harness) == bill(harness) == pytest.approx(1_200_000_000, rel=0.002)


async def test_money_for_fifty_admits_fifty_however_often_they_leave(tmp_path: Path) -> None:
    """Four rounds of callers who leave after 0.6 s, and what they left goes on."""
    request = gpt_5("tokens=1000 tps=200", stream=False, max_completion_tokens=1000)
    async with running_gateway(tmp_path, config=ROOMY, acme_usd="0.506") as harness:  # 50 answers of 1,000 tokens and their prompts
        await leave_after(harness, gpt_5("tokens=0", stream=False), seen=b"}}")  # which loads the vocabulary
        for _ in range(4):
            await asyncio.gather(*(leave_in(harness, request, seconds=0.6) for _ in range(50)))
        assert len(harness.ledger.records) == 1 + 50
        await come_to_rest(harness, seconds=15.0)

        assert charged(harness) == bill(harness) <= 506_000_000
        assert (await harness.window()).held_nano_usd == 0


async def test_a_stop_button_saves_what_is_not_generated_yet(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=upstreams(grace="300ms")) as harness:
        request = chat(asking("tokens=2000 tps=200", max_tokens=2_000), headers=KEY, stream=True)
        await leave_after(harness, request, seen=b'"content":" ')
        await come_to_rest(harness)

        (record,), (event,) = harness.ledger.records, harness.events()
        assert record.cancelled_at_ms
        assert 0 < event["completion_tokens"] <= record.generated_tokens < 500
        assert harness.metrics.counted[READ_ON] == [DrainEnd.TIME]


@pytest.mark.parametrize("directive", ["tokens=30 delay=200", "tokens=30 tps=100"])
@pytest.mark.parametrize(
    ("path", "members"),
    [
        (b"/v1/chat/completions", {"model": "gpt-5", "max_completion_tokens": 100}),
        (b"/v1/responses", {"model": "gpt-5", "max_output_tokens": 100}),
        (b"/v1/messages", {"model": "claude-opus-4-6", "max_tokens": 100}),
        (b"/v1beta/models/gemini-2.5-pro:generateContent", {"generationConfig": {"maxOutputTokens": 100}}),
        (b"/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", {"generationConfig": {"maxOutputTokens": 100}}),
        (b"/v1/embeddings", {"model": "text-embedding-3-small", "input": "[[sim delay=200]] words"}),
    ],
)
async def test_in_every_dialect_a_client_that_leaves_before_the_answer_pays_all_of_it(
    tmp_path: Path, path: bytes, members: dict[str, Any], directive: str
) -> None:
    async with running_gateway(tmp_path, config=ROOMY) as harness:
        await leave_in(harness, dialect_request(path, members, f"{directive} reasoning=20"), seconds=0.05)
        await come_to_rest(harness)

        (event,), (record,) = harness.events(), harness.ledger.records
        assert record.completed
        assert event["usage_source"] == "upstream"
        assert (event["prompt_tokens"], event["completion_tokens"]) == (record.prompt_tokens, record.generated_tokens)
        assert event["cost_nano_usd"] > 0


def dialect_request(path: bytes, members: dict[str, Any], directive: str) -> bytes:
    text = f"[[sim {directive}]] Hello"
    if b"generateContent" in path or b"GenerateContent" in path:
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    elif path == b"/v1/responses":
        body = {"input": text}
    elif path == b"/v1/embeddings":
        body = {}
    else:
        body = {"messages": [{"role": "user", "content": text}]}
    return chat(body | members, headers=KEY).replace(b"/v1/chat/completions", path, 1)


@pytest.mark.parametrize(
    ("path", "members"),
    [
        (b"/v1/chat/completions", {"model": "gpt-5", "max_completion_tokens": 100, "stream": True}),
        (b"/v1/responses", {"model": "gpt-5", "max_output_tokens": 100, "stream": True}),
        (b"/v1/messages", {"model": "claude-opus-4-6", "max_tokens": 100, "stream": True}),
        (b"/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", {"generationConfig": {"maxOutputTokens": 100}}),
        (b"/v1beta/models/gemini-2.5-pro:streamGenerateContent", {"generationConfig": {"maxOutputTokens": 100}}),
    ],
)
async def test_at_every_event_of_a_stream_all_of_it_is_paid(tmp_path: Path, path: bytes, members: dict[str, Any]) -> None:
    """By reset and by half-close alike, hidden reasoning included."""
    request = dialect_request(path, members, "tokens=4 reasoning=60 tps=2000")
    async with running_gateway(tmp_path, config=ROOMY) as harness:
        async with connected(harness.port) as client:
            await client.send(request)
            await client.read_until(b"\r\n\r\n")
            body = await client.read_until(b"0\r\n\r\n")
        chunks = body.count(b"\r\n") // 2 - 1

        async def leave(chunk: int, *, by_reset: bool) -> None:
            async with connected(harness.port) as client:
                await client.send(request)
                await client.read_until(b"\r\n\r\n")
                for _ in range(2 * chunk):
                    await client.read_until(b"\r\n")
                if by_reset:
                    client.reset()
                else:
                    client.writer.write_eof()
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(leave(chunk, by_reset=by_reset) for chunk in range(chunks) for by_reset in (True, False)))
        await come_to_rest(harness)

        assert chunks > 4
        assert len(harness.events()) == len(harness.ledger.records) == 1 + 2 * chunks
        served = {record.request_id: record for record in harness.ledger.records}
        for event in harness.events():
            record = served[event["event_id"]]
            assert (event["usage_source"], event["completion_tokens"]) == ("upstream", record.generated_tokens), event
            assert (event["prompt_tokens"], record.generated_tokens) == (record.prompt_tokens, 64)


async def test_a_client_of_http_1_0_and_one_that_pipelines_pay_like_any_other(tmp_path: Path) -> None:
    request = gpt_5("tokens=10 reasoning=500 delay=200", stream=False)
    async with running_gateway(tmp_path) as harness:
        await leave_in(harness, request.replace(b"HTTP/1.1", b"HTTP/1.0", 1), seconds=0.05)
        await leave_in(harness, request + request, seconds=0.05)
        await come_to_rest(harness)

        assert len(harness.events()) == len([record for record in harness.ledger.records if record.accepted]) >= 2
        assert charged(harness) == bill(harness) > 0


async def test_an_organization_has_its_share_of_what_is_read_on(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=upstreams(drain_max=3, drain_org_max=2)) as harness:
        request = gpt_5("tokens=10 delay=500", stream=False)
        for _ in range(3):
            await leave_in(harness, request, seconds=0.05)
        other = request.replace(KEY, KEY.replace(b"acme-prod_acmesecret", b"big-prod_bigsecret"), 1)
        for _ in range(2):
            await leave_in(harness, other, seconds=0.05)
        await until_accepted(harness, 5)
        assert harness.metrics.levels[READING_ON] == 3
        await come_to_rest(harness)

        ends = sorted(harness.metrics.counted[READ_ON])
        assert ends == [DrainEnd.COMPLETE] * 3 + [DrainEnd.COUNT, DrainEnd.ORG_COUNT]


@pytest.mark.parametrize(("bound", "end"), [("drain_bytes", DrainEnd.BYTES), ("drain_org_bytes", DrainEnd.ORG_BYTES)])
async def test_bytes_that_are_read_on_are_bounded(tmp_path: Path, bound: str, end: DrainEnd) -> None:
    async with running_gateway(tmp_path, config=upstreams(**{bound: 3_000, "on_disconnect": "drain"})) as harness:
        request = chat(asking("tokens=20000 tps=2000", max_tokens=20_000), headers=KEY, stream=True)
        await leave_after(harness, request, seen=b'"content":" ')
        await come_to_rest(harness)

        assert harness.metrics.counted[READ_ON] == [end]
        (record,) = harness.ledger.records
        assert record.cancelled_at_ms
        await leave_after(harness, chat(asking("tokens=3 tps=30"), headers=KEY, stream=True), seen=b'"content":" ')
        await come_to_rest(harness)
        assert harness.metrics.counted[READ_ON][-1] is DrainEnd.COMPLETE  # what was read is given back


async def test_the_memory_of_an_answer_is_freed_when_its_client_leaves(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(gpt_5("tokens=10 fault=huge size=500000 split=50000 gap=30", stream=False))
            await until_accepted(harness)
            (answer,) = harness.gateway.pipeline.answers
            relay = answer.relay
            async with asyncio.timeout(10):
                while not relay.body.rest():
                    await asyncio.sleep(0.005)
            client.reset()
            async with asyncio.timeout(10):
                while not relay.is_client_gone:
                    await asyncio.sleep(0.005)
            before = relay.reader.bytes_in
            assert not relay.body.rest()
        await come_to_rest(harness)

        assert relay.reader.bytes_in > before
        assert not relay.body.rest()
        assert harness.events()[0]["usage_source"] == "upstream"


# Where the exact usage cannot be had: never below what the provider generated, never above the hold.


def assert_assumed(harness: Harness, *, held: int, rates: tuple[int, int] = GPT_5_RATES) -> dict[str, Any]:
    (event,) = harness.events()
    assert (event["usage_source"], "assumed" in event["flags"]) == ("assumed", True)
    assert bill(harness, rates) <= event["_cost"] <= held
    assert event["_cost"] == event["prompt_tokens"] * rates[0] + event["completion_tokens"] * rates[1]
    return event


def held_by(harness: Harness) -> int:
    (answer,) = harness.gateway.pipeline.answers
    return answer.held.decision.held_nano_usd


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "keys",
    [{"on_disconnect": "cancel"}, {"grace": "100ms", "drain_timeout": "100ms"}, {"drain_max": 1}],
    ids=["cancel", "time", "count"],
)
async def test_a_client_that_leaves_pays_for_what_nobody_saw(tmp_path: Path, keys: dict[str, Any], stream: bool) -> None:
    async with running_gateway(tmp_path, config=upstreams(**keys)) as harness:
        if "drain_max" in keys:
            await leave_in(harness, gpt_5("tokens=10 delay=3000", stream=False), seconds=0.05)
            await until_accepted(harness)
        async with connected(harness.port) as client:
            await client.send(gpt_5("tokens=10 reasoning=20000 tps=2000", stream=stream))
            await until_accepted(harness, 1 + ("drain_max" in keys))
            await asyncio.sleep(0.5)
            client.reset()
        await come_to_rest(harness)

        event, record = harness.events()[-1], harness.ledger.records[-1]
        assert record.cancelled_at_ms
        assert (event["usage_source"], "assumed" in event["flags"]) == ("assumed", True)
        assert 500 < record.generated_tokens <= event["completion_tokens"] <= 30_000
        finishes = not stream and "on_disconnect" not in keys
        assert (event["completion_tokens"] == 30_000) == finishes  # the provider goes on, unless the operator says that it stops


async def test_a_stream_of_a_model_that_cannot_reason_is_paid_as_it_was_seen(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=upstreams(on_disconnect="cancel")) as harness:
        request = chat(asking("tokens=2000 tps=200", max_tokens=2_000), headers=KEY, stream=True)
        await leave_after(harness, request, seen=b'"content":" ')
        await come_to_rest(harness)

        (event,), (record,) = harness.events(), harness.ledger.records
        assert event["usage_source"] == "counted"
        assert event["completion_tokens"] <= record.generated_tokens


async def test_a_client_that_takes_nothing_and_then_leaves_pays_for_what_waited_for_it(tmp_path: Path) -> None:
    """Also of a model that cannot reason: its text was sent, and nobody read it."""
    async with running_gateway(tmp_path, config=upstreams(on_disconnect="cancel")) as harness:
        async with connected(harness.port) as client:
            await client.send(chat(asking("tokens=2000 tps=1000", max_tokens=2_000), headers=KEY, stream=True))
            await client.read_until(b'"content":" ')
            (answer,) = harness.gateway.pipeline.answers
            answer.relay.client_paused()
            (record,) = harness.ledger.records
            async with asyncio.timeout(10):
                while record.generated_tokens < 500:
                    await asyncio.sleep(0.005)
            client.reset()
        await come_to_rest(harness)

        (event,) = harness.events()
        assert event["usage_source"] == "assumed"
        assert record.generated_tokens <= event["completion_tokens"] <= 2_000


@pytest.mark.parametrize("fault", ["fault=cut at=3", "fault=error at=3", "fault=cut at=3 how=end", "fault=bad_chunk at=3"])
async def test_an_upstream_that_fails_in_mid_stream_is_paid_for_its_hidden_reasoning(tmp_path: Path, fault: str) -> None:
    async with running_gateway(tmp_path, config=ROOMY) as harness, connected(harness.port) as client:
        await client.send(gpt_5(f"tokens=10 reasoning=500 tps=2000 {fault}", stream=True))
        await until_accepted(harness)
        held = held_by(harness)
        await client.read()
        await come_to_rest(harness)
        assert_assumed(harness, held=held)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_gateway_that_is_stopped_leaves_no_reasoning_unpaid(tmp_path: Path, stream: bool) -> None:
    async with running_gateway(tmp_path, config=ROOMY) as harness, connected(harness.port) as client:
        await client.send(gpt_5("tokens=10 reasoning=20000 tps=2000", stream=stream))
        await until_accepted(harness)
        held = held_by(harness)
        await asyncio.sleep(0.3)
        if stream:
            client.reset()
            await asyncio.sleep(0.1)
        await harness.gateway.drain(0)
        await harness.gateway.close()
        assert_assumed(harness, held=held)
        assert (await harness.window()).held_nano_usd == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "members"),
    [
        (b"/v1/chat/completions", {"model": "gpt-5", "max_completion_tokens": 100}),
        (b"/v1/responses", {"model": "gpt-5", "max_output_tokens": 100}),
        (b"/v1/messages", {"model": "claude-opus-4-6", "max_tokens": 100}),
        (b"/v1beta/models/gemini-2.5-pro:%bGenerateContent", {"generationConfig": {"maxOutputTokens": 100}}),
    ],
)
async def test_a_whole_answer_without_usage_is_paid_with_its_hidden_reasoning(
    tmp_path: Path, path: bytes, members: dict[str, Any], stream: bool
) -> None:
    if b"%b" in path:
        path = b"/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse" if stream else path.replace(b"%bG", b"g")
    elif stream:
        members = members | {"stream": True}
    async with running_gateway(tmp_path, config=ROOMY) as harness:
        request = dialect_request(path, members, "tokens=5 reasoning=60 tps=1000 usage=missing")
        async with connected(harness.port) as client:
            await client.send(request)
            await client.read_until(b"0\r\n\r\n" if stream else b"}")
        await come_to_rest(harness)

        (event,), (record,) = harness.events(), harness.ledger.records
        assert record.completed
        assert (event["usage_source"], "assumed" in event["flags"]) == ("assumed", True)
        assert record.generated_tokens == 65 <= event["completion_tokens"] <= 100


async def test_an_upstream_that_shows_all_it_generates_is_paid_as_counted(tmp_path: Path) -> None:
    config = upstreams(ask_usage=False, hides_reasoning=False)
    async with running_gateway(tmp_path, config=config) as harness, connected(harness.port) as client:
        await client.send(gpt_5("tokens=7", stream=True))
        await client.read_until(b"0\r\n\r\n")
        (event,) = harness.events()
        assert (event["usage_source"], event["flags"]) == ("counted", [])
        assert 7 <= event["completion_tokens"] < 20  # and what stands around an answer


async def test_an_answer_that_uses_nothing_is_free(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, connected(harness.port) as client:
        await client.send(chat(asking("tokens=0"), headers=KEY))
        await client.read_until(b"}}")
        (event,) = harness.events()
        assert (event["usage_source"], event["completion_tokens"]) == ("upstream", 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_usage_of_zeros_is_none_where_there_was_a_prompt(tmp_path: Path, stream: bool) -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    said = {"index": 0, "delta" if stream else "message": {"content": "One two three four"}, "finish_reason": "stop"}
    answer = msgspec.json.encode({"model": "gpt-4o-mini", "choices": [said], "usage": zeros})
    kind, answer = (b"text/event-stream", b"data: %b\n\ndata: [DONE]\n\n" % answer) if stream else (b"application/json", answer)
    async with (
        scripted(saying(whole(answer, content_type=kind))) as upstream,
        running_gateway(tmp_path, upstream_url=upstream.url) as harness,
    ):
        async with connected(harness.port) as client:
            await client.send(chat(asking("tokens=4"), headers=KEY, stream=stream))
            await client.read_until(b"four")
            await harness.at_rest()
        (event,) = harness.events()
        assert (event["usage_source"], "assumed" in event["flags"]) == ("assumed", True)
        assert event["prompt_tokens"] > 0
        assert event["completion_tokens"] >= 4


def streamed(*pieces: dict[str, Any]) -> bytes:
    """A stream that does not end."""
    events = [b"data: %b\n\n" % msgspec.json.encode(piece) for piece in pieces]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def chat_pieces() -> list[dict[str, Any]]:
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
    said = {"index": 0, "delta": {"content": "word"}, "finish_reason": None}
    stop = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return [{"model": "gpt-5", "choices": [said], "usage": usage}, {"model": "gpt-5", "choices": [stop], "usage": None}]


def gemini_pieces() -> list[dict[str, Any]]:
    usage = {"promptTokenCount": 20, "candidatesTokenCount": 1, "totalTokenCount": 21}
    said = {"index": 0, "content": {"parts": [{"text": "word"}]}}
    return [{"candidates": [said], "usageMetadata": usage}, {"candidates": [{"index": 0, "finishReason": "stop"}]}]


@pytest.mark.parametrize("is_gemini", [False, True])
async def test_a_count_told_before_the_end_is_not_the_last_word_of_a_stream_that_was_cut(tmp_path: Path, is_gemini: bool) -> None:
    """Some services tell in every piece what was used so far; of hidden reasoning only the last may know."""
    path = b"/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    gemini = dialect_request(path, {"generationConfig": {"maxOutputTokens": 30_000}}, "tokens=1")
    request = gemini if is_gemini else gpt_5("tokens=1", stream=True)
    pieces = streamed(*(gemini_pieces() if is_gemini else chat_pieces()))
    async with (
        scripted(saying(pieces)) as upstream,
        running_gateway(tmp_path, config=upstreams(on_disconnect="cancel"), upstream_url=upstream.url) as harness,
    ):
        await leave_after(harness, request, seen=b"word")
        await harness.at_rest()
        (event,) = harness.events()
        assert (event["usage_source"], "assumed" in event["flags"]) == ("assumed", True)
        assert event["completion_tokens"] > 500


CHAT_PATH, GEMINI_PATH = b"/v1/chat/completions", b"/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
LONG: dict[bytes, dict[str, Any]] = {
    CHAT_PATH: {"model": "gpt-5", "max_completion_tokens": 30_000, "stream": True},
    b"/v1/responses": {"model": "gpt-5", "max_output_tokens": 30_000, "stream": True},
    b"/v1/messages": OPUS | {"stream": True},
    GEMINI_PATH: {"generationConfig": {"maxOutputTokens": 30_000}},
}
SAID: dict[str, Any] = {"index": 0, "delta": {"content": "One two three four five six"}, "finish_reason": None}
STOP = {"index": 0, "delta": {}, "finish_reason": "stop"}
TOLD = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
LATE_MESSAGE = [
    {"type": "message_start", "message": {"model": "claude-opus-4-6", "usage": {"input_tokens": 20, "output_tokens": 1}}},
    {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "One two three four five six"}},
    {"type": "message_stop"},
]
LATE_RESPONSE = [
    {"type": "response.in_progress", "response": {"model": "gpt-5", "usage": {"input_tokens": 20, "output_tokens": 1}}},
    {"type": "response.output_text.delta", "output_index": 0, "delta": "One two three four five six"},
    {"type": "response.completed", "response": {"model": "gpt-5", "status": "completed", "usage": None}},
]


@pytest.mark.parametrize(
    ("path", "pieces"),
    [
        (CHAT_PATH, [{"choices": [], "usage": TOLD}, {"choices": [SAID]}, {"choices": [STOP]}]),
        (CHAT_PATH, [{"choices": [SAID], "usage": TOLD}, {"choices": [STOP], "usage": None}]),
        (CHAT_PATH, [{"choices": [STOP]}, {"choices": [], "usage": TOLD}, {"choices": [SAID]}]),
        (CHAT_PATH, [{"choices": [SAID]}, {"choices": [STOP]}, {"choices": [], "usage": {"prompt_tokens": 20}}]),
        (CHAT_PATH, [{"choices": [SAID]}, {"choices": [STOP]}, {"choices": [], "usage": {"completion_tokens": 9}}]),
        (CHAT_PATH, [{"choices": [], "usage": ZEROS}, {"choices": [SAID]}, {"choices": [STOP]}]),
        (b"/v1/responses", LATE_RESPONSE),
        (b"/v1/messages", LATE_MESSAGE),
        (GEMINI_PATH, gemini_pieces()),
    ],
)
@pytest.mark.parametrize("ends", [b"data: [DONE]\n\n", b""])
async def test_a_usage_that_cannot_know_of_all_that_was_generated_is_no_last_word(
    tmp_path: Path, path: bytes, pieces: list[dict[str, Any]], ends: bytes
) -> None:
    events = b"".join(b"data: %b\n\n" % msgspec.json.encode(piece) for piece in pieces) + ends
    async with (
        scripted(saying(whole(events, content_type=b"text/event-stream"))) as upstream,
        running_gateway(tmp_path, upstream_url=upstream.url) as harness,
    ):
        async with connected(harness.port) as client:
            await client.send(dialect_request(path, LONG[path], "tokens=1"))
            await client.read_until(b"word" if path == GEMINI_PATH else b"four")
            await harness.at_rest()
        (event,) = harness.events()
        assert (event["usage_source"], "assumed" in event["flags"]) == ("assumed", True)
        assert event["prompt_tokens"] > 0
        assert event["completion_tokens"] > 500, "it may have reasoned unseen"


@pytest.mark.parametrize("has_tool", [False, True])
async def test_a_cut_stream_is_charged_for_what_tools_may_have_put_into_its_prompt(tmp_path: Path, has_tool: bool) -> None:
    """Also of a model that hides no output: what a search found is input, and only a usage at the end says how much."""
    events = b"data: %b\n\n" % msgspec.json.encode(LATE_RESPONSE[1])
    request = LONG[b"/v1/responses"] | {"model": "gpt-4o-mini", "max_output_tokens": 500}
    async with (
        scripted(saying(whole(events, content_type=b"text/event-stream"))) as upstream,
        running_gateway(tmp_path, upstream_url=upstream.url) as harness,
    ):
        async with connected(harness.port) as client:
            tools = [{"type": "web_search"}] if has_tool else []
            await client.send(dialect_request(b"/v1/responses", request | {"tools": tools, "max_tool_calls": 1}, "tokens=1"))
            await client.read_until(b"four")
            await harness.at_rest()
        (event,) = harness.events()
    assert (event["prompt_tokens"] >= 128_000, "assumed" in event["flags"]) == (has_tool, has_tool)
    assert 6 <= event["completion_tokens"] < 30
    assert "overrun" not in event["flags"]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (CHAT_PATH, {"choices": [{"message": SAID["delta"], "finish_reason": "stop"}], "usage": {"prompt_tokens": 20}}),
        (
            CHAT_PATH,
            {
                "choices": [{"message": SAID["delta"], "finish_reason": "stop"}],
                "usage": TOLD | {"completion_tokens": "none", "total_tokens": None},
            },
        ),
        (b"/v1/messages", {"content": [{"type": "text", "text": "One two"}], "usage": {"input_tokens": 20}}),
        (b"/v1/responses", {"status": "in_progress", "usage": {"input_tokens": 20, "output_tokens": 1}}),
    ],
)
async def test_a_whole_answer_whose_usage_leaves_out_the_output_is_paid_with_what_nobody_saw(
    tmp_path: Path, path: bytes, answer: dict[str, Any]
) -> None:
    async with (
        scripted(saying(whole(msgspec.json.encode(answer)))) as upstream,
        running_gateway(tmp_path, upstream_url=upstream.url) as harness,
    ):
        async with connected(harness.port) as client:
            await client.send(dialect_request(path, LONG[path] | {"stream": False}, "tokens=1"))
            await client.read_until(b"20")
            await harness.at_rest()
        (event,) = harness.events()
        assert (event["usage_source"], "assumed" in event["flags"]) == ("assumed", True)
        assert event["completion_tokens"] > 500


def messages(usage: dict[str, Any]) -> list[dict[str, Any]]:
    """A stream of Anthropic's, whose last usage is given."""
    return [
        LATE_MESSAGE[0],
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": SAID["delta"]["content"]}},
        {"type": "message_delta", "delta": {}, "usage": usage},
        {"type": "message_stop"},
    ]


def responses(usage: dict[str, Any]) -> list[dict[str, Any]]:
    return [LATE_RESPONSE[1], {"type": "response.completed", "response": {"model": "gpt-5", "status": "completed", "usage": usage}}]


def gemini(usage: dict[str, Any]) -> dict[str, Any]:
    parts = [{"text": SAID["delta"]["content"]}]
    return {"candidates": [{"index": 0, "content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": usage}


CHAT_ANSWER = {"choices": [{"message": SAID["delta"], "finish_reason": "stop"}]}
MESSAGE_ANSWER = {"content": [{"type": "text", "text": SAID["delta"]["content"]}]}
RESPONSE_ITEM = {"type": "message", "content": [{"type": "output_text", "text": SAID["delta"]["content"]}]}


@pytest.mark.parametrize("sides", [(0, 0), (-1, -1), (20, 0), (20, -5), (0, 9)])
async def test_a_usage_that_cannot_be_is_replaced_by_our_count_and_nothing_is_added(tmp_path: Path, sides: tuple[int, int]) -> None:
    """Of models that may reason unseen, in streams and whole, at every API: the provider did not count."""
    tokens_in, tokens_out = sides
    chat_usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
    of_gemini = gemini(
        {"promptTokenCount": tokens_in, "candidatesTokenCount": tokens_out, "totalTokenCount": tokens_in + tokens_out}
    )
    chunks = [{"choices": [SAID]}, {"choices": [STOP]}, {"choices": [], "usage": chat_usage}]
    answers: list[tuple[bytes, dict[str, Any] | list[dict[str, Any]]]] = [
        (CHAT_PATH, CHAT_ANSWER | {"usage": chat_usage}),
        (CHAT_PATH, chunks),
        (b"/v1/messages", MESSAGE_ANSWER | {"usage": usage}),
        (b"/v1/responses", {"status": "completed", "output": [RESPONSE_ITEM], "usage": usage}),
        (b"/v1/responses", responses(usage)),
        (GEMINI_PATH, [of_gemini]),
    ]
    if sides[1] <= 0:
        answers.append((b"/v1/messages", messages({"output_tokens": tokens_out})))  # its input was stated at the start
    for number, (path, answer) in enumerate(answers):
        is_stream = isinstance(answer, list)
        pieces = answer if is_stream else [answer]
        body = b"".join((b"data: %b\n\n" if is_stream else b"%b") % msgspec.json.encode(piece) for piece in pieces)
        label = b"text/event-stream" if is_stream else b"application/json"
        (tmp_path / str(number)).mkdir()
        async with (
            scripted(saying(whole(body, content_type=label))) as upstream,
            running_gateway(tmp_path / str(number), upstream_url=upstream.url) as harness,
        ):
            async with connected(harness.port) as client:
                request = LONG[path] if path == GEMINI_PATH else LONG[path] | {"stream": is_stream}
                await client.send(dialect_request(path, request, "tokens=1"))
                await client.read_until(b"four")
                await harness.at_rest()
            (event,) = harness.events()
        assert "usage_impossible" in event["flags"], (path, is_stream)
        assert event["prompt_tokens"] > 0, (path, is_stream)
        assert 6 <= event["completion_tokens"] < 30, (path, is_stream)


async def test_a_checkpoint_covers_what_can_be_generated_until_the_hold_expires(tmp_path: Path) -> None:
    """Whatever a worker was in the middle of when it died: never below what its upstream had generated, never above the hold."""
    async with (
        running_gateway(tmp_path, config=ROOMY, limits=replace(LIMITS, lease_ms=1_000)) as harness,
        connected(harness.port) as stream,
        connected(harness.port) as whole,
        connected(harness.port) as text,
    ):
        await stream.send(gpt_5("tokens=500 reasoning=2000 tps=1000", stream=True))
        await whole.send(gpt_5("tokens=10 reasoning=20000 tps=2000", stream=False))
        await text.send(chat(asking("tokens=2000 tps=200", max_tokens=20_000), headers=KEY, stream=True))
        await until_accepted(harness, 3)
        await text.read_until(b'"content":" ')
        await checkpoint_all(harness.gateway.pipeline.services, harness.gateway.pipeline.answers)
        held = {answer.client.id: answer.held.decision.held_nano_usd for answer in harness.gateway.pipeline.answers}
        holds = {name: hold for name, hold in harness.limiter.orgs["acme"].holds.items() if isinstance(hold, Hold)}
        assert len(holds) == 3
        records = {record.request_id: record for record in harness.ledger.records}
        for name, hold in holds.items():
            event = msgspec.json.decode(hold.event)
            assert (event["usage_source"], event["outcome"], "assumed" in event["flags"]) == ("checkpoint", "expired", True)
            assert cost_by_kind(read_event(hold.event)).keys() == {"input", "output"}
            assert hold.cost <= held[name]
            assert hold.completion >= records[name].generated_tokens + (1_000 if records[name].stream else 0)
        for client in (stream, whole, text):
            client.reset()


def test_the_metric_names_every_end() -> None:
    assert set(READ_ON.values) == set(DrainEnd)
