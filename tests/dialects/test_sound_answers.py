"""Answers of speech, transcriptions and rerankings are read alike however they are cut, and odd ones are clamped, never raised."""

import json
from typing import Any

import pytest
import recordings
from splits import assert_split_invariant, metered

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.openai_speech import SOUND_BYTES_KEPT, OpenAiSpeech
from tallygate.dialects.openai_transcription import OpenAiTranscription
from tallygate.dialects.rerank import Rerank
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage

BY_SECONDS = RequestFacts(model="whisper-1", prompt=PromptShape(), is_by_calls=True, calls={Unit.AUDIO_SECOND: 5})
BY_TOKENS = RequestFacts(model="gpt-4o-transcribe", prompt=PromptShape(tokens=50))
SPOKEN = RequestFacts(model="gpt-4o-mini-tts", prompt=PromptShape(texts=("x",)), stream=True)
BY_SEARCHES = RequestFacts(model="rerank-v3.5", prompt=PromptShape(), is_by_calls=True, calls={Unit.SEARCH_UNIT: 1})
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
TOKENS = {"type": "tokens", "input_tokens": 60, "input_token_details": {"audio_tokens": 50}, "output_tokens": 4, "total_tokens": 64}


def events(*each: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in each)


def transcribed(answer: object, facts: RequestFacts = BY_SECONDS, content_type: str = JSON) -> Usage | None:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return assert_split_invariant(OpenAiTranscription(), facts, body, content_type=content_type).usage


def seconds(number: int) -> Usage:
    return Usage({Unit.AUDIO_SECOND: number})


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"text": "x", "usage": {"type": "duration", "seconds": 9}}, seconds(9)),
        ({"text": "x", "usage": {"type": "duration", "seconds": 8.47}}, seconds(9)),
        ({"text": "x", "duration": 8.0, "segments": []}, seconds(8)),
        ({"text": "x", "duration": 8.2, "usage": {"type": "duration", "seconds": 7}}, seconds(7)),
        (
            {"text": "x", "usage": {"prompt_audio_seconds": 203, "prompt_tokens": 4, "total_tokens": 3264}},
            seconds(203),
        ),  # Mistral's
        ({"text": "x", "duration": "8.2"}, seconds(9)),  # as OpenAI wrote it once
        ({"text": "x", "usage": {"type": "duration", "seconds": 0}}, None),
        ({"text": "x", "usage": {"seconds": -3}}, None),
        ({"text": "x", "usage": [1]}, None),
        ({"text": "x"}, None),
        ({"text": "x" * 400}, seconds(10)),  # more than was to be heard in the five seconds that were asked for
        ({"text": "x" * 40}, None),
        ([], None),
    ],
)
def test_seconds_are_read(answer: object, usage: Usage | None) -> None:
    assert transcribed(answer) == usage


def test_absurd_seconds_are_clamped() -> None:
    usage = transcribed(b'{"usage": {"seconds": 1e300}}')
    assert usage is not None
    assert usage.of(Unit.AUDIO_SECOND) == 10**9
    assert transcribed(b'{"usage": {"seconds": NaN}, "duration": Infinity}') is None


def test_texts_are_read_for_what_they_say_of_time() -> None:
    cues = b"1\n00:00:01,000 --> 00:00:02,500\nHi\n\n2\n01:00:01,000 --> 01:00:02,000\n--> no\n"
    assert transcribed(cues, content_type=TEXT) == seconds(3_602)
    assert transcribed(b"WEBVTT\n\n00:01.000 --> 00:07.001\nHi\n", content_type="text/vtt") == seconds(8)
    assert transcribed(b"[Music] {x", content_type=TEXT) is None
    assert transcribed(b"", content_type=TEXT) is None


def test_tokens_are_read_whole_and_streamed() -> None:
    wanted = Usage({Unit.INPUT: 10, Unit.INPUT_AUDIO: 50, Unit.OUTPUT: 4})
    assert transcribed({"text": "Hi", "usage": TOKENS}, BY_TOKENS) == wanted
    deltas = [{"type": "transcript.text.delta", "delta": word} for word in ("Peace", " be")]
    done = {"type": "transcript.text.done", "text": "Peace be", "usage": TOKENS}
    streamed = assert_split_invariant(OpenAiTranscription(), BY_TOKENS, events(*deltas, done))
    assert (streamed.usage, streamed.ended, streamed.text) == (wanted, True, "Peace be")
    cut = metered(OpenAiTranscription(), BY_TOKENS, events(*deltas))
    assert (cut.usage, cut.ended, cut.text) == (None, False, "Peace be")
    failed = metered(OpenAiTranscription(), BY_TOKENS, events(*deltas, {"type": "error", "error": {"message": "x"}}))
    assert failed.failed
    unstated = metered(OpenAiTranscription(), BY_TOKENS, events({"type": "transcript.text.done", "text": "Hi", "usage": None}))
    assert (unstated.usage, unstated.ended, unstated.text) == (None, True, "Hi")


def test_speech_states_its_tokens_in_events() -> None:
    done = {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}
    body = events({"type": "speech.audio.delta", "audio": "AAAA"}, done)
    read = assert_split_invariant(OpenAiSpeech(), SPOKEN, body)
    assert (read.usage, read.ended) == (Usage({Unit.INPUT: 14, Unit.OUTPUT_AUDIO: 101}), True)
    assert not metered(OpenAiSpeech(), SPOKEN, events({"type": "speech.audio.delta", "audio": "AAAA"})).ended


@pytest.mark.parametrize(
    ("sound", "content_type", "tokens"),
    [
        (recordings.wav(2), "audio/wav", 40),
        (recordings.wav(2, stated_bytes=0xFFFFFFFF), "audio/wav", 41),  # streamed; its head counts as sound
        (recordings.mp3(2), "audio/mpeg", 41),
        (recordings.ogg_opus(2), "audio/ogg", 40),
        (bytes(96_000), "audio/pcm", 40),
        (b"unreadable", "audio/aac", None),
        (bytes(4_800_000), "audio/pcm", 2_000),
        (recordings.wav(100), "audio/wav", 2_001),  # longer than is kept
        (recordings.mp3(100, stated_frames=3_828), "audio/mpeg", 2_001),
        (recordings.ogg_opus(2) + bytes(SOUND_BYTES_KEPT), "audio/ogg", None),
    ],
)
def test_plain_sound_is_measured_if_it_can_be(sound: bytes, content_type: str, tokens: int | None) -> None:
    for facts, wanted in ((SPOKEN, tokens), (RequestFacts(model="tts-1", prompt=PromptShape(), is_by_calls=True), None)):
        meter = OpenAiSpeech().meter(facts, content_type=content_type, hide_usage_chunk=False)
        relayed = b"".join([meter.feed(sound[:7]), meter.feed(sound[7:900_000]), meter.feed(sound[900_000:]), meter.end_body()])
        assert relayed == sound
        assert meter.reading.is_measured is (wanted is not None)
        assert meter.reading.media_tokens.get(Unit.OUTPUT_AUDIO) == wanted


@pytest.mark.parametrize(
    ("answer", "facts", "usage"),
    [
        ({"meta": {"billed_units": {"search_units": 3}}}, BY_SEARCHES, Usage({Unit.SEARCH_UNIT: 3})),
        ({"meta": {"billed_units": {"search_units": 1.0}}}, BY_SEARCHES, Usage({Unit.SEARCH_UNIT: 1})),
        ({"meta": {"billed_units": None}, "usage": {"total_tokens": 9}}, BY_SEARCHES, None),
        ({"model": "rerank-2.5", "usage": {"total_tokens": 26}}, BY_TOKENS, Usage({Unit.INPUT: 26})),
        ({"model": "jina-reranker-v2", "usage": {"prompt_tokens": 815, "total_tokens": 815}}, BY_TOKENS, Usage({Unit.INPUT: 815})),
        ({"meta": {"tokens": {"input_tokens": 12}}}, BY_TOKENS, Usage({Unit.INPUT: 12})),
        ({"meta": 3, "usage": "x"}, BY_TOKENS, None),
    ],
)
def test_rerankings_are_read(answer: object, facts: RequestFacts, usage: Usage | None) -> None:
    body = json.dumps(answer).encode()
    assert assert_split_invariant(Rerank(), facts, body, content_type=JSON).usage == usage
