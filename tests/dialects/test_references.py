"""Which stored objects a request names, wherever the provider would read them."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from search import cases

from tallygate.dialects import unread_body
from tallygate.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from tallygate.dialects.dialect import Dialect
from tallygate.dialects.gemini_generate import GeminiCountTokens, GeminiGenerate
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.dialects.references import kind_of_field, stored_references
from tallygate.dialects.unread_body import references_of_any
from tallygate.domain.errors import RequestRejectedError

CHAT, RESPONSES, MESSAGES, GEMINI = OpenAiChat(), OpenAiResponses(), AnthropicMessages(), GeminiGenerate()
COUNTS = (AnthropicCountTokens(), GeminiCountTokens())
USER = [{"role": "user", "content": "Hi"}]


def references(dialect: Dialect, **body: Any) -> list[tuple[str, str]]:
    whole = {"model": "m"} | ({} if dialect in (RESPONSES, GEMINI) else {"messages": USER}) | body
    facts = dialect.read_request(json.dumps(whole).encode(), path={"model": "m"}, query={})
    return [(reference.kind.value, reference.id) for reference in facts.references]


def said(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def contents(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": list(parts)}]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"previous_response_id": "resp_1"}, [("response", "resp_1")]),
        ({"conversation": "conv_1"}, [("conversation", "conv_1")]),
        ({"conversation": {"id": "conv_1"}}, [("conversation", "conv_1")]),
        ({"prompt": {"id": "pmpt_1", "variables": {"x": {"type": "input_file", "file_id": "file-1"}}}},
         [("prompt", "pmpt_1"), ("file", "file-1")]),
        ({"input": said({"type": "input_file", "file_id": "file-1"})}, [("file", "file-1")]),
        ({"input": said({"type": "input_image", "file_id": "file-1"})}, [("file", "file-1")]),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_id": "file-1"}]}]},
         [("file", "file-1")]),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, [("item", "msg_1")]),
        ({"input": [{"id": "msg_1"}]}, [("item", "msg_1")]),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, [("item", "rs_1")]),
        ({"input": [{"type": "reasoning", "id": "rs_1", "encrypted_content": "abc", "summary": []}]}, []),
        ({"input": [{"type": "image_generation_call", "id": "ig_1"}]}, [("item", "ig_1")]),
        ({"input": [{"type": "message", "role": "assistant", "id": "msg_1", "content": []}]}, []),
        ({"input": [{"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}]},
         [("container", "cntr_1"), ("item", "ci_1")]),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}]},
         [("vector_store", "vs_1"), ("vector_store", "vs_2")]),
        ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, [("container", "cntr_1")]),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]}, [("file", "file-1")]),
        ({"tools": [{"type": "image_generation", "input_image_mask": {"file_id": "file-1"}}]}, [("file", "file-1")]),
        ({"tools": [{"type": "azure_ai_search", "azure_ai_search": {"indexes": [{"project_connection_id": "c1"}]}}]},
         [("connection", "c1")]),
        ({"tools": [{"type": "memory_search", "memory_store_name": "m1"}]}, [("memory_store", "m1")]),
        ({"tools": [{"type": "collections_search", "collection_ids": ["c1", "c2"]}]}, [("collection", "c1"), ("collection", "c2")]),
        ({"tools": [{"type": "document_library", "library_ids": ["l1"]}]}, [("library", "l1")]),
        ({"agent_id": "ag_1", "metadata": {"agent_id": "mine"}}, [("agent", "ag_1")]),
        ({"newer": {"deep": [{"file_ids": ["file-1"]}]}}, [("file", "file-1")]),
        ({"newer": {"file_ids": [{"id": "file-1"}]}}, [("file", "file-1")]),
        ({"type": "tool_use", "input": said({"type": "input_file", "file_id": "file-1"})}, [("file", "file-1")]),
        ({"input": [{"type": "tool_use", "input": [{"type": "input_file", "file_id": "file-1"}]}]}, [("file", "file-1")]),
    ],
)  # fmt: skip
def test_a_response_names_what_it_continues_and_reads(body: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert references(RESPONSES, **body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": said({"type": "file", "file": {"file_id": "file-1"}})}, [("file", "file-1")]),
        ({"messages": said({"type": "file", "file": {"file_id": "file-1"}}, {"type": "file", "file": {"file_id": "file-1"}})},
         [("file", "file-1")]),
        ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, [("audio", "audio_1")]),
        ({"audio": {"voice": {"id": "voice_1"}, "format": "wav"}}, [("voice", "voice_1")]),
        ({"audio": {"voice": "alloy", "format": "wav"}}, []),
        ({"extra_body": {"google": {"cached_content": "cachedContents/1"}}}, [("cached_content", "cachedContents/1")]),
        ({"tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}}, [("vector_store", "vs_1")]),
        ({"messages": [{"role": "user", "content": "Hi", "attachments": [{"file_id": "file-1"}]}]}, [("file", "file-1")]),
    ],
)  # fmt: skip
def test_a_chat_names_files_and_earlier_audio(body: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert references(CHAT, **body) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"index_name": "i"}, "https://a/i"),  # Azure OpenAI, "On Your Data": without authentication, the resource's own identity
        ({"index_name": "i", "authentication": {"type": "system_assigned_managed_identity"}}, "https://a/i"),
        ({"index_name": "i", "authentication": {"type": ["api_key"]}}, "https://a/i"),
        ({"index_name": "i", "authentication": {"type": "api_key", "key": "own"}}, None),
        ({}, "https://a"),
    ],
)
def test_a_source_of_data_is_the_accounts_unless_the_request_brings_access_to_it(
    parameters: dict[str, Any], expected: str | None
) -> None:
    sources = [{"type": "azure_search", "parameters": {"endpoint": "https://a"} | parameters}, "none"]
    assert references(CHAT, data_sources=sources) == ([] if expected is None else [("data_source", expected)])
    assert [named.id for named in stored_references({"data_sources": [{"type": "azure_search"}]})] == ["data_source"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": said({"type": "image", "source": {"type": "file", "file_id": "file_1"}})}, [("file", "file_1")]),
        ({"messages": said({"type": "document", "source": {"type": "file", "file_id": "file_1"}})}, [("file", "file_1")]),
        ({"messages": said({"type": "container_upload", "file_id": "file_1"})}, [("file", "file_1")]),
        ({"container": "container_1"}, [("container", "container_1")]),
        ({"container": {"id": "container_1", "skills": [{"type": "custom", "skill_id": "skill_1"}]}},
         [("container", "container_1"), ("skill", "skill_1")]),
        ({"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}}, []),
        ({"system": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}, [("file", "file_1")]),
    ],
)  # fmt: skip
def test_a_message_names_files_containers_and_skills(body: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert references(MESSAGES, max_tokens=1, **body) == expected
    assert references(COUNTS[0], **body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"cachedContent": "cachedContents/1"}, [("cached_content", "cachedContents/1")]),
        ({"cached_content": "cachedContents/1"}, [("cached_content", "cachedContents/1")]),
        ({"contents": contents({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a-1"}})},
         [("file", "files/a-1")]),
        ({"contents": contents({"file_data": {"file_uri": "files/a-1"}})}, [("file", "files/a-1")]),
        ({"contents": contents({"fileData": {"fileUri": "http://127.0.0.1:9/v1beta/files/a-1?alt=media"}})},
         [("file", "files/a-1")]),
        ({"contents": contents({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/x%2Fa-1"}})},
         [("file", "https://generativelanguage.googleapis.com/v1beta/x%2Fa-1")]),
        ({"contents": contents({"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}})}, []),
        ({"contents": contents({"fileData": {"fileUri": "https://example.org/files/a.pdf"}})}, []),
        ({"tools": [{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/1"]}}]},
         [("file_search_store", "fileSearchStores/1")]),
    ],
)  # fmt: skip
def test_gemini_names_its_files_caches_and_stores(body: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert references(GEMINI, **body) == expected
    assert references(COUNTS[1], **body) == expected


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (CHAT, {"metadata": {"file_id": "mine"}}),
        (RESPONSES, {"client_metadata": {"thread_id": "mine", "turn_id": "mine"}}),  # Codex names its own session
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"default": {"file_id": "mine"}}}}]}),
        (MESSAGES, {"messages": said({"type": "tool_use", "id": "t", "name": "f", "input": {"file_id": "mine"}})}),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": {"default": {"file_id": "mine"}}}]}),
        (GEMINI, {"contents": contents({"functionCall": {"name": "f", "args": {"file_id": "mine"}}})}),
        (GEMINI, {"contents": contents({"functionResponse": {"name": "f", "response": {"file_id": "mine"}}})}),
    ],
)
def test_data_of_the_clients_own_names_nothing(dialect: Dialect, body: dict[str, Any]) -> None:
    assert references(dialect, **body) == []


def test_an_escaped_name_is_the_same_name() -> None:
    body = rb'{"model":"m","input":"Hi","previous_response\u005fid":"resp_1"}'
    assert [each.id for each in RESPONSES.read_request(body, path={}, query={}).references] == ["resp_1"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, [("item", "msg_1")]),
        ({"input": [{"id": "msg_1"}]}, [("item", "msg_1")]),
        ({"items": [{"type": "item_reference", "id": "msg_1"}]}, [("item", "msg_1")]),
        ({"data_source": {"source": {"type": "file_id", "id": "file-1"}}}, [("file", "file-1")]),
        ({"type": "tool_use", "input": {"file_id": "file-1"}}, [("file", "file-1")]),
        ({"items": [{"id": "msg_1"}], "type": {"id": "x"}}, [("item", "msg_1")]),
        ({"items": [{"id": "rs_1", "type": "reasoning"}]}, [("item", "rs_1")]),
        ({"items": [{"id": "msg_1", "type": "message", "role": "user", "content": "Hi"}]}, []),
        ({"items": "msg_1", "input": {"id": "msg_1"}}, []),
        ({"purpose": "batch", "filename": "x.jsonl", "bytes": 3}, []),
    ],
)
def test_a_body_that_no_dialect_reads_names_the_same(body: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert [(each.kind, each.id) for each in references_of_any(json.dumps(body).encode())] == expected


@pytest.mark.parametrize("name", ["File_Ids", "fileIds", "file-ids", "previousResponseId", "CACHEDCONTENT"])
def test_a_body_that_no_dialect_reads_has_no_name_in_another_spelling(name: str) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        references_of_any(json.dumps({"deep": [{name: "x"}]}).encode())
    assert refused.value.param == f"deep[0].{name}"


@pytest.mark.parametrize("name", ["file_id", "File-ID", "fileIds", "file_ids[]", "tools[0][vector_store_ids][]", "x.container"])
def test_a_field_of_a_query_or_a_form_names_an_object_in_any_spelling(name: str) -> None:
    assert kind_of_field(name)


@pytest.mark.parametrize("name", ["", "file", "filename", "purpose", "prompt", "idfile", "profile_id", "[]"])
def test_other_fields_name_nothing(name: str) -> None:
    assert not kind_of_field(name)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://generativelanguage.mtls.googleapis.com/v1beta/%66iles/a", "whole"),
        ("https://generativelanguage%2Egoogleapis.com/v1beta/%66iles/a", "whole"),
        ("https://example.com/v1beta//files/a", "files/a"),
        ("https://example.com/v1beta/files/own/../a", "whole"),
        ("https://example.com/files/a", None),
        ("https://www.youtube.com/watch?v=a", None),
        ("data:text/plain,a", None),
        ("gs://bucket/a.pdf", "whole"),
        ("GS://bucket/a.pdf", "whole"),
        ("s3://bucket/a.pdf", "whole"),
        (" https://example.com/a", "whole"),
    ],
)
def test_a_uri_that_may_be_a_file_of_googles_is_one(uri: str, expected: str | None) -> None:
    named = [] if expected is None else [("file", uri if expected == "whole" else expected)]
    assert references(GEMINI, contents=contents({"fileData": {"fileUri": uri}})) == named


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"id": "i1", "publisher": {"id": "p"}}, [("content_item", "i1")]),
        ({"items": [{"id": 7}, "i2"], "ids": ["i3"]}, [("content_item", "7"), ("content_item", "i2"), ("content_item", "i3")]),
        ([{"id": "i1"}, {"item_id": "i2"}], [("content_item", "i2"), ("content_item", "i1")]),
        ({"filter": {"producer_ids": ["a", "b"]}}, [("producer", "a"), ("producer", "b")]),
        ({"item_id": "i1", "item_title": "x", "author": ["y"], "visible": True}, [("content_item", "i1")]),
    ],
)
def test_what_is_put_under_an_id_or_a_producers_name_is_named_by_it(body: Any, expected: list[tuple[str, str]]) -> None:
    assert [(each.kind, each.id) for each in references_of_any(json.dumps(body).encode(), put="content_item")] == expected


def run(**source: Any) -> dict[str, Any]:
    """Of an eval, as OpenAI's API reference has it."""
    messages = {"type": "item_reference", "item_reference": "item.input"}
    return {"name": "r", "data_source": {"type": "completions", "source": source, "input_messages": messages}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (run(type="stored_completions", metadata={"a": "b"}, limit=10), "data_source.source.type"),
        ({"data_source": {"type": "responses", "source": {"type": "responses"}}}, "data_source.source.type"),
        ({"data_source": {"input_messages": {"source": [{"type": "Responses "}]}}}, "data_source.input_messages.source[0].type"),
        ({"data_source": {"input_messages": {"type": "stored-completions"}}}, "data_source.input_messages.type"),
        ({"data_source_config": {"type": "stored_completions", "metadata": {}}}, "data_source_config.type"),
        ({"data_source_config": {"type": "logs"}}, "data_source_config.type"),
        ({"dataSource": {"Source": {"TYPE": "responses"}}}, "dataSource.Source.TYPE"),
        ([{"source": {"type": "responses"}}], "[0].source.type"),
        ({"source": {"type": "file_content", "content": [], "more": {"type": "stored_completions"}}}, "source.more.type"),
    ],
)
def test_what_would_read_everybodys_stored_answers_is_refused_by_name(body: Any, param: str) -> None:
    text = json.dumps(body).encode()
    with pytest.raises(RequestRejectedError, match="in bulk") as refused:
        references_of_any(text)
    assert refused.value.param == param
    references_of_any(text, is_shared=False)


@pytest.mark.parametrize(
    "body",
    [
        run(type="file_content", content=[{"item": {"source": {"type": "responses"}, "type": "stored_completions"}}]),
        {"data_source": {"type": "responses", "source": {"type": "file_content", "content": []}}},
        {"data_source_config": {"type": "custom", "schema": {"source": {"type": "responses"}}}},
        {"items": [{"type": "code_interpreter_call", "outputs": [{"type": "logs", "logs": "x"}]}], "metadata": {"type": "logs"}},
        {"type": "responses"},
    ],
)
def test_what_a_client_writes_out_itself_is_no_bulk_read(body: Any) -> None:
    references_of_any(json.dumps(body).encode())


@pytest.mark.parametrize("name", ["ID", "producerId", "Items"])
def test_nothing_is_put_under_another_spelling(name: str) -> None:
    with pytest.raises(RequestRejectedError):
        references_of_any(json.dumps({name: "x"}).encode(), put="content_item")
    references_of_any(json.dumps({name: "x"}).encode())


@pytest.mark.parametrize(
    "body", [b" " * 9_000_000 + b"1", b"1." + b"1" * 9_000_000, b'"' + b"x" * 9_000_000 + b'"'], ids=["blanks", "digits", "text"]
)
def test_a_long_body_of_one_value_is_read_in_one_go(body: bytes) -> None:
    assert references_of_any(body) == ()


def test_a_uri_that_is_too_long_for_any_file_stands_whole() -> None:
    for uri in ("files/" * 1_500, "https://example.com/" + "x" * 9_000):
        assert [named.id for named in stored_references({"fileData": {"fileUri": uri}})] == [uri]


KEYS = st.sampled_from(
    [
        "type",
        "Type",
        "t_y-pe",
        "id",
        "ids",
        "input",
        "items",
        "file_id",
        "conversation",
        "query",
        "text",
        "source",
        "metadata",
        "x" * 300,
    ]
)
TEXTS = st.sampled_from(["", "file-1", "message", "responses", "logs", "stored_completions", "item_reference", "file_id", "x"])
BODIES = st.dictionaries(
    KEYS,
    st.recursive(
        TEXTS | st.integers(0, 3) | st.none(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@given(BODIES, st.booleans())
@example({"t_" + "_" * 300 + "ype": "stored_completions"}, True)
@settings(max_examples=cases(short=200, steady=1_000, deep=10_000), deadline=None)
def test_a_body_whose_names_refer_to_nothing_is_not_walked_for_references(fields: dict[str, Any], is_shared: bool) -> None:
    body = json.dumps(fields).encode()

    def read() -> object:
        try:
            return references_of_any(body, is_shared=is_shared)
        except RequestRejectedError as error:
            return str(error)

    found = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unread_body, "_may_refer", lambda _keys: True)
        assert read() == found
