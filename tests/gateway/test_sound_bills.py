"""What speech, transcriptions, translations, moderations and rerankings cost, from the hold to the usage event, by hand."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import recordings
from aiohttp import ClientSession, FormData, web
from gateway_harness import ACME_KEY, Harness, running_gateway
from usage_events import cost_by_kind

from tallygate.config.document import read_document
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.openai_speech import OpenAiSpeech
from tallygate.dialects.rerank import Rerank
from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.domain.unit import Unit

SPEECH, TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations"
AZURE = "/openai/deployments/whisper-1"
MICRO = 1_000  # nano-USD
WHISPER_SECOND = 100 * MICRO  # $0.006 a minute


class Upstream:
    """Answers with what it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.body: bytes = b"{}"
        self.content_type = "application/json"
        self.status = 200
        self.received: list[tuple[str, bytes]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append((request.headers["Content-Type"], await request.read()))
        return web.Response(status=self.status, body=self.body, headers={"Content-Type": self.content_type})


class World:
    def __init__(self, upstream: Upstream, harness: Harness, session: ClientSession) -> None:
        self.upstream, self.harness, self.session = upstream, harness, session
        self.held: list[int] = []
        admit = harness.limiter.admit

        async def noted(asked: AdmissionRequest, *words: Any) -> Decision:
            self.held.append(asked.hold_nano_usd)
            decision: Decision = await admit(asked, *words)
            return decision

        harness.limiter.admit = noted

    def answers(self, answer: Any, content_type: str = "application/json") -> None:
        self.upstream.body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.upstream.content_type = content_type

    def answers_events(self, *events: dict[str, Any]) -> None:
        self.answers(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events), "text/event-stream")

    async def send(self, path: str, body: Any, **headers: str) -> tuple[int, bytes]:
        sent = {"json": body} if isinstance(body, dict) else {"data": body}
        async with self.session.post(
            self.harness.url + path, headers={"Authorization": f"Bearer {ACME_KEY}"} | headers, **sent
        ) as answer:
            return answer.status, await answer.read()

    async def event(self, path: str, body: Any) -> dict[str, Any]:
        status, got = await self.send(path, body)
        assert status == 200, got
        assert got == self.upstream.body
        await self.harness.at_rest()
        event = self.harness.events()[-1]
        assert event["_kind"] == "settled"
        return event | {"held": self.held[-1]}

    async def transcribed(self, recording: bytes, *, path: str = TRANSCRIPTIONS, **fields: str) -> dict[str, Any]:
        return await self.event(path, form(recording, **fields))


def form(recording: bytes | None, *, is_file_first: bool = False, name: str = "file", **fields: str) -> FormData:
    made = FormData()
    parts = [partial(made.add_field, key, value) for key, value in fields.items()]
    if recording is not None:
        sound = partial(made.add_field, name, recording, filename="a.wav", content_type="audio/wav")
        parts.insert(0 if is_file_first else len(parts), sound)
    for part in parts:
        part()
    return made


def quantities(event: dict[str, Any]) -> dict[str, int]:
    return json.loads(event["billed"])["quantities"] if event["billed"] else {}


@pytest.fixture
async def world(tmp_path: Path, aiohttp_server: Any) -> AsyncIterator[World]:
    async with running(tmp_path, aiohttp_server) as running_world:
        yield running_world


@asynccontextmanager
async def running(tmp_path: Path, aiohttp_server: Any, *, acme_usd: str = "25") -> AsyncIterator[World]:
    upstream = Upstream()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/{tail:.*}", upstream.handle)
    url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    async with running_gateway(tmp_path, upstream_url=url, acme_usd=acme_usd) as harness, ClientSession() as session:
        yield World(upstream, harness, session)


async def test_a_stated_duration_is_charged_and_rounded_up(world: World) -> None:
    world.answers({"text": "Peace.", "usage": {"type": "duration", "seconds": 9}})
    event = await world.transcribed(recordings.wav(8.47), model="whisper-1")
    assert (event["cost_nano_usd"], event["usage_source"]) == (9 * WHISPER_SECOND, "upstream")
    assert quantities(event) == {"audio_second": 9}
    assert event["prompt_tokens"] == event["completion_tokens"] == 0
    assert cost_by_kind(event)["media"] == 9 * WHISPER_SECOND

    world.answers({"text": "Peace.", "duration": 8.470000267028809})  # a verbose answer without a usage
    event = await world.transcribed(recordings.wav(8.47), model="whisper-1", response_format="verbose_json", path=TRANSLATIONS)
    assert (event["cost_nano_usd"], event["usage_source"]) == (9 * WHISPER_SECOND, "upstream")


@pytest.mark.parametrize("is_file_first", [False, True])
async def test_where_the_answer_states_nothing_the_recording_s_own_length_is_charged(world: World, is_file_first: bool) -> None:
    world.answers(b"Peace.\n", "text/plain; charset=utf-8")
    event = await world.event(
        TRANSCRIPTIONS, form(recordings.mp3(60), is_file_first=is_file_first, model="whisper-1", response_format="text")
    )
    assert (event["cost_nano_usd"], event["usage_source"], event["flags"]) == (61 * WHISPER_SECOND, "counted", [])
    (sent,) = world.upstream.received
    assert sent[0].startswith("multipart/form-data; boundary=")
    assert recordings.mp3(60) in sent[1]


async def test_a_text_that_says_more_than_the_recording_was_said_to_play_is_charged_by_what_it_says(world: World) -> None:
    """A head can lie within what its size allows."""
    lying = recordings.flac(0.3, stated_seconds=1) + bytes(9_000)
    world.answers(b"1\n00:00:00,000 --> 00:00:09,500\nPeace.\n\n", "text/plain")
    assert (await world.transcribed(lying, model="whisper-1", response_format="srt"))["cost_nano_usd"] == 10 * WHISPER_SECOND
    world.answers(b"WEBVTT\n\n00:00.000 --> 01:00.000\nPeace.\n", "text/vtt")
    assert (await world.transcribed(lying, model="whisper-1", response_format="vtt"))["cost_nano_usd"] == 60 * WHISPER_SECOND
    world.answers(b"word " * 400, "text/plain")
    assert (await world.transcribed(lying, model="whisper-1", response_format="text"))["cost_nano_usd"] == 50 * WHISPER_SECOND


TOKENS = {
    "type": "tokens",
    "input_tokens": 140,
    "input_token_details": {"text_tokens": 20, "audio_tokens": 120},
    "output_tokens": 30,
    "total_tokens": 170,
}


async def test_stated_tokens_are_charged_whole_and_streamed(world: World) -> None:
    cost = 20 * 2_500 + 120 * 2_500 + 30 * 10_000  # $2.50 and $10 a million
    world.answers({"text": "Peace.", "usage": TOKENS})
    event = await world.transcribed(recordings.wav(12), model="gpt-4o-transcribe", prompt="Names")
    assert (event["cost_nano_usd"], event["usage_source"]) == (cost, "upstream")
    assert (event["prompt_tokens"], event["audio_prompt_tokens"], event["completion_tokens"]) == (140, 120, 30)
    assert quantities(event) == {}

    world.answers_events(
        {"type": "transcript.text.delta", "delta": "Pea"},
        {"type": "transcript.text.delta", "delta": "ce."},
        {"type": "transcript.text.done", "text": "Peace.", "usage": TOKENS},
    )
    event = await world.transcribed(recordings.wav(12), model="gpt-4o-transcribe", stream="true")
    assert (event["cost_nano_usd"], event["usage_source"], event["stream"]) == (cost, "upstream", True)


async def test_tokens_that_nobody_states_are_those_of_the_recording_and_of_its_text(world: World) -> None:
    world.answers(b"Peace be with you.", "text/plain")
    event = await world.transcribed(recordings.wav(12), model="gpt-4o-transcribe-diarize", response_format="text")
    assert event["prompt_tokens"] == 120  # 10 a second
    assert 5 <= event["completion_tokens"] <= 8
    assert event["cost_nano_usd"] == 120 * 2_500 + event["completion_tokens"] * 10_000


@pytest.mark.parametrize(
    ("recording", "model", "least", "most"),
    [
        (recordings.wav(60), "whisper-1", 60 * WHISPER_SECOND, 61 * WHISPER_SECOND),
        (recordings.webm(60), "whisper-1", 60 * WHISPER_SECOND, 61 * WHISPER_SECOND),
        (b"unreadable" * 6_000, "whisper-1", 80 * WHISPER_SECOND, 80 * WHISPER_SECOND),  # 60,000 bytes at 6 kbit/s
        # 600 tokens in, and 2,000 out, which the model's page states as its maximum
        (recordings.wav(60), "gpt-4o-transcribe", 600 * 2_500 + 2_000 * 10_000, 620 * 2_500 + 2_000 * 10_000),
    ],
)
async def test_the_recording_decides_what_is_held(world: World, recording: bytes, model: str, least: int, most: int) -> None:
    world.answers({"text": "x", "usage": {"type": "duration", "seconds": 1}})
    event = await world.transcribed(recording, model=model)
    assert least <= event["held"] <= most
    assert event["cost_nano_usd"] <= event["held"]


async def test_a_recording_above_the_limit_is_refused_before_anything_is_sent(tmp_path: Path, aiohttp_server: Any) -> None:
    async with running(tmp_path, aiohttp_server, acme_usd="0.005") as world:
        status, got = await world.send(TRANSCRIPTIONS, form(recordings.wav(60), model="whisper-1"))
        assert (status, json.loads(got)["error"]["code"]) == (429, "spend_limit_exceeded")
        assert not world.upstream.received
        world.answers({"text": "x", "usage": {"type": "duration", "seconds": 30}})
        assert (await world.transcribed(recordings.wav(30), model="whisper-1"))["cost_nano_usd"] == 30 * WHISPER_SECOND


@pytest.mark.parametrize(
    ("path", "body", "least"),
    [
        (TRANSCRIPTIONS, {"model": "gpt-4o-transcribe", "stream": "true"}, 70 * 2_500),
        (TRANSCRIPTIONS, {"model": "whisper-1", "response_format": "text"}, 7 * WHISPER_SECOND),
        (SPEECH, {"model": "tts-1", "voice": "alloy"}, 32 * 15_000),
        (SPEECH, {"model": "gpt-4o-mini-tts", "voice": "alloy"}, 12_000),
    ],
)
async def test_who_leaves_pays_what_may_have_been_made(tmp_path: Path, path: str, body: dict[str, str], least: int) -> None:
    said = "[[sim tokens=40 tps=200]] Peace."
    async with running_gateway(tmp_path) as harness, ClientSession(harness.url) as session:
        sent: Any = {"json": body | {"input": said}} if path == SPEECH else {"data": form(recordings.wav(7), prompt=said, **body)}
        async with session.post(path, headers={"Authorization": f"Bearer {ACME_KEY}"}, **sent) as answer:
            assert answer.status == 200
            await answer.content.read(1)
            held = (await harness.window()).held_nano_usd
            answer.close()
        await harness.at_rest(15)
        (event,) = harness.events()
        assert least <= event["cost_nano_usd"] <= max(held, least)
        assert (await harness.window()).held_nano_usd == 0


@pytest.mark.parametrize(
    ("fields", "recording", "param"),
    [
        ({}, b"x", "model"),
        ({"model": "whisper-1"}, None, "file"),
        ({"model": "whisper-1", "url": "https://example.com/a.mp3"}, b"x", "url"),
        ({"model": "whisper-1", "Model": "tts-1"}, b"x", "Model"),
        ({"model": "whisper-1", "file_id": "file-1"}, b"x", "file_id"),
        ({"model": "nobody-knows"}, b"x", "model"),
        ({"model": "rerank-v3.5"}, b"x", "model"),  # whose price has no rate for sound
    ],
)
async def test_what_cannot_be_held_is_refused_in_the_shape_of_the_api(
    world: World, fields: dict[str, str], recording: bytes | None, param: str
) -> None:
    status, got = await world.send(TRANSCRIPTIONS, form(recording, response_format="json", **fields))
    assert (status, json.loads(got)["error"]["param"]) == (400, param), got
    assert not world.upstream.received
    assert not world.harness.events()


async def test_a_body_that_is_no_form_is_refused(world: World) -> None:
    status, got = await world.send(TRANSCRIPTIONS, {"model": "whisper-1", "file": "base64"})
    assert (status, json.loads(got)["error"]["param"]) == (400, "file")
    status, got = await world.send(TRANSCRIPTIONS, b"--b\r\n", **{"Content-Type": "multipart/form-data"})
    assert (status, json.loads(got)["error"]["type"]) == (400, "invalid_request_error")
    status, got = await world.send("/v1/moderations", form(b"x", input="y"))
    assert status == 400


async def test_azures_deployment_is_the_model(world: World) -> None:
    world.answers({"text": "x", "usage": {"type": "duration", "seconds": 4}})
    event = await world.transcribed(
        recordings.wav(4), path="/openai/deployments/whisper-1/audio/transcriptions?api-version=2024-10-21"
    )
    assert (event["request_model"], event["cost_nano_usd"]) == ("whisper-1", 4 * WHISPER_SECOND)
    status, got = await world.send(f"{AZURE}/audio/translations", form(recordings.wav(4), model="gpt-4o-transcribe"))
    assert (status, json.loads(got)["error"]["param"]) == (400, "model")
    world.answers(b"\xff\xfbsound", "audio/mpeg")
    event = await world.event("/openai/deployments/tts-1/audio/speech", {"input": "Peace", "voice": "alloy"})
    assert (event["request_model"], event["cost_nano_usd"]) == ("tts-1", 5 * 15_000)


async def test_speech_is_charged_by_characters(world: World) -> None:
    world.answers(b"\xff\xfbsound", "audio/mpeg")
    event = await world.event(SPEECH, {"model": "tts-1-hd", "input": "Grüß Gott 🙂", "voice": "alloy"})
    assert (event["cost_nano_usd"], event["held"]) == (11 * 30_000, 11 * 30_000)  # $30 a million
    assert (quantities(event), event["usage_source"], event["flags"]) == ({"character": 11}, "counted", [])
    status, _ = await world.send(SPEECH, {"model": "tts-1", "input": "x"}, Accept="application/octet-stream")
    assert status == 200  # as OpenAI's SDKs ask for it


async def test_speech_by_tokens_is_charged_by_its_events_or_by_the_length_of_its_sound(world: World) -> None:
    asked = {"model": "gpt-4o-mini-tts", "input": "Peace be with you, and with all of your house.", "voice": "alloy"}
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    world.answers_events({"type": "speech.audio.delta", "audio": "AAAA"}, {"type": "speech.audio.done", "usage": usage})
    event = await world.event(SPEECH, asked | {"stream_format": "sse"})
    assert (event["cost_nano_usd"], event["usage_source"]) == (14 * 600 + 101 * 12_000, "upstream")
    assert (event["prompt_tokens"], event["audio_completion_tokens"]) == (14, 101)
    held = event["held"]
    assert event["cost_nano_usd"] <= held

    for sound, kind in ((recordings.mp3(3), "audio/mpeg"), (recordings.wav(3), "audio/wav"), (bytes(144_000), "audio/pcm")):
        world.answers(sound, kind)
        event = await world.event(SPEECH, asked)
        assert 60 <= event["audio_completion_tokens"] <= 62, kind  # 20 a second
        assert event["cost_nano_usd"] == event["prompt_tokens"] * 600 + event["audio_completion_tokens"] * 12_000
        assert (event["usage_source"], event["flags"]) == ("counted", [])

    world.answers(b"what nobody can measure", "audio/aac")
    event = await world.event(SPEECH, asked)
    assert event["usage_source"] == "assumed"
    assert 0 < event["cost_nano_usd"] <= held


async def test_moderation_is_free_as_its_row_says_and_has_a_price_elsewhere(world: World) -> None:
    world.answers({"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": []})
    event = await world.event("/v1/moderations", {"input": ["one", {"type": "text", "text": "two"}]})
    assert (event["cost_nano_usd"], event["held"], event["request_model"]) == (0, 0, "omni-moderation-latest")
    assert event["price_version"].startswith("omni-moderation-2024-09-26@")


async def test_rerankings_are_charged_by_searches_or_tokens(world: World) -> None:
    asked = {"query": "peace", "documents": ["one", {"text": "two"}, {"Model": "three", "file_id": "4"}], "top_n": 1}
    world.answers({"results": [], "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 2}}})
    event = await world.event("/v2/rerank", asked | {"model": "rerank-v3.5"})
    assert (event["cost_nano_usd"], event["held"]) == (2 * 2_000_000, 2_000_000)  # $2 for 1,000
    assert (quantities(event), event["usage_source"]) == ({"search_unit": 2}, "upstream")
    assert event["flags"] == ["overrun"]

    world.answers({"results": []})
    event = await world.event("/v1/rerank", asked | {"model": "rerank-v4.0-pro"})
    assert (event["cost_nano_usd"], event["usage_source"]) == (2_500_000, "counted")

    world.answers({"object": "list", "data": [], "model": "rerank-2.5", "usage": {"total_tokens": 26}})
    event = await world.event("/v1/rerank", asked | {"model": "rerank-2.5"})
    assert (event["cost_nano_usd"], event["prompt_tokens"], event["usage_source"]) == (26 * 50, 26, "upstream")
    assert event["held"] >= event["cost_nano_usd"]


@pytest.mark.parametrize(
    ("documents", "query", "units"),
    [(1, "q", 1), (100, "q", 1), (101, "q", 2), (1_000, "q", 10)],
)
def test_a_search_has_a_hundred_documents(documents: int, query: str, units: int) -> None:
    body = json.dumps({"model": "rerank-v3.5", "query": query, "documents": ["d"] * documents}).encode()
    assert Rerank().read_request(body, path={}, query={}).calls_instead == {Unit.SEARCH_UNIT: units}


def test_a_long_document_counts_as_several() -> None:
    body = json.dumps({"model": "rerank-v3.5", "query": "q" * 100, "documents": ["d" * 401] * 60}).encode()
    assert Rerank().read_request(body, path={}, query={}).calls_instead == {Unit.SEARCH_UNIT: 2}


@pytest.mark.parametrize(
    ("text", "more", "seconds"),
    [
        ("Peace be with you. " * 10, {}, 13),  # some 15 characters a second
        ("1234567890", {}, 7),  # "one billion, two hundred thirty-four million …"
        ("平和があなたがたと共にありますように", {}, 5),
        ("Peace be with you. " * 10, {"speed": 0.25}, 52),
        ("Peace be with you. " * 10, {"instructions": "Speak slowly"}, 26),
        ("", {}, 1),
    ],
)
def test_more_than_a_text_takes_to_be_spoken_is_held(text: str, more: dict[str, Any], seconds: int) -> None:
    body = json.dumps({"model": "gpt-4o-mini-tts", "input": text, "voice": "alloy"} | more).encode()
    facts = OpenAiSpeech().read_request(body, path={}, query={})
    assert facts.max_output_tokens is not None
    assert facts.max_output_tokens >= seconds * 20
    assert facts.output_min_tokens == facts.max_output_tokens


def test_the_shipped_rows_state_what_the_pages_state() -> None:
    document = read_document("prices.yaml", (shipped_directory() / "prices.yaml").read_bytes(), Problems())
    assert document is not None
    prices = read_prices(document)

    def usd(model: str, unit: Unit, number: int) -> float:
        price = prices.find(model, 1_796_000_000_000)
        assert price is not None
        return price.rates[unit] * number / 10**12

    assert usd("whisper-1", Unit.AUDIO_SECOND, 60) == 0.006
    assert usd("gpt-transcribe", Unit.AUDIO_SECOND, 60) == 0.0045
    assert usd("tts-1", Unit.CHARACTER, 10**6) == 15
    assert usd("rerank-v4.0-pro", Unit.SEARCH_UNIT, 1_000) == 2.5
