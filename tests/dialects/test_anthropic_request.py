"""What a request to the Messages API says, and the one edit that is ever made to it."""

import json
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.dialects.anthropic_conditions import conditions_of
from tallygate.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX

DIALECT = AnthropicMessages()
PNG = b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 480) + b"\x08\x06\0\0\0").decode()


def facts_of(**members: Any) -> RequestFacts:
    return DIALECT.read_request(json.dumps({"model": "claude", **members}).encode(), path={}, query={})


@pytest.mark.parametrize(
    "members",
    [{"compaction": {"type": "summarize"}}, {"context_management": {"edits": [{"type": "compact_20260112"}]}}],
)
def test_a_compaction_reads_the_prompt_once_more_and_answers_once_more(members: dict[str, Any]) -> None:
    request = facts_of(max_tokens=9, messages=said({"type": "text", "text": "Hi"}), **members)
    assert (request.prompt_reads, request.choices) == (2, 2)
    clearing = {"edits": [{"type": "clear_tool_uses_20250919"}, 5]}
    request = facts_of(max_tokens=9, messages=[], context_management=clearing)
    assert (request.prompt_reads, request.choices) == (1, 1)


def said(*blocks: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": list(blocks)}]


def test_a_plain_request_is_read() -> None:
    facts = facts_of(max_tokens=1024, system="Be brief.", messages=[{"role": "user", "content": "Hello"}], stream=True)
    assert facts == RequestFacts(
        model="claude",
        prompt=PromptShape(texts=("Be brief.", "Hello"), messages=2),
        stream=True,
        max_output_tokens=1024,
        default_conditions=conditions_of(None, None, None)[1],
    )


def test_a_missing_maximum_is_left_for_the_upstream_to_refuse() -> None:
    assert facts_of(messages=[]).max_output_tokens is None


def test_an_absurd_maximum_is_cut_to_what_money_can_hold() -> None:
    assert facts_of(max_tokens=10**30).max_output_tokens == TOKENS_MAX


def test_every_kind_of_block_is_counted() -> None:
    rtf = b64encode(b"{\\rtf1 123456}").decode()
    facts = facts_of(
        system=[{"type": "text", "text": "S1"}, {"type": "text", "text": "S2"}],
        messages=[
            *said(
                {"type": "text", "text": "T"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "document", "title": "D", "source": {"type": "base64", "media_type": "application/rtf", "data": rtf}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "nested"}]}},
            ),
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": [1, 2]}},
                ],
            },
            *said(
                {"type": "tool_result", "tool_use_id": "t1", "content": "found"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "also"}]},
            ),
        ],
        tools=[{"name": "look", "input_schema": {"type": "object"}}],
    )
    assert facts.prompt == PromptShape(
        texts=("S1", "S2", "T", "D", "plain", "nested", "Hm.", "look", '{"at":[1,2]}', "found", "also"),
        messages=4,
        calls=1,
        tools=('{"name":"look","input_schema":{"type":"object"}}',),
        images=(ImageInput(width=640, height=480),),
        opaque_bytes=15,  # 20 base64 characters stand for 14 or 15 bytes
    )
    assert not facts.has_unknown_input


@pytest.mark.parametrize(
    "block",
    [
        {"type": "hologram", "depth": "seventeen"},
        {"type": "search_result", "title": "seventeen", "source": "https://x", "content": []},
        {"type": "document", "source": {"type": "quantum", "data": "seventeen"}},
        {"type": ["odd"], "text": "seventeen"},
    ],
)
def test_what_is_unknown_counts_as_its_json_text(block: dict[str, Any]) -> None:
    assert any("seventeen" in text for text in facts_of(messages=said(block)).prompt.texts)


def test_an_output_schema_is_read_by_the_model_too() -> None:
    schema = {"format": {"type": "json_schema", "schema": {"a": 1}}}
    assert facts_of(output_config=schema).prompt.schemas == ('{"format":{"type":"json_schema","schema":{"a":1}}}',)
    assert facts_of(output_format={"a": 1}).prompt.schemas == ('{"a":1}',)
    assert facts_of(output_config={"effort": "low"}).prompt.texts == ('{"effort":"low"}',)  # no schema


@pytest.mark.parametrize(
    ("citations", "tokens"), [({"enabled": True}, 600), ({"enabled": False}, 0), ([{"cited_text": "a"}], 0), (None, 0)]
)
def test_citations_are_input_of_the_provider_s_own(citations: object, tokens: int) -> None:
    document = {"type": "document", "source": {"type": "text", "data": "plain"}, "citations": citations}
    assert facts_of(messages=said(document, document)).prompt.tokens == tokens


def test_an_image_is_one_whatever_its_media_type_says() -> None:
    facts = facts_of(messages=said({"type": "image", "source": {"type": "base64", "data": PNG}}))
    assert facts.prompt.images == (ImageInput(width=640, height=480),)


@pytest.mark.parametrize(
    "members",
    [
        {"messages": said({"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}})},
        {"messages": said({"type": "document", "source": {"type": "file", "file_id": "file_1"}})},
        {"messages": said({"type": "document", "source": {"type": "base64", "media_type": "Application/PDF", "data": "AAAA"}})},
        {"messages": said({"type": "container_upload", "file_id": "file_1"})},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
        {"mcp_servers": [{"type": "url", "url": "https://x", "name": "m"}]},
    ],
)
def test_what_cannot_be_seen_is_said(members: dict[str, Any]) -> None:
    assert facts_of(**members).has_unknown_input


@pytest.mark.parametrize(
    ("tools", "searches"),
    [
        ([{"type": "web_search_20250305", "max_uses": 5}], 5),
        ([{"type": "web_search_20260209"}], 30),
        ([{"type": "web_search_20250305", "max_uses": 5}, {"type": "web_search_20260209", "max_uses": 2}], 7),
        ([{"type": "web_search_20250305", "max_uses": True}], 30),
        ([{"type": "web_search_20250305", "max_uses": 10**30}], TOKENS_MAX),
        ([{"type": "web_search_20250305", "max_uses": -1}], 0),
        ([{"type": "web_fetch_20250910", "max_uses": 5}, {"name": "web_search", "input_schema": {}}], 0),
    ],
)
def test_searches_are_bounded_by_what_the_tool_may_be_used(tools: list[dict[str, Any]], searches: int) -> None:
    assert facts_of(tools=tools).calls == ({Unit.WEB_SEARCH: searches} if searches else {})


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [(None, 0), ("custom", 0), ("bash_20250124", 2000), ("text_editor_20250728", 2000), ("computer_20251124", 2000)],
)
def test_tools_that_the_client_runs_hide_nothing_but_the_definition_that_the_provider_has(kind: str | None, tokens: int) -> None:
    facts = facts_of(tools=[{"type": kind, "name": "t"}])
    assert not facts.has_unknown_input
    assert facts.prompt.tokens == tokens


MARK_5M = {"type": "ephemeral"}
MARK_1H = {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(
    ("members", "marks"),
    [
        ({}, (False, False)),
        ({"cache_control": MARK_5M}, (True, False)),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, (True, False)),
        ({"cache_control": None}, (False, False)),
        ({"system": [{"type": "text", "text": "s", "cache_control": MARK_1H}]}, (False, True)),
        ({"tools": [{"name": "t", "cache_control": MARK_5M}]}, (True, False)),
        ({"messages": said({"type": "text", "text": "x", "cache_control": MARK_5M})}, (True, False)),
        (
            {"messages": said({"type": "tool_result", "content": [{"type": "text", "text": "x", "cache_control": MARK_1H}]})},
            (False, True),
        ),
        (
            {
                "messages": said(
                    {"type": "text", "text": "x", "cache_control": MARK_5M},
                    {"type": "image", "source": {}, "cache_control": MARK_1H},
                )
            },
            (True, True),
        ),
        ({"messages": said({"type": "novel", "inner": {"cache_control": MARK_5M}})}, (True, True)),  # of either kind, so both
        ({"messages": [{"role": "user", "content": "say cache_control"}]}, (False, False)),
    ],
)
def test_cache_marks_are_found_wherever_they_stand(members: dict[str, Any], marks: tuple[bool, bool]) -> None:
    facts = facts_of(**members)
    assert (Unit.CACHE_WRITE_5M in facts.units, Unit.CACHE_WRITE_1H in facts.units) == marks


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"max_tokens": 5}', "model"),
        (b'{"model": "", "max_tokens": 5}', "model"),
        (b'{"model": 5}', "model"),
        (b'{"model": "m", "max_tokens": "5"}', "max_tokens"),
        (b'{"model": "m", "max_tokens": -1}', "max_tokens"),
        (b'{"model": "m", "max_tokens": 1.5}', "max_tokens"),
        (b'{"model": "m", "stream": "yes"}', "stream"),
        (b'{"model": "m", "model": "n"}', "model"),
        (b"[]", None),
        (b"", None),
        (b"{", None),
    ],
)
def test_what_cannot_be_priced_is_refused_with_the_field_at_fault(body: bytes, param: str | None) -> None:
    for dialect in (DIALECT, AnthropicCountTokens()):
        with pytest.raises(RequestRejectedError) as refused:
            dialect.read_request(body, path={}, query={})
        assert refused.value.param == param


def test_nothing_is_rewritten_but_the_maximum() -> None:
    body = b'{ "model":"m",\n "messages":[{"role":"user","content":"max_tokens"}], "max_tokens" : 5000 , "x":{"max_tokens":1}}'
    facts = DIALECT.read_request(body, path={}, query={})
    assert DIALECT.rewrite_request(body, facts, ask_usage=True, max_output_tokens=None) is body
    lowered = DIALECT.rewrite_request(body, facts, ask_usage=True, max_output_tokens=70)
    assert lowered == body.replace(b": 5000 ", b": 70 ")


def test_a_missing_maximum_is_added_when_one_is_needed() -> None:
    body = b'{"model":"m"}'
    facts = DIALECT.read_request(body, path={}, query={})
    lowered = DIALECT.rewrite_request(body, facts, ask_usage=False, max_output_tokens=70)
    assert json.loads(lowered) == {"model": "m", "max_tokens": 70}


def test_counting_tokens_asks_for_nothing_that_costs() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"a long text"}]}'
    dialect = AnthropicCountTokens()
    facts = dialect.read_request(body, path={}, query={})
    assert facts == RequestFacts(model="m", prompt=PromptShape(), has_output=False)
    assert dialect.rewrite_request(body, facts, ask_usage=True, max_output_tokens=5) is body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "source", "input", "name", "cache_control", "data"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json_values, json_values, json_values)
def test_no_prompt_is_too_odd_to_be_read(system: object, messages: object, tools: object) -> None:
    facts = facts_of(system=system, messages=messages, tools=tools, max_tokens=5)
    assert facts.max_output_tokens == 5


@given(st.lists(st.text(min_size=1, max_size=10), max_size=5))
def test_no_text_is_lost(texts: list[str]) -> None:
    facts = facts_of(messages=said(*({"type": "text", "text": each} for each in texts)))
    assert facts.prompt.texts == tuple(texts)
