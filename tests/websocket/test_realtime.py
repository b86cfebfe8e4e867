"""The Realtime API: each response is held before it can begin, also one that the server begins, and settled by its usage."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import ACME_KEY, BIG_KEY, Harness, running_gateway
from msgspec.structs import replace
from openai import AsyncOpenAI
from talking import Talk, kinds, talking

from tallygate.dialects import openai_realtime
from tallygate.dialects.openai_realtime import ADDED_TOKENS, AHEAD_MS, OpenAiRealtime
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage
from tallygate.simulator.realtime import SILENCE

PATH = "/v1/realtime?model=gpt-realtime"
SECOND = bytes([7]) * 48_000
Event = dict[str, Any]


def append(*, seconds: float = 1.0, ends: bool = False) -> Event:
    sound = SECOND * int(seconds) or SECOND[: int(48_000 * seconds)]
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound + (SILENCE if ends else b"")).decode()}


def item(text: str) -> Event:
    content = [{"type": "input_text", "text": text}]
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}


def update(**session: Any) -> Event:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


async def until(talk: Talk, kind: str) -> list[Event]:
    found = []
    while (event := await talk.hear()) is not None:
        found.append(event)
        if event["type"] in (kind, "error"):
            break
    return found


async def settled(harness: Harness) -> list[Event]:
    await harness.at_rest()
    await harness.gateway.services.withdrawals.attempt()
    return harness.events()


async def test_the_sdk_asks_and_is_answered(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        client = AsyncOpenAI(api_key=ACME_KEY, base_url=f"{harness.url}/v1", max_retries=0)
        async with client.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            for text in ("[[sim tokens=5]] Hello", "[[sim tokens=7]] And then?"):
                await connection.conversation.item.create(
                    item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
                )
                await connection.response.create()
                async for event in connection:
                    assert event.type != "error", event
                    if event.type == "response.done":
                        break
        await client.close()
        events, served = await settled(harness), list(harness.ledger.records)
        assert [event["completion_tokens"] for event in events] == [5, 7] == [each.generated_tokens for each in served]
        assert [event["prompt_tokens"] for event in events] == [each.prompt_tokens for each in served]
        assert {event["usage_source"] for event in events} == {"upstream"}
        assert not any(event["flags"] for event in events)


async def test_what_is_spoken_is_held_before_it_is_heard_and_charged_as_audio(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        await talk.say(append())
        assert kinds(await until(talk, "input_audio_buffer.speech_started"))[-1] == "input_audio_buffer.speech_started"
        held = (await harness.window()).held_nano_usd
        assert held >= 32_000 * (AHEAD_MS // 100)
        await talk.say(append(ends=True))
        events = await until(talk, "response.done")
        usage = events[-1]["response"]["usage"]
        assert usage["input_token_details"]["audio_tokens"] == 20
        await talk.socket.close()
        (event,) = await settled(harness)
        text, heard, said = usage["input_tokens"] - 20, 20, usage["output_tokens"]
        assert event["_cost"] == text * 4_000 + heard * 32_000 + said * 64_000 <= held
        assert (await harness.window()).held_nano_usd == 0


async def test_a_hold_that_was_not_needed_is_returned_and_nothing_is_entered(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        async with talking(harness, key=ACME_KEY, path=PATH) as talk:
            await talk.say(append())
            await until(talk, "input_audio_buffer.speech_started")
            assert (await harness.window()).held_nano_usd > 0
        assert await settled(harness) == []
        assert (await harness.window()).held_nano_usd == 0


async def test_what_two_people_say_at_once_is_charged_twice(tmp_path: Path) -> None:
    """All of it is sent before the first answer begins, when one turn alone is held."""
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        for _ in range(3):
            await talk.say(append(ends=True))
        for _ in range(3):
            assert kinds(await until(talk, "response.done"))[-1] == "response.done"
        await talk.socket.close()
        events = await settled(harness)
        assert len(events) == len(harness.ledger.records) == 3
        assert [event["prompt_tokens"] for event in events] == [each.prompt_tokens for each in harness.ledger.records]


async def test_longer_speech_is_held_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_realtime, "AHEAD_MS", 1_500)
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        await talk.say(append())
        await until(talk, "input_audio_buffer.speech_started")
        first = (await harness.window()).held_nano_usd
        for _ in range(4):
            await talk.say(append())
        await talk.say(append(ends=True))
        await until(talk, "response.created")
        (turn,) = [turn for session in harness.gateway.pipeline.sockets.open for turn in session.turns if not turn.is_spare]
        assert turn.answer.held.decision.held_nano_usd > first
        assert kinds(await until(talk, "response.done"))[-1] == "response.done"
        await talk.socket.close()
        (event,) = await settled(harness)
        assert "overrun" not in event["flags"]
        assert event["audio_prompt_tokens"] == 60
        assert (await harness.window()).held_nano_usd == 0


@pytest.mark.parametrize(
    ("adding", "told"),
    [
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "content": [{"type": "input_text", "text": "word " * 5_000}]},
            },
            "conversation.item.added",
        ),
        (update(max_output_tokens=4_096), "session.updated"),
    ],
    ids=["item", "maximum"],
)
async def test_what_is_added_after_speech_is_held_before_it_is_answered(tmp_path: Path, adding: Event, told: str) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        await talk.say(update(max_output_tokens=10))
        await until(talk, "session.updated")
        await talk.say(append())
        await until(talk, "input_audio_buffer.speech_started")
        first = (await harness.window()).held_nano_usd
        await talk.say(adding)
        assert kinds(await until(talk, told))[-1] == told
        assert (await harness.window()).held_nano_usd > first + 10_000_000
        await talk.say(append(ends=True))
        await until(talk, "response.created")
        (turn,) = [turn for session in harness.gateway.pipeline.sockets.open for turn in session.turns if not turn.is_spare]
        assert turn.answer.held.decision.held_nano_usd > first + 10_000_000
        assert kinds(await until(talk, "response.done"))[-1] == "response.done"
        await talk.socket.close()
        (event,) = await settled(harness)
        assert "overrun" not in event["flags"]
        assert (await harness.window()).held_nano_usd == 0


@pytest.mark.parametrize("detection", [{"type": "server_vad"}, None])
async def test_what_is_heard_is_transcribed_by_a_model_that_is_billed_beside(tmp_path: Path, detection: Any) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        heard = {"transcription": {"model": "gpt-4o-mini-transcribe"}, "turn_detection": detection}
        await talk.say(update(audio={"input": heard}))
        await until(talk, "session.updated")
        await talk.say(append(seconds=2, ends=True))
        if detection is None:
            await talk.say({"type": "input_audio_buffer.commit"})
        await until(talk, "conversation.item.input_audio_transcription.completed")
        if detection is not None:
            await until(talk, "response.done")
        await talk.socket.close()
        events = {event["request_model"]: event for event in await settled(harness)}
        written = events.pop("gpt-4o-mini-transcribe")
        assert (written["prompt_tokens"], written["audio_prompt_tokens"], written["completion_tokens"]) == (20, 20, 4)
        assert written["_cost"] == 20 * 1_250 + 4 * 5_000
        assert (written["outcome"], written["usage_source"]) == ("success", "upstream")
        assert list(events) == ([] if detection is None else ["gpt-realtime"])
        assert (await harness.window()).held_nano_usd == 0


async def test_a_model_without_a_price_transcribes_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        await talk.say(update(audio={"input": {"transcription": {"model": "gpt-realtime-whisper"}}}))
        await talk.say(append(ends=True))
        event = (await until(talk, "error"))[-1]
        assert event["error"]["code"] == "unknown_model"
        await talk.socket.close()
        assert await settled(harness) == []
        assert not harness.ledger.records


async def test_audio_does_not_pass_where_nothing_can_be_held(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, acme_usd="0.01") as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        await talk.say(append(ends=True))
        events = await until(talk, "response.created")
        assert events[-1]["error"]["code"] == "spend_limit_exceeded"
        assert await talk.hear() is None
        assert talk.close_code == 1008
        assert await settled(harness) == []
        assert not harness.ledger.records


async def test_a_response_is_clamped_in_its_own_event(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, acme_usd="0.15") as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        await talk.say(update(audio={"input": {"turn_detection": None}}))
        await talk.say(item("[[sim tokens=4000]] Talk"))
        await talk.say({"type": "response.create"})
        done = (await until(talk, "response.done"))[-1]
        assert done["response"]["status"] == "incomplete"
        await talk.socket.close()
        (event,) = await settled(harness)
        assert "output_clamped" in event["flags"]
        assert event["_cost"] <= 150_000_000


async def test_unasked_responses_of_a_model_without_a_maximum_need_one_in_the_session(tmp_path: Path) -> None:
    path = "/v1/realtime?model=gpt-realtime-mini"
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY, path=path) as talk:
        await talk.say(append())
        event = (await until(talk, "error"))[-1]
        assert event["error"]["param"] == "session.max_output_tokens"
        await talk.say(update(max_output_tokens=500))
        await until(talk, "session.updated")
        await talk.say(append(ends=True))
        assert kinds(await until(talk, "response.done"))[-1] == "response.done"


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("fault", ["cut how=fin", "cut how=rst", "client"])
async def test_a_socket_that_is_cut_at_any_event_is_charged_once(tmp_path: Path, at: int, fault: str) -> None:
    async with running_gateway(tmp_path) as harness:
        async with talking(harness, key=ACME_KEY, path=PATH) as talk:
            directive = "tokens=6 delay=30 tps=200" if fault == "client" else f"tokens=6 fault={fault} at={at}"
            await talk.say(item(f"[[sim {directive}]] Hello"))
            await talk.say({"type": "response.create"})
            if fault == "client":
                for _ in range(at + 2):
                    await talk.hear()
            else:
                await until(talk, "response.done")
                while await talk.hear() is not None:
                    pass
        events = await settled(harness)
        assert (await harness.window()).held_nano_usd == 0
        if not harness.ledger.records:
            assert events == [] or events[0]["_cost"] == 0 or fault == "client"
            return
        (event,), (served,) = events, harness.ledger.records
        assert event["completion_tokens"] >= served.delivered_tokens
        assert event["prompt_tokens"] >= served.prompt_tokens
        assert event["_cost"] >= served.prompt_tokens * 4_000 + served.delivered_tokens * 64_000
        assert (await harness.window()).spent_nano_usd == event["_cost"]


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "transcription_session.update", "session": {}}, "type"),
        ({"type": "response.mix"}, "type"),
        (update(model="gpt-realtime-2"), "session.model"),
        ({"type": "session.update", "session": {"type": "transcription"}}, "session.type"),
        (update(prompt={"id": "pmpt_1"}), "session.prompt"),
        (update(tools=[{"type": "mcp", "server_url": "https://x"}]), "session.tools"),
        (update(audio={"input": {"transcription": {}}}), "session.audio.input.transcription.model"),
        (update(input_audio_transcription={"model": None}), "session.audio.input.transcription.model"),
        (update(audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 6000}}}), None),
        ({"type": "response.create", "response": {"tools": [{"type": "mcp"}]}}, "response.tools"),
        ({"type": "response.create", "response": {"prompt": {"id": "pmpt_1"}}}, "response.prompt"),
        ({"type": "response.cancel", "Type": "response.create"}, "Type"),
    ],
    ids=str,
)
async def test_what_could_cost_unseen_is_refused(tmp_path: Path, event: Event, param: str | None) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, path=PATH) as talk:
        assert (await talk.hear() or {})["type"] == "session.created"
        await talk.say(event)
        answer = await talk.hear()
        assert answer is not None
        assert (answer["type"], answer["error"]["code"]) == ("error", "invalid_request")
        assert param is None or answer["error"]["param"] == param
        await talk.socket.close()
        assert await settled(harness) == []


async def test_an_error_of_the_server_ends_the_turn_that_it_names_and_no_other(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, talking(harness, path=PATH) as talk:
        await talk.say(item("[[sim fault=status:400]] Hello"))
        await talk.say({"type": "response.create", "event_id": "mine"})
        await until(talk, "error")
        (session,) = harness.gateway.pipeline.sockets.open
        (turn,) = session.turns  # its error does not name it, as a server's would
        about = session._talk.read_server(json.dumps({"type": "error", "error": {"type": "x", "event_id": "other"}}).encode())
        assert session._turn_of(about) is None
        about = session._talk.read_server(json.dumps({"type": "error", "error": {"type": "x", "event_id": "mine"}}).encode())
        assert session._turn_of(about) is turn
        assert about.error_status == 400


@pytest.mark.parametrize("query", ["", "?model=", "?model=gpt-realtime&intent=transcription", "?call_id=rtc_1", "?model=a&model=b"])
async def test_a_session_names_its_model_and_nothing_else(tmp_path: Path, query: str) -> None:
    async with running_gateway(tmp_path) as harness:
        with pytest.raises(Exception, match="400"):
            async with talking(harness, path=f"/v1/realtime{query}"):
                pass


async def test_a_page_gets_the_subprotocol_that_it_asked_for(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        offers = ("realtime", f"openai-insecure-api-key.{BIG_KEY}")
        async with talking(harness, key=None, path=PATH, protocols=offers) as talk:
            assert talk.socket.protocol == "realtime"
            assert (await talk.hear() or {})["type"] == "session.created"


@pytest.mark.parametrize(
    "naming",
    [
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "content": [{"type": "input_image", "file_id": "file_1"}]},
        },
        update(audio={"output": {"voice": {"id": "voice_of_another"}}}),
        {"type": "response.create", "response": {"input": [{"type": "message", "content": [{"file_id": "file_1"}]}]}},
    ],
    ids=["item", "voice", "response"],
)
async def test_what_others_have_stored_is_not_read_in_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naming: Event
) -> None:
    monkeypatch.setenv("OPERATORS_KEY", "sk-operator")
    upstreams = {"upstreams": {"default": {"auth": {"kind": "bearer", "secret_env": "OPERATORS_KEY"}}}}
    async with running_gateway(tmp_path, config={"upstreams": upstreams}) as harness:
        async with talking(harness, path=PATH) as talk:
            await talk.say(naming)
            await talk.say({"type": "response.create", "response": {"conversation": "none"}})
            event = (await until(talk, "response.created"))[-1]
            assert event["error"]["code"] == "object_not_found"
        assert len(await settled(harness)) == len(harness.ledger.records) <= 1  # of the second event, which names nothing


async def test_what_others_have_stored_is_not_read_by_an_answer_to_what_was_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may begin that answer by itself as soon as it has the item."""
    monkeypatch.setenv("OPERATORS_KEY", "sk-operator")
    upstreams = {"upstreams": {"default": {"auth": {"kind": "bearer", "secret_env": "OPERATORS_KEY"}}}}
    async with running_gateway(tmp_path, config={"upstreams": upstreams}) as harness, talking(harness, path=PATH) as talk:
        await talk.say(append())
        await until(talk, "input_audio_buffer.speech_started")
        part = {"type": "input_image", "file_id": "file_1"}
        await talk.say({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [part]}})
        event = (await until(talk, "conversation.item.added"))[-1]
        assert event["error"]["code"] == "object_not_found"


def facts_of(talk: Any, event: Event | None = None) -> Any:
    return talk.read_request(json.dumps(event or {}).encode(), path={}, query={})


def client(talk: Any, event: Event) -> Any:
    return talk.read_client(json.dumps(event).encode())


def server(talk: Any, event: Event) -> Any:
    return talk.read_server(json.dumps(event).encode())


def new_talk() -> Any:
    return OpenAiRealtime().talk({"model": "gpt-realtime"})


def created(**session: Any) -> Event:
    return {"type": "session.created", "session": session}


def test_the_server_is_believed_once_it_has_answered_every_update() -> None:
    talk = new_talk()
    assert client(talk, append()).ahead
    client(talk, update(audio={"input": {"turn_detection": None}}))
    assert client(talk, append()).ahead  # it has not been confirmed
    off = {"type": "session.updated", "session": {"audio": {"input": {"turn_detection": None}}}}
    server(talk, off)
    assert not client(talk, append()).ahead
    client(talk, update(audio={"input": {"turn_detection": {"type": "semantic_vad"}}}))
    assert client(talk, append()).ahead
    client(talk, update(instructions="Be brief."))
    server(talk, off)  # of an update before the last
    assert client(talk, append()).ahead


def test_a_response_that_creates_nothing_by_itself_needs_no_hold() -> None:
    talk = new_talk()
    client(talk, update(audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}}))
    server(
        talk,
        {
            "type": "session.updated",
            "session": {"audio": {"input": {"turn_detection": {"type": "server_vad", "create_response": False}}}},
        },
    )
    assert not client(talk, append()).ahead


def test_a_turn_that_is_held_ahead_reads_what_is_being_said() -> None:
    talk = new_talk()
    server(talk, created(max_output_tokens=100))
    (before,) = client(talk, append()).ahead
    silent = facts_of(talk, json.loads(before.body)).prompt.tokens
    client(talk, {"type": "response.create", "response": {"max_output_tokens": 700}})
    server(talk, {"type": "response.created", "response": {"id": "r1"}})
    (during,) = client(talk, append()).ahead
    assert during.additions > before.additions, "what was held before is held anew"
    assert facts_of(talk, json.loads(during.body)).prompt.tokens >= silent + 700
    usage = {"input_tokens": 30, "output_tokens": 20}
    server(talk, {"type": "response.done", "response": {"id": "r1", "status": "completed", "usage": usage}})
    (after,) = client(talk, append()).ahead
    assert after.additions == during.additions
    assert facts_of(talk, json.loads(after.body)).prompt.tokens < silent + 700


def test_a_turn_is_as_dear_as_its_conversation() -> None:
    talk = new_talk()
    client(talk, item("Hello"))
    facts = facts_of(talk, {"type": "response.create"})
    assert facts.prompt.tokens == ADDED_TOKENS
    assert any("Hello" in text for text in facts.prompt.texts)
    assert {Unit.INPUT_AUDIO, Unit.OUTPUT_AUDIO, Unit.INPUT_IMAGE} <= facts.units
    server(talk, {"type": "response.created", "response": {"id": "resp_1"}})
    usage = {"input_tokens": 300, "output_tokens": 50}
    server(talk, {"type": "response.done", "response": {"id": "resp_1", "conversation_id": "conv_1", "usage": usage}})
    assert facts_of(talk, {"type": "response.create"}).prompt.tokens == 350 + ADDED_TOKENS
    apart = {"id": "resp_2", "conversation_id": None, "usage": {"input_tokens": 10, "output_tokens": 5}}
    server(talk, {"type": "response.done", "response": apart})
    assert facts_of(talk, {"type": "response.create"}).prompt.tokens == 350 + ADDED_TOKENS


def begins(talk: Any, id_: str) -> None:
    server(talk, {"type": "response.created", "response": {"id": id_}})


def ends(talk: Any, id_: str, tokens: int, **response: Any) -> None:
    usage = {"input_tokens": tokens, "output_tokens": 0}
    server(talk, {"type": "response.done", "response": {"id": id_, "usage": usage, **response}})


def held_chars(talk: Any) -> int:
    return sum(map(len, facts_of(talk, {"type": "response.create"}).prompt.texts))


@pytest.mark.parametrize("status", ["cancelled", "failed", "completed"])
def test_a_response_that_is_broken_off_makes_no_conversation_shorter(status: str) -> None:
    talk = new_talk()
    begins(talk, "resp_1")
    ends(talk, "resp_1", 30_000, status="completed")
    client(talk, item("x" * 5_000))
    begins(talk, "resp_2")
    ends(talk, "resp_2", 0, status=status)
    assert facts_of(talk, {"type": "response.create"}).prompt.tokens == 30_000 + ADDED_TOKENS
    assert held_chars(talk) > 5_000


def test_what_was_added_is_held_until_a_response_to_the_conversation_has_read_it() -> None:
    """Responses apart from the conversation, however many, and those side by side, read none of it."""
    talk = new_talk()
    client(talk, item("x" * 5_000))
    for id_ in ("resp_1", "resp_2"):
        begins(talk, id_)
        ends(talk, id_, 10, status="completed", conversation_id=None)
    assert held_chars(talk) > 5_000
    begins(talk, "resp_3")
    client(talk, item("y" * 7_000))
    begins(talk, "resp_4")
    assert held_chars(talk) > 12_000
    ends(talk, "resp_3", 1_300, status="completed", conversation_id="conv_1")
    assert held_chars(talk) > 7_000
    ends(talk, "resp_4", 10, status="completed", conversation_id=None)
    begins(talk, "resp_5")
    ends(talk, "resp_5", 3_000, status="completed", conversation_id="conv_1")
    assert held_chars(talk) == 0
    assert facts_of(talk, {"type": "response.create"}).prompt.tokens == 3_000 + ADDED_TOKENS


@pytest.mark.parametrize("response", [{"input": []}, {"instructions": "x"}, {"tools": []}, {"conversation": "none"}])
def test_a_response_that_reads_less_makes_no_conversation_shorter(response: Event) -> None:
    talk = new_talk()
    client(talk, update(instructions="y" * 9_000))
    begins(talk, "resp_1")
    ends(talk, "resp_1", 30_000, status="completed")
    client(talk, item("x" * 5_000))
    client(talk, {"type": "response.create", "response": response})
    begins(talk, "resp_2")
    ends(talk, "resp_2", 100, status="completed", conversation_id="conv_1")
    assert facts_of(talk, {"type": "response.create"}).prompt.tokens == 30_000 + ADDED_TOKENS
    assert held_chars(talk) > 5_000


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call_output", "output": "x" * 5_000, "content": [{"type": "input_text", "text": "a"}]},
        {"type": "message", "content": [{"type": "input_text", "text": "x" * 5_000, "audio": ""}]},
        {"type": "message", "content": [{"type": "input_image", "image_url": "data:,", "text": "x" * 5_000}]},
        {"type": "message", "content": [{"type": "input_text", "image_url": "x" * 5_000}]},
        {"type": "message", "content": ["x" * 5_000]},
        {"type": "message", "content": "x" * 5_000, "name": "x" * 5_000},
    ],
)
def test_all_of_an_item_is_held(item: Event) -> None:
    talk = new_talk()
    client(talk, {"type": "conversation.item.create", "item": item})
    assert held_chars(talk) > 5_000


def test_the_larger_of_two_maxima_is_held() -> None:
    talk = new_talk()
    both = {"max_output_tokens": 1, "max_response_output_tokens": 900}
    assert facts_of(talk, {"type": "response.create", "response": both}).max_output_tokens == 900
    both["max_response_output_tokens"] = "inf"  # type: ignore[assignment]
    assert facts_of(talk, {"type": "response.create", "response": both}).max_output_tokens is None


async def test_a_response_after_an_error_that_was_about_another_event_is_charged(tmp_path: Path) -> None:
    """Its client had given both events one id, and the server begins nothing by itself."""
    async with running_gateway(tmp_path) as harness, talking(harness, key=ACME_KEY, path=PATH) as talk:
        await talk.say(update(output_modalities=["text"], audio={"input": {"turn_detection": None}}))
        await until(talk, "session.updated")
        await talk.say(item("[[sim tokens=5]] Hello"))
        await talk.say({"type": "conversation.item.delete", "item_id": "item_9", "event_id": "mine"})
        await talk.say({"type": "response.create", "event_id": "mine"})
        assert kinds(await until(talk, "error"))[-1] == "error"
        assert kinds(await until(talk, "response.done"))[-1] == "response.done"
        await talk.socket.close()
        costs = [event["_cost"] for event in await settled(harness)]
        (served,) = harness.ledger.records
        assert sum(costs) == served.prompt_tokens * 4_000 + 5 * 16_000  # gpt-realtime's text
        assert (await harness.window()).held_nano_usd == 0


def test_text_alone_is_held_as_text_and_the_maximum_is_the_larger_one_until_it_is_confirmed() -> None:
    talk = new_talk()
    assert facts_of(talk, {"type": "response.create"}).max_output_tokens is None
    server(talk, created(max_output_tokens=1000))
    client(talk, update(max_output_tokens=10))
    assert facts_of(talk).max_output_tokens == 1000
    server(talk, {"type": "session.updated", "session": {"max_output_tokens": 10}})
    assert facts_of(talk).max_output_tokens == 10
    asked = {"type": "response.create", "response": {"output_modalities": ["text"], "max_output_tokens": 7}}
    facts = facts_of(talk, asked)
    assert facts.max_output_tokens == 7
    assert Unit.OUTPUT_AUDIO not in facts.units
    assert facts_of(talk, {"type": "response.create", "response": {"max_output_tokens": "inf"}}).max_output_tokens is None


def test_audio_of_another_format_is_longer() -> None:
    talk = new_talk()
    server(talk, created(audio={"input": {"turn_detection": None}}))
    client(talk, append(seconds=2))
    client(talk, {"type": "input_audio_buffer.commit"})
    plain = facts_of(talk, {"type": "response.create"}).prompt.tokens
    assert plain == ADDED_TOKENS + 21  # 2,001 ms
    client(talk, update(audio={"input": {"format": {"type": "audio/pcmu"}}}))
    client(talk, append(seconds=2))
    client(talk, {"type": "input_audio_buffer.commit"})
    assert facts_of(talk, {"type": "response.create"}).prompt.tokens >= plain + 120


def test_a_transcription_is_charged_by_time_where_its_model_is_and_nothing_where_it_fails() -> None:
    talk = new_talk()
    client(talk, update(audio={"input": {"transcription": {"model": "whisper-1"}, "turn_detection": None}}))
    ahead = client(talk, append(seconds=3)).ahead
    assert [each.kind for each in ahead] == ["response", "transcription"]
    facts = talk.read_request(ahead[1].body, path={}, query={})
    assert facts.model == "whisper-1"
    assert facts.calls_instead == {Unit.AUDIO_SECOND: AHEAD_MS // 1000}
    begun = server(talk, {"type": "input_audio_buffer.committed", "item_id": "item_7"})
    assert (begun.kind, begun.response_id, begun.begins, begun.is_read) == ("transcription", "item_7", True, False)
    failed = server(talk, {"type": "conversation.item.input_audio_transcription.failed", "item_id": "item_7", "error": {}})
    assert (failed.kind, failed.ends, failed.error_status) == ("transcription", True, 500)
    meter = talk.meter(replace(facts, is_by_calls=True), content_type="text/event-stream", hide_usage_chunk=False)
    done = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "item_7", "transcript": "Hi"}
    meter.feed(b"data: " + json.dumps(done | {"usage": {"type": "duration", "seconds": 2.2}}).encode() + b"\n\n")
    assert meter.reading.usage == Usage({Unit.AUDIO_SECOND: 3})
    assert meter.reading.ended


def test_an_item_is_referred_to_once() -> None:
    one, other = {"type": "item_reference", "id": "item_1"}, {"type": "item_reference", "id": "item_2"}
    client(new_talk(), {"type": "response.create", "response": {"input": [one, other]}})
    with pytest.raises(RequestRejectedError):
        client(new_talk(), {"type": "response.create", "response": {"input": [one, other, one]}})


def test_silence_before_speech_is_not_held() -> None:
    talk = new_talk()
    for _ in range(600):
        (ahead,) = client(talk, append()).ahead
        assert ahead.needs_ms == 0
    server(talk, {"type": "input_audio_buffer.speech_started", "audio_start_ms": 598_000})
    (ahead,) = client(talk, append()).ahead
    assert 2_000 <= ahead.needs_ms <= 3_000


def test_a_client_that_adds_without_end_takes_no_memory() -> None:
    talk = new_talk()
    for _ in range(40):
        client(talk, item("x" * 100_000))
    facts = facts_of(talk, {"type": "response.create"})
    assert sum(map(len, facts.prompt.texts)) < 300_000
    assert facts.prompt.tokens > 3_500_000


def test_a_session_without_a_model_is_refused() -> None:
    with pytest.raises(RequestRejectedError):
        OpenAiRealtime().talk({})
