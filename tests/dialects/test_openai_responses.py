from typing import Any

import pytest
from openai_wire import compact, named_sse, read, sse
from prices import price_of
from splits import assert_split_invariant, metered

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.openai_compact import OpenAiCompact
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.organization import Plan
from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.domain.stored_object import StoredKind, StoredReference
from tallygate.domain.usage import TOKENS_MAX, usage_of_totals
from tallygate.gateway.exchange.estimate import estimate

RESPONSES = OpenAiResponses()
FACTS = RequestFacts(model="gpt-5.2", prompt=PromptShape(), stream=True)
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 30, "cache_write_tokens_details": {"ttl_12h_tokens": 10}},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}
COUNTS = usage_of_totals(prompt=100, completion=20, cached=40, cache_write_5m=20, cache_write_12h=10, reasoning=5)


def request(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-5.2", "input": "Hi"} | more


def response(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "model": "gpt-5.2-2026-01", "error": None, "usage": None} | more


def test_a_compaction_is_one_more_answer_over_the_prompt() -> None:
    compacting = {"context_management": [{"type": "compaction", "compact_threshold": 1_000}]}
    facts = read(RESPONSES, request(**compacting))
    assert (facts.choices, facts.prompt_reads, facts.is_cut_upstream, facts.has_unknown_input) == (2, 2, True, False)
    facts = read(RESPONSES, request(previous_response_id="resp_1", **compacting))
    assert (facts.window_reads, facts.has_unseen_input) == (2, True)
    for nothing in (None, []):
        assert read(RESPONSES, request(context_management=nothing)).choices == 1


def test_labels_of_a_request_are_no_prompt() -> None:
    labels = {"metadata": {"team": "a"}, "client_metadata": {"thread_id": "t", "x-codex-turn-metadata": "long" * 100}}
    assert read(RESPONSES, request(**labels)).prompt == read(RESPONSES, request()).prompt


def test_a_trigger_among_the_items_is_the_wish_for_a_compaction() -> None:
    said = {"role": "user", "content": "Hi"}
    facts = read(RESPONSES, request(input=[said, {"type": "compaction_trigger", "id": "cmp_of_nobody"}]))
    assert (facts.choices, facts.prompt_reads, facts.is_cut_upstream) == (2, 2, True)
    assert (facts.has_unknown_input, facts.references, facts.prompt.texts) == (False, (), ("Hi",))
    assert read(RESPONSES, request(input=[said, {"type": "compaction_trigger", "note": "sum up"}])).prompt.texts == ("Hi", "sum up")


def test_a_compaction_handed_back_is_as_long_as_its_bytes_and_names_nothing_stored() -> None:
    compaction = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x" * 4_000, "created_by": "someone"}
    facts = read(RESPONSES, request(input=[compaction, {"role": "user", "content": "Go on"}]))
    assert (facts.prompt.opaque_bytes, facts.has_unknown_input, facts.references) == (4_000, False, ())
    for bare in ({"type": "compaction", "id": "cmp_1"}, {"type": "compaction", "id": "cmp_1", "encrypted_content": ""}):
        facts = read(RESPONSES, request(input=[bare]))
        assert (facts.has_unknown_input, facts.references) == (True, (StoredReference(StoredKind.ITEM, "cmp_1"),))
    assert read(RESPONSES, request(input=[{"type": "compaction", "encrypted_content": {"a": 1}}])).has_unseen_input


class TestCompact:
    """`/v1/responses/compact`."""

    COMPACT = OpenAiCompact()

    def test_its_maximum_is_the_models_and_cannot_be_lowered(self) -> None:
        body = compact(request(max_output_tokens=10))
        facts = read(self.COMPACT, request(max_output_tokens=10))
        assert (facts.max_output_tokens, facts.output_min_tokens, facts.prompt_reads, facts.choices) == (None, TOKENS_MAX, 1, 1)
        assert self.COMPACT.rewrite_request(body, facts, ask_usage=True, max_output_tokens=5) is body
        price = price_of(model="gpt-5.2", version="1", effective_ms=0, input=1, output=8, max_output_tokens=1_000)
        plan = Plan(id="plan", api_access=True, clamp=True)
        held = estimate(facts, plan, price, 100, spend_limit_nano_usd=10**15)
        assert held.hold_min_nano_usd == held.hold_nano_usd
        assert (held.output_tokens, held.floor_tokens) == (1_000, 1_000)

    @pytest.mark.parametrize("model", [{}, {"model": None}, {"prompt": {"id": "pmpt_1"}}])
    def test_it_needs_a_model(self, model: dict[str, Any]) -> None:
        with pytest.raises(RequestRejectedError) as refused:
            read(self.COMPACT, {"input": "Hi"} | model)
        assert refused.value.param == "model"

    def test_an_earlier_response_is_looked_at_and_the_usage_is_of_the_pass(self) -> None:
        facts = read(self.COMPACT, {"model": "gpt-5.2", "previous_response_id": "resp_1"})
        assert (facts.has_unknown_input, facts.references) == (True, (StoredReference(StoredKind.RESPONSE, "resp_1"),))
        item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "abc"}
        body = compact({"id": "resp_2", "object": "response.compaction", "created_at": 1, "output": [item], "usage": USAGE})
        reading = assert_split_invariant(self.COMPACT, facts, body, content_type="application/json")
        assert (reading.usage, reading.ended, reading.failed) == (COUNTS, True, False)


@pytest.mark.parametrize(("truncation", "is_cut"), [(None, False), ("disabled", False), ("auto", True), ("newer", True), (1, True)])
def test_what_may_be_truncated_is_told(truncation: Any, is_cut: bool) -> None:
    assert read(RESPONSES, request(truncation=truncation)).is_cut_upstream is is_cut
    with pytest.raises(RequestRejectedError, match="Truncation"):
        read(RESPONSES, request(Truncation="auto"))


BEGIN = (
    {"type": "response.created", "response": response("in_progress")},
    {"type": "response.output_item.added", "item": {"type": "function_call", "name": "get", "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "delta": "{}"},
    {"type": "response.reasoning_summary_text.delta", "delta": "Hm. "},
    {"type": "response.output_text.delta", "delta": "Hel"},
    {"type": "response.output_text.delta", "delta": "lo"},
    {"type": "response.output_audio.delta", "delta": "QUJD"},
    {"type": "response.output_text.done", "text": "Hello"},
)


class TestRequest:
    def test_a_text_is_one_message(self) -> None:
        facts = read(RESPONSES, request(instructions="Be brief", max_output_tokens=50, stream=True))
        assert facts.prompt == PromptShape(texts=("Be brief", "Hi"), messages=2)
        assert (facts.model, facts.max_output_tokens, facts.stream, facts.has_unknown_input) == ("gpt-5.2", 50, True, False)

    def test_items_are_counted_by_kind(self) -> None:
        items = [
            {"role": "user", "content": "a"},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "b"},
                    {"type": "input_image", "image_url": "data:image/gif;base64,R0lGODlhAwAEAA==", "detail": "high"},
                    {"type": "input_file", "filename": "f.txt", "file_data": "AAAA"},
                ],
            },
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "42"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "43"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": "x" * 80},
        ]
        tools = [{"type": "function", "name": "f"}]
        call = '{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}'
        facts = read(RESPONSES, request(input=items, tools=tools, text={"format": {"type": "json_object"}}))
        assert facts.prompt == PromptShape(
            texts=("a", "b", "f.txt", call, "42", "43", "Hm"),
            schemas=('{"type": "json_object"}',),
            messages=6,  # calls, their outputs and reasoning stand in the prompt as messages do
            tools=('{"type": "function", "name": "f"}',),
            images=(ImageInput(detail="high", width=3, height=4),),
            opaque_bytes=83,
        )
        assert not facts.has_unknown_input

    @pytest.mark.parametrize(
        "more",
        [
            {"previous_response_id": "resp_0"},
            {"conversation": "conv_1"},
            {"prompt": {"id": "pmpt_1"}},
            {"tools": [{"type": "web_search"}]},
            {"tools": [{"type": "function"}, {"type": "mcp", "server_url": "https://example.com"}]},
            {"tools": [{}]},
            {"input": [{"type": "item_reference", "id": "msg_1"}]},
            {"input": [{"type": "image_generation_call", "result": "AAAA"}]},
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:video/mp4;base64,AAAA"}]}]},
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://example.com/a.pdf"}]}]},
        ],
    )
    def test_input_that_is_not_in_the_request_is_told(self, more: dict[str, Any]) -> None:
        assert read(RESPONSES, request(**more)).has_unknown_input

    def test_a_stored_prompt_may_name_the_model(self) -> None:
        assert read(RESPONSES, {"prompt": {"id": "pmpt_1"}}).model is None

    @pytest.mark.parametrize(
        ("more", "param"),
        [
            ({"model": None}, "model"),
            ({"input": 5}, "input"),
            ({"max_output_tokens": "9"}, "max_output_tokens"),
            ({"background": "yes"}, "background"),
            ({"stream": 1}, "stream"),
        ],
    )
    def test_what_cannot_be_metered_is_refused_by_name(self, more: dict[str, Any], param: str) -> None:
        with pytest.raises(RequestRejectedError) as caught:
            read(RESPONSES, request(**more))
        assert caught.value.param == param

    def test_only_the_maximum_is_ever_rewritten(self) -> None:
        body = b'{"model":"m", "max_output_tokens": 100,"stream":true,"input":"a"}'
        facts = read(RESPONSES, body)
        assert RESPONSES.rewrite_request(body, facts, ask_usage=True, max_output_tokens=None) is body
        lowered = RESPONSES.rewrite_request(body, facts, ask_usage=True, max_output_tokens=9)
        assert lowered == b'{"model":"m", "max_output_tokens": 9,"stream":true,"input":"a"}'


class TestStream:
    @pytest.mark.parametrize("flattened", [False, True])
    @pytest.mark.parametrize(("end", "failed"), [("completed", False), ("incomplete", False), ("failed", True)])
    def test_the_last_event_holds_the_usage_nested_or_flattened(self, end: str, failed: bool, flattened: bool) -> None:
        final = response(end, usage=USAGE)
        last = final if flattened else {"type": f"response.{end}", "response": final}
        body = named_sse(*BEGIN) + f"event: response.{end}\n".encode() + sse(last)
        reading = assert_split_invariant(RESPONSES, FACTS, body)
        assert reading.usage == COUNTS
        assert (reading.response_model, reading.ended, reading.failed) == ("gpt-5.2-2026-01", True, failed)
        assert reading.text == "get{}Hm. Hello"
        assert reading.flags == frozenset()

    def test_a_flattened_response_that_keeps_its_type_or_has_no_name_is_the_end(self) -> None:
        final = response("completed", usage=USAGE)
        assert metered(RESPONSES, FACTS, sse(final)).ended
        assert metered(RESPONSES, FACTS, sse(final | {"type": "response.completed"})).ended
        assert metered(RESPONSES, FACTS, sse(final)).usage == COUNTS

    def test_a_stream_without_its_end_has_none(self) -> None:
        reading = assert_split_invariant(RESPONSES, FACTS, named_sse(*BEGIN))
        assert (reading.usage, reading.ended, reading.text) == (None, False, "get{}Hm. Hello")

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "error", "code": "server_error", "message": "no", "param": None},
            {"type": "error", "error": {"message": "no"}},
            {"type": "response.failed", "response": response("failed", error={"code": "server_error"})},
        ],
    )
    def test_an_error_inside_the_stream_is_seen(self, event: dict[str, Any]) -> None:
        assert metered(RESPONSES, FACTS, named_sse(*BEGIN, event)).failed
        assert not metered(RESPONSES, FACTS, named_sse(*BEGIN)).failed

    def test_an_error_without_a_type_is_seen(self) -> None:
        assert metered(RESPONSES, FACTS, sse({"error": {"message": "no"}})).failed
        assert metered(RESPONSES, FACTS, b"event: error\n" + sse({"message": "no"})).failed

    def test_nothing_is_hidden(self) -> None:
        body = named_sse(*BEGIN, {"type": "response.completed", "response": response("completed", usage=USAGE)})
        assert metered(RESPONSES, FACTS, body, hide=True).relayed == body


class TestJson:
    def test_a_whole_answer(self) -> None:
        output = [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm. "}]},
            {"type": "function_call", "name": "get", "arguments": "{}"},
            {"type": "message", "content": [{"type": "output_text", "text": "Hello"}, {"type": "refusal", "refusal": "!"}]},
        ]
        body = compact(response("completed", usage=USAGE, output=output))
        reading = assert_split_invariant(RESPONSES, FACTS, body, content_type="application/json")
        assert reading.usage == COUNTS
        assert (reading.response_model, reading.text, reading.ended, reading.failed) == (
            "gpt-5.2-2026-01",
            "Hm. get{}Hello!",
            True,
            False,
        )

    def test_a_failed_response_is_a_failure_with_usage(self) -> None:
        body = compact(response("failed", usage=USAGE, error={"code": "server_error"}))
        reading = metered(RESPONSES, FACTS, body, content_type="application/json")
        assert (reading.failed, reading.usage) == (True, COUNTS)
