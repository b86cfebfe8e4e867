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


CITED = {"type": "container_file_citation", "container_id": "cntr_4", "file_id": "cfile_1", "filename": "a.png"}
UNKEPT_ITEMS: list[dict[str, Any]] = [
    {"id": "ws_1", "type": "web_search_call", "action": {"type": "search", "query": "peace"}},
    {"id": "fc_1", "type": "function_call", "call_id": "c", "arguments": json.dumps({"id": "x", "container_id": "cntr_9"})},
    {"id": "rs_1", "type": "reasoning", "encrypted_content": "abc", "summary": []},
    {"id": "ci_1", "type": "code_interpreter_call", "container_id": "cntr_4"},
    {"id": "mcpl_1", "type": "mcp_list_tools", "tools": [{"annotations": [CITED], "file_id": "file-9", "content": [CITED]}]},
    {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "Hi", "annotations": [CITED]}]},
]
IN_UNKEPT = {("item", "ws_1"), ("item", "ci_1"), ("item", "mcpl_1"), ("container", "cntr_4"), ("file", "cfile_1")}


@pytest.mark.parametrize("size", [1, 64, 10**6])
def test_a_response_that_is_not_kept_tells_of_what_its_items_name_when_they_are_handed_back(size: int) -> None:
    whole = {"id": "resp_1", "output": UNKEPT_ITEMS}
    events = [{"type": "response.output_item.done", "output_index": at, "item": item} for at, item in enumerate(UNKEPT_ITEMS)]
    stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()

    assert set(found("unkept_response", json.dumps(whole).encode(), size=size)) == IN_UNKEPT
    assert set(found("unkept_response", stream, content_type="text/event-stream", size=size)) == IN_UNKEPT
    assert ("file", "cfile_1") in found("response", json.dumps(whole).encode())


@pytest.mark.parametrize("size", [1, 64, 10**6])
def test_a_message_tells_of_the_files_that_its_code_wrote_and_of_none_that_a_tool_of_the_client_named(size: int) -> None:
    written = {
        "content": {"type": "bash_code_execution_result", "content": [{"type": "bash_code_execution_output", "file_id": "f_1"}]}
    }
    said = {"type": "mcp_tool_result", "content": {"content": [{"type": "text", "file_id": "f_2"}]}}
    blocks: list[Any] = [{"type": "text", "text": "Hi"}, said, {"type": "bash_code_execution_tool_result"} | written]
    events = [{"type": "content_block_start", "index": at, "content_block": block} for at, block in enumerate(blocks)]
    stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()

    assert found("message", json.dumps({"id": "msg_1", "content": blocks}).encode(), size=size) == [("file", "f_1")]
    assert found("message", stream, content_type="text/event-stream", size=size) == [("file", "f_1")]


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
