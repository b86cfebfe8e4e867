"""What a meter gathers of an answer whose provider does not say what it used: no kind of content counts as nothing."""

import base64
import json
import struct
from typing import Any

import pytest
from openai_wire import DONE, chunk, compact, named_sse, sse

from tallygate.dialects.anthropic_messages import AnthropicMessages
from tallygate.dialects.dialect import Dialect, MeterReading, RequestFacts
from tallygate.dialects.gemini_generate import GeminiGenerate, GeminiStreamGenerate
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit

CHAT, RESPONSES, ANTHROPIC, GEMINI = OpenAiChat(), OpenAiResponses(), AnthropicMessages(), GeminiGenerate()
EVENTS, JSON = "text/event-stream", "application/json"


def reading(dialect: Dialect, body: bytes, content_type: str) -> MeterReading:
    facts = RequestFacts(model="m", prompt=PromptShape(), stream=content_type == EVENTS)
    meter = dialect.meter(facts, content_type=content_type, hide_usage_chunk=False)
    meter.feed(body)
    meter.end_body()
    return meter.reading


def call_of(name: str, arguments: str, **more: Any) -> dict[str, Any]:
    return {"index": 0, "function": {"name": name, "arguments": arguments}, **more}


def test_a_call_in_pieces_is_one_call() -> None:
    pieces = (
        call_of("look", "", id="c"),
        {"index": 0, "function": {"arguments": '{"at":'}},
        {"index": 0, "function": {"arguments": "1}"}},
    )
    stream = sse(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls")) + DONE
    found = reading(CHAT, stream, EVENTS)
    assert (found.calls, found.drain_text()) == (1, 'look{"at":1}')

    whole = {
        "choices": [{"index": 0, "message": {"tool_calls": [call_of("a", "{}"), call_of("b", "{}")]}, "finish_reason": "stop"}]
    }
    assert reading(CHAT, compact(whole), JSON).calls == 2


def test_an_empty_delta_hides_no_message() -> None:
    """As Perplexity answers: whole, with a delta of nothing; streamed, with all that has been said beside what is new."""
    both = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Four."}, "delta": {"content": ""}}
    assert reading(CHAT, compact({"choices": [both]}), JSON).drain_text() == "Four."

    chunks = [
        {"choices": [{"index": 0, "delta": {"content": new}, "message": {"content": said}}]}
        for new, said in (("Fo", "Fo"), ("ur", "Four"))
    ]
    assert reading(CHAT, sse(*chunks) + DONE, EVENTS).drain_text() == "Four"


def test_what_is_thought_in_parts_counts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}]}, {"type": "text", "text": "Yes."}]
    assert reading(CHAT, sse(chunk({"content": parts})) + DONE, EVENTS).drain_text() == "Hm. Yes."


ITEMS: list[tuple[dict[str, Any], str]] = [
    ({"type": "function_call", "name": "look", "arguments": '{"at":1}'}, 'look{"at":1}'),
    ({"type": "custom_tool_call", "name": "run", "input": "ls"}, "runls"),
    ({"type": "mcp_call", "name": "ask", "arguments": "{}", "output": "what was found"}, "ask{}"),
    ({"type": "mcp_approval_request", "name": "ask", "arguments": "{}"}, "ask{}"),
    ({"type": "code_interpreter_call", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}, "1+1"),
    ({"type": "tool_search_call", "arguments": {"goal": "g"}}, '{"goal":"g"}'),
    ({"type": "web_search_call", "action": {"query": "q", "sources": [{"url": "https://found.example"}]}}, '{"query":"q"}'),
    ({"type": "file_search_call", "queries": ["q"], "results": [{"text": "found"}]}, '["q"]'),
    ({"type": "local_shell_call", "action": {"command": ["ls"]}}, '{"command":["ls"]}'),
    ({"type": "shell_call", "action": {"commands": ["ls"]}}, '{"commands":["ls"]}'),
    ({"type": "apply_patch_call", "operation": {"diff": "+a"}}, '{"diff":"+a"}'),
    ({"type": "image_generation_call", "revised_prompt": "a cat", "result": "aGk="}, "a cat"),
]


@pytest.mark.parametrize(("item", "text"), ITEMS, ids=[str(item["type"]) for item, _ in ITEMS])
def test_every_item_of_a_response_is_a_call_with_text(item: dict[str, Any], text: str) -> None:
    whole = reading(RESPONSES, compact({"object": "response", "status": "completed", "output": [item]}), JSON)
    assert (whole.calls, whole.drain_text()) == (1, text)

    begun = {name: value for name, value in item.items() if name in ("type", "name")}
    stream = named_sse(
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    )
    streamed = reading(RESPONSES, stream, EVENTS)
    assert (streamed.calls, streamed.drain_text()) == (1, text)


@pytest.mark.parametrize("place", [{"output_index": 0}, {}])
def test_an_item_that_came_in_pieces_counts_once(place: dict[str, int]) -> None:
    item = {"type": "function_call", "name": "look", "arguments": '{"at":1}'}
    stream = named_sse(
        {"type": "response.output_item.added", **place, "item": item | {"arguments": ""}},
        {"type": "response.function_call_arguments.delta", **place, "delta": '{"at":'},
        {"type": "response.function_call_arguments.delta", **place, "delta": "1}"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    )
    found = reading(RESPONSES, stream, EVENTS)
    assert (found.calls, found.drain_text()) == (1, 'look{"at":1}')


def test_what_a_provider_s_tool_brought_is_not_generated() -> None:
    stream = named_sse(
        {"type": "response.shell_call_command.delta", "output_index": 0, "delta": "ls"},
        {"type": "response.shell_call_output_content.delta", "output_index": 1, "delta": {"stdout": "found"}},
        {"type": "response.other_call_output.delta", "output_index": 1, "delta": "found"},
        {
            "type": "response.output_item.done",
            "output_index": 2,
            "item": {"type": "shell_call_output", "content": [{"text": "found"}]},
        },
    )
    assert reading(RESPONSES, stream, EVENTS).drain_text() == "ls"


BLOCKS: list[tuple[dict[str, Any], int, str]] = [
    ({"type": "text", "text": "Hi"}, 0, "Hi"),
    ({"type": "thinking", "thinking": "Hm", "signature": "c2ln"}, 0, "Hm"),
    ({"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}}, 1, 'look{"at":1}'),
    ({"type": "server_tool_use", "id": "t", "name": "web_search", "input": {"query": "q"}}, 1, 'web_search{"query":"q"}'),
    ({"type": "mcp_tool_use", "id": "t", "name": "look", "server_name": "s", "input": {}}, 1, "look"),
    ({"type": "compaction", "content": "So far."}, 0, "So far."),
    ({"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"title": "found"}]}, 0, ""),
    ({"type": "code_execution_tool_result", "content": {"stdout": "found"}}, 0, ""),
]


@pytest.mark.parametrize(("block", "calls", "text"), BLOCKS, ids=[str(block["type"]) for block, _, _ in BLOCKS])
def test_every_block_of_a_claude_counts_or_is_input(block: dict[str, Any], calls: int, text: str) -> None:
    found = reading(ANTHROPIC, compact({"type": "message", "content": [block]}), JSON)
    assert (found.calls, found.drain_text()) == (calls, text)


def test_a_claude_s_call_in_pieces_is_one_call() -> None:
    stream = named_sse(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "look", "input": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"at":'}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
    )
    found = reading(ANTHROPIC, stream, EVENTS)
    assert (found.calls, found.drain_text()) == (1, 'look{"at":1}')


def png(width: int, height: int) -> str:
    """The beginning of an image of that size."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return base64.b64encode(head).decode()


@pytest.mark.parametrize(("part", "tokens"), [
    ({"inlineData": {"mimeType": "image/png", "data": "aGk="}}, {Unit.OUTPUT_IMAGE: 1_290}),
    ({"inlineData": {"mimeType": "image/png", "data": png(1_344, 768)}}, {Unit.OUTPUT_IMAGE: 1_290}),
    ({"inlineData": {"mimeType": "image/png", "data": png(2_048, 2_048)}}, {Unit.OUTPUT_IMAGE: 1_680}),
    ({"inlineData": {"mimeType": "image/png", "data": png(4_096, 4_096)}}, {Unit.OUTPUT_IMAGE: 2_520}),
    # 48,000 bytes: a second
    ({"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": "AAAA" * 16_000}}, {Unit.OUTPUT_AUDIO: 25}),
    ({"inlineData": {"mimeType": "text/plain", "data": "aGk="}}, {}),
    ({"inlineData": {"mimeType": 5}}, {}),
])  # fmt: skip
def test_generated_images_and_sound_have_their_tokens(part: dict[str, Any], tokens: dict[Unit, int]) -> None:
    answer = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    assert reading(GEMINI, compact(answer), JSON).media_tokens == tokens
    stream = b"data: " + json.dumps(answer).encode() + b"\n\n"
    assert reading(GeminiStreamGenerate(), stream, EVENTS).media_tokens == tokens


def test_gemini_s_calls_are_counted() -> None:
    parts = [{"functionCall": {"name": "look", "args": {"at": 1}}}, {"functionCall": {"name": "look"}}, {"text": "Hi"}]
    found = reading(GEMINI, compact({"candidates": [{"content": {"parts": parts}}]}), JSON)
    assert (found.calls, found.drain_text()) == (2, 'look{"at":1}lookHi')


def test_a_gemini_call_in_pieces_is_one_call_with_all_its_values() -> None:
    calls = [
        {"name": "look", "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.place.city", "stringValue": "Bos", "willContinue": True}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.place.city", "stringValue": "ton"}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.days", "numberValue": 3}, {"jsonPath": "$.now", "boolValue": True}, "odd"]},
        {},
    ]
    answers = [{"candidates": [{"content": {"parts": [{"functionCall": call}]}}]} for call in calls]
    found = reading(GeminiStreamGenerate(), sse(*answers), EVENTS)
    assert (found.calls, found.drain_text()) == (1, "lookBoscitytondays3nowtrue")
