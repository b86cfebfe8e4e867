"""What holds of every OpenAI-shaped meter, whatever an upstream sends."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai_wire import DONE, chunk, compact, usage
from splits import metered, pieces_at, run

from tallygate.dialects.dialect import Dialect, RequestFacts
from tallygate.dialects.gloo import GlooChat, GlooResponses
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_completions import OpenAiCompletions
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape

DIALECTS = [OpenAiChat(), OpenAiCompletions(), OpenAiEmbeddings(), OpenAiResponses(), GlooChat(), GlooResponses()]
FACTS = RequestFacts(model="m", prompt=PromptShape(), stream=True)

NAMES = [
    "choices",
    "delta",
    "message",
    "content",
    "text",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "completion_tokens_details",
    "reasoning_tokens",
    "x_groq",
    "error",
    "index",
    "finish_reason",
    "model",
    "response",
    "type",
    "status",
    "object",
    "item",
    "output",
    "summary",
    "audio",
    "messages",
    "prompt",
    "input",
    "tools",
    "n",
    "max_tokens",
    "stream",
    "stream_options",
    "include_usage",
    "image_url",
    "url",
    "file",
    "instructions",
]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["stop", "error", "completed"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=6,
        )
    ),
    max_leaves=24,
)
NEWLINES = st.sampled_from([b"\n", b"\r\n", b"\r"])
EVENTS = st.one_of(
    ODD.map(lambda value: b"data: " + json.dumps(value).encode()),
    st.sampled_from(
        [
            DONE.strip(),
            b": comment",
            b"",
            b"event: response.completed",
            b"event: error",
            b'data: {"choices":[],"usage":null',
            b"data: " + compact(chunk({"content": "Hi"}, usage=None)),
            b"data: " + compact(chunk({}, "stop", usage=usage(1, 2))),
            b"data: " + compact(chunk(choices=[], usage=usage(3, 4))),
            b'data: {"type":"response.completed",\ndata: "response":{"usage":{"input_tokens":1}}}',
            b'data: {"usage":null,\ndata: "choices":[],"usage":null}',
            b'data: {"\\ud800":1,"choices":[{}],"usage":null,"x":[1]}',
        ]
    ),
    st.binary(max_size=20),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    newline = draw(NEWLINES)
    return b"".join(
        event.replace(b"\n", newline) + newline * draw(st.integers(1, 3)) for event in draw(st.lists(EVENTS, max_size=8))
    )


@given(
    dialect=st.sampled_from(DIALECTS),
    body=streams(),
    cuts=st.lists(st.integers(0, 600), max_size=6),
    hide=st.booleans(),
    content_type=st.sampled_from(["text/event-stream", "application/json", "", "text/plain"]),
)
def test_any_body_split_anywhere_reads_the_same_and_loses_no_byte(
    dialect: Dialect, body: bytes, cuts: list[int], hide: bool, content_type: str
) -> None:
    whole = metered(dialect, FACTS, body, content_type=content_type, hide=hide)
    for pieces in (pieces_at(body, cuts), [body[at : at + 1] for at in range(len(body))]):
        assert run(dialect.meter(FACTS, content_type=content_type, hide_usage_chunk=hide), pieces) == whole
    if not hide:
        assert whole.relayed == body


@given(dialect=st.sampled_from(DIALECTS), body=ODD)
def test_any_json_answer_is_read_without_raising(dialect: Dialect, body: Any) -> None:
    sent = json.dumps(body).encode()
    assert metered(dialect, FACTS, sent, content_type="application/json").relayed == sent


@given(dialect=st.sampled_from(DIALECTS), body=ODD.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30))
def test_any_request_is_read_or_rejected(dialect: Dialect, body: bytes) -> None:
    try:
        facts = dialect.read_request(body, path={}, query={})
    except RequestRejectedError:
        return
    rewritten = dialect.rewrite_request(body, facts, ask_usage=True, max_output_tokens=1)
    again = dialect.read_request(rewritten, path={}, query={})
    assert (again.model, again.prompt, again.stream) == (facts.model, facts.prompt, facts.stream)


def test_text_beyond_the_event_maximum_is_relayed_and_flagged() -> None:
    event = b"data: " + compact(chunk({"content": "x" * (9 << 20)})) + b"\n\n"
    rest = b"data: " + compact(chunk({}, "stop", usage=usage(1, 2))) + b"\n\n" + DONE
    body = event + rest
    for hide in (False, True):
        meter = DIALECTS[0].meter(FACTS, content_type="text/event-stream", hide_usage_chunk=hide)
        reading = run(meter, [body[at : at + 65_536] for at in range(0, len(body), 65_536)])
        assert reading.relayed == body
        assert reading.flags == {"event_too_large"}
        assert (reading.usage is not None, reading.ended) == (True, True)
