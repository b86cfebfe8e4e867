"""What answers tell of objects: at the places where the provider writes, whole, cut, streamed, in any pieces."""

import json
from typing import Any

import pytest

from tallygate.dialects.made_objects import BODY_BYTES_MAX, MADE_MAX, MadeReader, objects_in
from tallygate.dialects.object_lists import read_page
from tallygate.domain.stored_object import StoredReference


def found(kind: str, body: bytes, *, content_type: str = "application/json", prefix: str = "", size: int = 10**9) -> list[Any]:
    reader = MadeReader(kind, prefix=prefix, content_type=content_type)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    reader.end_body()
    return [(made.kind, made.id) for made in reader.found]


RESPONSE = {
    "id": "resp_1",
    "conversation": {"id": "conv_1"},
    "output": [{"id": "ci_1", "type": "code_interpreter_call", "container_id": "cntr_1"}, {"id": "msg_1", "type": "message"}],
    "metadata": {"id": "resp_2", "container_id": "cntr_2", "output": [{"id": "msg_2"}]},
    "tools": [{"type": "code_interpreter", "container": "cntr_3"}],
}
IN_RESPONSE = [("response", "resp_1"), ("conversation", "conv_1"), ("item", "ci_1"), ("item", "msg_1"), ("container", "cntr_1")]


def test_a_response_tells_of_itself_and_of_what_came_with_it_and_of_nothing_that_was_sent() -> None:
    assert found("response", json.dumps(RESPONSE).encode()) == IN_RESPONSE


@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
def test_a_stream_tells_the_same_in_any_pieces(size: int) -> None:
    said = json.dumps({"type": "response.output_text.delta", "delta": json.dumps({"response": {"id": "resp_9"}})})
    events = [
        json.dumps({"type": "response.created", "response": {"id": "resp_1"}}),
        said,
        json.dumps({"type": "response.completed", "response": RESPONSE}),
    ]
    stream = "".join(f"data: {event}\n\n" for event in events).encode()

    for content_type in ("text/event-stream", "application/json", "text/plain", ""):
        assert found("response", stream, content_type=content_type, size=size) == IN_RESPONSE
        assert found("response", b"\xef\xbb\xbf\n" + stream, content_type=content_type, size=size) == IN_RESPONSE
        whole = b"\xef\xbb\xbf\n" + json.dumps(RESPONSE).encode() + b"\0"
        assert found("response", whole, content_type=content_type, size=size) == IN_RESPONSE


@pytest.mark.parametrize("cut", [20, 40, 150])
def test_a_cut_answer_tells_what_came(cut: int) -> None:
    assert found("response", json.dumps(RESPONSE).encode()[:cut])[:1] == [("response", "resp_1")]


def test_of_an_answer_above_the_bound_the_beginning_is_read() -> None:
    body = json.dumps({"id": "resp_1", "output": [{"id": "msg_1", "text": "x" * BODY_BYTES_MAX}]}).encode()
    reader = MadeReader("response", prefix="", content_type="application/json")
    for start in range(0, len(body), 65_536):
        reader.feed(body[start : start + 65_536])
    reader.end_body()

    assert StoredReference("response", "resp_1") in reader.found
    assert reader.is_unread


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"no json", b"\x1f\x8b", b'{"id": 3.5}', b'{"id": null}', b"[" * 100_000])
def test_what_is_no_object_tells_nothing(body: bytes) -> None:
    assert found("file", body) == []


def test_so_many_objects_are_told_of_and_no_more() -> None:
    assert len(objects_in({"id": "r", "output": [{"id": f"msg_{n}"} for n in range(1_000)]}, "response")) == MADE_MAX


def test_googles_names_count_where_they_are_of_their_kind() -> None:
    assert found("file", b'{"file": {"name": "files/abc", "uri": "https://x/files/abc"}}', prefix="files/") == [
        ("file", "files/abc")
    ]
    assert found("file", b'{"name": "cachedContents/abc"}', prefix="files/") == []
    assert found("batch", b'{"name": "batches/1", "response": {"responsesFile": "files/2"}}', prefix="batches/") == [
        ("batch", "batches/1"),
        ("batch", "1"),
        ("file", "files/2"),
    ]


def test_gloos_chats_and_items_are_told_of() -> None:
    assert found("chat", b'{"chat_id": "c1", "query_id": "q"}') == [("chat", "c1")]
    assert found("ingestion", b'{"ingesting": ["i1", 2, null, {}], "duplicates": ["i3"]}') == [
        ("content_item", "i1"),
        ("content_item", "2"),
    ]
    assert found("message", b'{"id": "msg_1", "container": {"id": "container_1"}}') == [("container", "container_1")]


@pytest.mark.parametrize("body", [b"", b"null", b'"x"', b'{"a": 1}', b'{"a": [1], "b": []}', b"[" * 100_000, b'{"data": [1'])
def test_what_is_no_list_is_no_page(body: bytes) -> None:
    assert read_page(body, prefix="") is None
