"""What a request to the Gemini API says, in both spellings, and the one edit that is ever made to it."""

import json
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.dialects.dialect import RequestFacts, units_of
from tallygate.dialects.gemini_embed import GeminiEmbed
from tallygate.dialects.gemini_generate import GeminiCountTokens, GeminiGenerate, GeminiStreamGenerate
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.domain.stored_object import StoredKind, StoredReference
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX

DIALECT = GeminiGenerate()
PATH = {"model": "gemini-2.5-flash"}
GIF = b64encode(b"GIF89a" + struct.pack("<HH", 20, 10) + b"\0\0\0\0").decode()

PICTURES_IN = frozenset({Unit.INPUT_IMAGE, Unit.CACHED_INPUT_IMAGE, Unit.INPUT_VIDEO})
PICTURES_OUT = frozenset({Unit.OUTPUT_IMAGE, Unit.OUTPUT_VIDEO})


def facts_of(dialect: Any = DIALECT, **members: Any) -> RequestFacts:
    facts: RequestFacts = dialect.read_request(json.dumps(members).encode(), path=PATH, query={})
    return facts


def said(*parts: object) -> list[dict[str, object]]:
    return [{"role": "user", "parts": list(parts)}]


def test_a_plain_request_is_read() -> None:
    facts = facts_of(
        contents=said({"text": "Hello"}),
        systemInstruction={"parts": [{"text": "Be brief."}]},
        generationConfig={"maxOutputTokens": 100, "candidateCount": 2},
    )
    assert facts == RequestFacts(
        model="gemini-2.5-flash",
        prompt=PromptShape(texts=("Be brief.", "Hello"), messages=2),
        max_output_tokens=100,
        choices=2,
        units=PICTURES_OUT,
    )


def test_whether_it_streams_is_in_the_path_alone() -> None:
    assert not facts_of(stream=True).stream
    assert facts_of(GeminiStreamGenerate()).stream


def test_snake_case_is_read_like_camel_case() -> None:
    camel = facts_of(
        systemInstruction={"parts": [{"text": "S"}]},
        contents=said(
            {"inlineData": {"mimeType": "audio/mp3", "data": "AAAAAAAA"}},
            {"functionCall": {"name": "f", "args": {}}},
            {"fileData": {}},
        ),
        generationConfig={"maxOutputTokens": 7, "candidateCount": 3, "responseModalities": ["AUDIO"], "responseSchema": {"a": 1}},
        tools=[{"functionDeclarations": [{"name": "f"}]}],
        cachedContent="cachedContents/1",
    )
    snake = facts_of(
        system_instruction={"parts": [{"text": "S"}]},
        contents=said(
            {"inline_data": {"mime_type": "audio/mp3", "data": "AAAAAAAA"}},
            {"function_call": {"name": "f", "args": {}}},
            {"file_data": {}},
        ),
        generation_config={
            "max_output_tokens": 7,
            "candidate_count": 3,
            "response_modalities": ["AUDIO"],
            "response_schema": {"a": 1},
        },
        tools=[{"function_declarations": [{"name": "f"}]}],
        cached_content="cachedContents/1",
    )
    assert camel == snake
    assert camel == RequestFacts(
        model="gemini-2.5-flash",
        prompt=PromptShape(
            texts=("S", '{"name":"f","args":{}}'), messages=2, tools=('{"name":"f"}',), schemas=('{"a":1}',), opaque_bytes=6
        ),
        max_output_tokens=7,
        choices=3,
        units=units_of(audio_input=True, audio_output=True) | PICTURES_IN,
        has_unknown_input=True,
        has_unseen_input=True,
        references=(StoredReference(StoredKind.CACHED_CONTENT, "cachedContents/1"),),
    )


@pytest.mark.parametrize(
    "members",
    [
        {"generationConfig": {}, "generation_config": {}},
        {"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}},
        {"contents": said({"inlineData": {"data": "AA=="}, "inline_data": {}})},
        {"cachedContent": "a", "cached_content": "b"},
    ],
)
def test_a_member_in_both_spellings_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(RequestRejectedError, match="given twice"):
        facts_of(**members)


@pytest.mark.parametrize(
    ("stated", "most"),
    [(100, 100), ("100", 100), (100.0, 100), (1e3, 1000), (0, None), (None, None), (10**30, TOKENS_MAX)],
)
def test_numbers_are_read_as_proto_json_reads_them(stated: object, most: int | None) -> None:
    assert facts_of(generationConfig={"maxOutputTokens": stated}).max_output_tokens == most


@pytest.mark.parametrize("stated", [-1, 1.5, "ten", "", " 5", "1e2", True, [5], {"value": 5}, "٣"])
def test_a_maximum_that_is_no_number_is_refused(stated: object) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        facts_of(generationConfig={"maxOutputTokens": stated})
    assert refused.value.param == "generationConfig.maxOutputTokens"


def test_more_candidates_than_the_maximum_are_refused() -> None:
    assert facts_of(generationConfig={"candidateCount": 128}).choices == 128
    assert facts_of(generationConfig={"candidateCount": 0}).choices == 1
    with pytest.raises(RequestRejectedError, match="at most 128"):
        facts_of(generationConfig={"candidateCount": 129})


def test_every_kind_of_part_is_counted() -> None:
    facts = facts_of(
        contents=[
            *said({"text": "T"}, {"inlineData": {"mimeType": "image/gif", "data": GIF}}),
            {
                "role": "model",
                "parts": [
                    {"text": "Hm.", "thought": True, "thoughtSignature": "sig"},
                    {"functionCall": {"name": "look", "args": {"at": 1}}},
                    {"executableCode": {"language": "PYTHON", "code": "1"}},
                    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
                ],
            },
            *said(
                {
                    "functionResponse": {
                        "name": "look",
                        "response": {"found": True},
                        "parts": [{"inlineData": {"mimeType": "application/rtf", "data": "AAAA"}}],
                    }
                }
            ),
        ],
    )
    assert facts.prompt == PromptShape(
        texts=(
            "T",
            "Hm.",
            '{"name":"look","args":{"at":1}}',
            '{"language":"PYTHON","code":"1"}',
            '{"outcome":"OUTCOME_OK","output":"1"}',
            '{"name":"look","response":{"found":true}}',
        ),
        messages=3,
        images=(ImageInput(width=20, height=10),),
        opaque_bytes=3,
    )
    assert not facts.has_unknown_input


def test_lists_may_be_left_out_around_one_thing() -> None:
    facts = facts_of(contents={"parts": {"text": "Hello"}}, tools={"functionDeclarations": {"name": "f"}})
    assert facts.prompt == PromptShape(texts=("Hello",), messages=1, tools=('{"name":"f"}',))


@pytest.mark.parametrize(
    "part", [{"hologram": "seventeen"}, "seventeen", {"text": {"odd": "seventeen"}}, {"inlineData": "seventeen"}]
)
def test_what_is_unknown_counts_as_its_json_text(part: object) -> None:
    assert any("seventeen" in text for text in facts_of(contents=said(part)).prompt.texts)


@pytest.mark.parametrize(
    ("members", "audio"),
    [
        ({"cachedContent": "cachedContents/1"}, False),
        ({"contents": said({"fileData": {"mimeType": "application/pdf", "fileUri": "https://x"}})}, False),
        ({"contents": said({"fileData": {"mimeType": "video/mp4", "fileUri": "https://x"}})}, True),
        ({"contents": said({"fileData": {"fileUri": "https://youtu.be/x"}})}, True),  # unknown: it may have sound
        ({"tools": [{"googleSearch": {}}]}, False),
        ({"tools": [{"url_context": {}}]}, False),
        ({"tools": [{"functionDeclarations": [], "codeExecution": {}}]}, False),
    ],
)
def test_what_cannot_be_seen_is_said(members: dict[str, Any], audio: bool) -> None:
    facts = facts_of(**members)
    assert facts.has_unknown_input
    assert (Unit.INPUT_AUDIO in facts.units) is audio


@pytest.mark.parametrize(("mime_type", "audio"), [("audio/mp3", True), ("video/mp4", True), ("application/pdf", False)])
def test_sound_can_be_charged_as_audio(mime_type: str, audio: bool) -> None:
    assert facts_of(contents=said({"inlineData": {"mimeType": mime_type, "data": "AAAA"}})).has_audio is audio


def test_an_image_by_uri_is_an_image_of_unknown_size() -> None:
    facts = facts_of(contents=said({"fileData": {"mimeType": "image/png", "fileUri": "https://x"}}))
    assert facts.prompt.images == (ImageInput(),)


def test_tools_that_the_client_runs_hide_nothing() -> None:
    assert not facts_of(tools=[{"functionDeclarations": [{"name": "f"}]}, {"computerUse": {}}]).has_unknown_input


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"contents":[],"contents":[]}', b"\xff"])
def test_what_two_parsers_could_read_differently_is_refused(body: bytes) -> None:
    for dialect in (DIALECT, GeminiCountTokens(), GeminiEmbed()):
        with pytest.raises(RequestRejectedError):
            dialect.read_request(body, path=PATH, query={})


def test_a_path_without_a_model_is_refused() -> None:
    for dialect in (DIALECT, GeminiCountTokens(), GeminiEmbed()):
        with pytest.raises(RequestRejectedError):
            dialect.read_request(b"{}", path={}, query={})


@pytest.mark.parametrize(
    ("body", "lowered"),
    [
        (
            b'{ "contents":[],"generationConfig" : {"temperature":1, "maxOutputTokens" : "5000"} }',
            b'{ "contents":[],"generationConfig" : {"temperature":1, "maxOutputTokens" : 70} }',
        ),
        (b'{"generation_config":{"max_output_tokens":5000}}', b'{"generation_config":{"max_output_tokens":70}}'),
        (b'{"generationConfig":{"max_output_tokens":5000}}', b'{"generationConfig":{"max_output_tokens":70}}'),
        (b'{"contents":[]}', b'{"generationConfig":{"maxOutputTokens":70},"contents":[]}'),
        (b'{"generationConfig":null}', b'{"generationConfig":{"maxOutputTokens":70}}'),
        (b'{"generation_config":{}}', b'{"generation_config":{"maxOutputTokens":70}}'),
    ],
)
def test_nothing_is_rewritten_but_the_maximum(body: bytes, lowered: bytes) -> None:
    facts = DIALECT.read_request(body, path=PATH, query={})
    assert DIALECT.rewrite_request(body, facts, ask_usage=True, max_output_tokens=None) is body
    assert DIALECT.rewrite_request(body, facts, ask_usage=True, max_output_tokens=70) == lowered
    assert DIALECT.read_request(lowered, path=PATH, query={}).max_output_tokens == 70


def test_embeddings_have_input_only() -> None:
    facts = facts_of(
        GeminiEmbed(), model="models/e", content={"parts": [{"text": "one"}]}, title="t", taskType="RETRIEVAL_DOCUMENT"
    )
    assert facts == RequestFacts(model="gemini-2.5-flash", prompt=PromptShape(texts=("one", "t")), has_output=False)


def test_a_batch_of_embeddings_is_the_sum_of_its_requests() -> None:
    facts = facts_of(GeminiEmbed(), requests=[{"content": {"parts": [{"text": "one"}]}}, {"content": {"parts": [{"text": "two"}]}}])
    assert facts == RequestFacts(model="gemini-2.5-flash", prompt=PromptShape(texts=("one", "two")), has_output=False)
    body = b'{"requests":[]}'
    assert GeminiEmbed().rewrite_request(body, facts, ask_usage=True, max_output_tokens=5) is body


def test_counting_tokens_asks_for_nothing_that_costs() -> None:
    facts = facts_of(GeminiCountTokens(), contents=said({"text": "a long text"}))
    assert facts == RequestFacts(model="gemini-2.5-flash", prompt=PromptShape(), has_output=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["parts", "text", "inlineData", "mimeType", "data", "fileData", "functionResponse", "functionDeclarations", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values, json_values, json_values)
def test_no_prompt_is_too_odd_to_be_read(system: object, contents: object, tools: object) -> None:
    facts = facts_of(systemInstruction=system, contents=contents, tools=tools, generationConfig={"maxOutputTokens": 5})
    assert facts.max_output_tokens == 5
    assert facts_of(GeminiEmbed(), content=contents, requests=tools).max_output_tokens is None


@given(st.lists(st.text(min_size=1, max_size=10), max_size=5))
def test_no_text_is_lost(texts: list[str]) -> None:
    assert facts_of(contents=said(*({"text": each} for each in texts))).prompt.texts == tuple(texts)
