"""A body is read as what it is, whatever its label says, and however it is cut into pieces."""

import itertools

import pytest
from openai_wire import DONE, chunk, compact, named_sse, sse, usage
from splits import assert_split_invariant, metered, run

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.first_bytes import Framing, framing_of
from tallygate.dialects.meters import OBJECTS_MAX
from tallygate.dialects.registry import dialects
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import usage_of_totals

DIALECTS = dialects()
STREAM = RequestFacts(model="m", prompt=PromptShape(), stream=True)
WHOLE = RequestFacts(model="m", prompt=PromptShape())
EMBEDDING = RequestFacts(model="m", prompt=PromptShape(), has_output=False)
TRUE = usage_of_totals(prompt=100, completion=7)
CHAT = sse(chunk({"content": "Hi"}, "stop"), chunk(choices=[], usage=usage(100, 7)), DONE)
CHAT_WHOLE = compact({"model": "m", "choices": [{"message": {"content": "Hi"}}], "usage": usage(100, 7)})
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 7, "totalTokenCount": 107},
}
INPUT = {"input_tokens": 100, "output_tokens": 7}
MESSAGE = {"content": [{"type": "output_text", "text": "Hi"}]}
RESPONSE = {"object": "response", "status": "completed", "output": [MESSAGE], "usage": INPUT}
BODIES = {
    "openai_chat": (CHAT, CHAT_WHOLE),
    "openai_completions": (CHAT, CHAT_WHOLE),
    "mistral_fim": (CHAT, CHAT_WHOLE),
    "openai_responses": (
        named_sse(
            {"type": "response.output_text.delta", "delta": "Hi"},
            {"type": "response.completed", "response": {"status": "completed", "usage": INPUT}},
        ),
        compact(RESPONSE),
    ),
    "anthropic_messages": (
        named_sse(
            {"type": "message_start", "message": {"usage": INPUT}},
            {"type": "content_block_delta", "delta": {"text": "Hi"}},
            {"type": "message_delta", "usage": INPUT},
            {"type": "message_stop"},
        ),
        compact({"type": "message", "content": [{"type": "text", "text": "Hi"}], "usage": INPUT}),
    ),
    "gemini_generate": (sse(GEMINI), compact(GEMINI)),
    "gemini_stream_generate": (sse(GEMINI), compact([GEMINI])),
}
LABELS = ("text/event-stream", "application/json", "", "text/plain; charset=utf-8", "application/octet-stream", "text/html")
LEADS = (b"", b"\xef\xbb\xbf", b"\n \n", b"\xef\xbb\xbf\r\n")


@pytest.mark.parametrize("name", BODIES)
def test_an_answer_is_read_whatever_its_label(name: str) -> None:
    events, whole = BODIES[name]
    for label, lead, is_stream in itertools.product(LABELS, LEADS, (False, True)):
        facts = STREAM if is_stream or name == "gemini_stream_generate" else WHOLE
        for body in (lead + events, lead + whole, lead + whole + b"\0", lead + whole + b"\n\0\0"):
            got = metered(DIALECTS[name], facts, body, content_type=label)
            assert (got.usage, got.text, got.ended, got.flags) == (TRUE, "Hi", True, frozenset()), (label, body[:30])
            meter = DIALECTS[name].meter(facts, content_type=label, hide_usage_chunk=False)
            assert run(meter, [body[at : at + 1] for at in range(len(body))]) == got
            assert got.relayed == body


@pytest.mark.parametrize("label", LABELS)
def test_the_usage_chunk_is_hidden_whatever_the_label(label: str) -> None:
    shown = sse(chunk({"content": "Hi"}, "stop"), DONE)
    for lead in (*LEADS, b": wait\n\n"):
        got = assert_split_invariant(DIALECTS["openai_chat"], STREAM, lead + CHAT, content_type=label, hide=True, cuts=[])
        assert (got.relayed, got.usage) == (lead + shown, TRUE)


def test_blanks_in_front_are_relayed_at_once() -> None:
    for hide in (False, True):
        meter = DIALECTS["openai_chat"].meter(WHOLE, content_type="application/json", hide_usage_chunk=hide)
        assert meter.feed(b"\n  ") == b"\n  "
        assert meter.feed(b"\n") == b"\n"
        assert meter.feed(CHAT_WHOLE) is CHAT_WHOLE
        assert meter.end_body() == b""
        assert meter.reading.usage == TRUE


@pytest.mark.parametrize("begun", [b"", b"dat", b"\xef\xbb", b"\n", b"ev"])
def test_a_body_that_ends_before_it_begins_loses_no_byte(begun: bytes) -> None:
    for name, label, hide in itertools.product(BODIES, LABELS, (False, True)):
        assert assert_split_invariant(DIALECTS[name], STREAM, begun, content_type=label, hide=hide).usage is None


@pytest.mark.parametrize(
    ("begun", "framing"),
    [
        (b"{", Framing.JSON),
        (b"[1]", Framing.JSON),
        (b"data: x", Framing.EVENTS),
        (b"data:", Framing.EVENTS),
        (b"event: x", Framing.EVENTS),
        (b"id:1", Framing.EVENTS),
        (b"retry: 3", Framing.EVENTS),
        (b": hello", Framing.EVENTS),
        (b"d", None),
        (b"\xef\xbb", None),
        (b"event", None),
        (b"database", Framing.UNREAD),
        (b"word", Framing.UNREAD),
        (b"<html>", Framing.UNREAD),
        (b"\x1f\x8b", Framing.UNREAD),
    ],
)
def test_the_first_bytes_tell_what_a_body_is(begun: bytes, framing: Framing | None) -> None:
    assert framing_of(begun) is framing


def test_a_text_of_no_known_form_is_unread_and_of_a_known_label_is_read_as_that() -> None:
    meter = DIALECTS["openai_chat"].meter(WHOLE, content_type="text/plain", hide_usage_chunk=False)
    assert run(meter, [b"wor", b"d " * 50]).usage is None
    assert meter.reading.unread_bytes == 103
    assert not meter.reading.is_events
    body = b"custom: field\n" + CHAT
    assert assert_split_invariant(DIALECTS["openai_chat"], STREAM, body).usage == TRUE
    got = assert_split_invariant(DIALECTS["openai_chat"], WHOLE, b"<oops>", content_type="application/json")
    assert got.flags == {"body_unreadable"}


def test_embeddings_are_read_whatever_their_label() -> None:
    bodies = {
        "openai_embeddings": compact({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 100, "total_tokens": 100}}),
        "gemini_embed": compact({"embedding": {"values": [0.5]}, "usageMetadata": {"promptTokenCount": 100}}),
    }
    for (name, body), label, lead in itertools.product(bodies.items(), LABELS, LEADS):
        got = metered(DIALECTS[name], EMBEDDING, lead + body + b"\0", content_type=label)
        assert (got.usage, got.ended, got.flags) == (usage_of_totals(prompt=100), True, frozenset())


def test_objects_in_a_row_or_in_an_array_are_one_answer() -> None:
    first, last = compact(chunk({"content": "Hi"})), compact(chunk({"content": "!"}, "stop", usage=usage(100, 7)))
    for body in (first + b"\n" + last + b"\n", b"[" + first + b"," + last + b"]", b"[" + CHAT_WHOLE + b"]"):
        got = assert_split_invariant(DIALECTS["openai_chat"], STREAM, body, content_type="application/json", cuts=[7])
        assert (got.usage, got.ended, got.flags) == (TRUE, True, frozenset())
        assert got.text in ("Hi!", "Hi")
    cut = metered(DIALECTS["openai_chat"], STREAM, first + b"\n" + last[:-9], content_type="application/json")
    assert (cut.ended, cut.flags) == (False, {"body_unreadable"})


def test_a_nul_behind_an_event_hides_nothing() -> None:
    body = CHAT.replace(b"}\n\n", b"}\0\n\n")
    got = assert_split_invariant(DIALECTS["openai_chat"], STREAM, body)
    assert (got.usage, got.text, got.ended, got.flags) == (TRUE, "Hi", True, frozenset())


def test_an_answer_in_utf_16_is_read() -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        body = CHAT_WHOLE.decode().encode(encoding)
        got = metered(DIALECTS["openai_chat"], WHOLE, body, content_type=f"application/json; charset={encoding}")
        assert (got.usage, got.text) == (TRUE, "Hi")


def test_a_stream_that_is_labelled_otherwise_is_a_stream() -> None:
    meter = DIALECTS["openai_chat"].meter(STREAM, content_type="application/json", hide_usage_chunk=False)
    assert not meter.reading.is_events
    meter.feed(b"da")
    meter.feed(b"ta: {}\n\n")
    assert meter.reading.is_events


def test_of_endless_objects_the_first_are_read() -> None:
    body = CHAT_WHOLE + b"{}" * (OBJECTS_MAX + 70_000)
    got = metered(DIALECTS["openai_chat"], WHOLE, body, content_type="application/json")
    assert (got.relayed, got.text, got.ended, got.flags) == (body, "Hi", False, {"body_unreadable"})
