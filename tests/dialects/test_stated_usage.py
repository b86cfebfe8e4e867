"""The usage of an answer, however it is dressed: what meters make of it, as one object, in a stream, and byte by byte."""

from typing import Any

import pytest
from openai_wire import DONE, chunk, compact, named_sse, sse, usage
from splits import Metered, assert_split_invariant, metered, run

from tallygate.dialects.counts import CachePlace, token_counts
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.registry import dialects
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import Usage, usage_of_totals

DIALECTS = dialects()
STREAM = RequestFacts(model="m", prompt=PromptShape(), stream=True)
WHOLE = RequestFacts(model="m", prompt=PromptShape())
TRUE = usage_of_totals(prompt=100, completion=7)


def chat_stream(*stated: Any) -> bytes:
    return sse(chunk({"content": "Hi"}, "stop"), *(chunk(choices=[], usage=each) for each in stated), DONE)


def chat_whole(stated: Any) -> bytes:
    return compact({"model": "m", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": stated})


def responses_stream(*stated: Any) -> bytes:
    events = [{"type": "response.in_progress", "response": {"status": "in_progress", "usage": each}} for each in stated[:-1]]
    end = {"type": "response.completed", "response": {"status": "completed", "usage": stated[-1]}}
    return named_sse({"type": "response.output_text.delta", "delta": "Hi"}, *events, end)


def responses_whole(stated: Any) -> bytes:
    return compact({"object": "response", "status": "completed", "output": [], "usage": stated})


def messages_stream(*stated: Any) -> bytes:
    start, *deltas = stated if len(stated) > 1 else ({"input_tokens": 0, "output_tokens": 0}, *stated)
    text = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}
    ends = [{"type": "message_delta", "delta": {}, "usage": each} for each in deltas]
    return named_sse({"type": "message_start", "message": {"usage": start}}, text, *ends, {"type": "message_stop"})


def messages_whole(stated: Any) -> bytes:
    return compact({"type": "message", "content": [{"type": "text", "text": "Hi"}], "usage": stated})


def gemini_stream(*stated: Any) -> bytes:
    pieces = [{"candidates": [{"content": {"parts": [{"text": "Hi"}]}}], "usageMetadata": each} for each in stated[:-1]]
    return sse(*pieces, {"candidates": [{"content": {}, "finishReason": "STOP"}], "usageMetadata": stated[-1]})


def gemini_whole(stated: Any) -> bytes:
    return compact({"candidates": [{"content": {}, "finishReason": "STOP"}], "usageMetadata": stated})


APIS = {
    "openai_chat": ("openai_chat", chat_stream, "openai_chat", chat_whole),
    "openai_completions": ("openai_completions", chat_stream, "openai_completions", chat_whole),
    "mistral_fim": ("mistral_fim", chat_stream, "mistral_fim", chat_whole),
    "openai_responses": ("openai_responses", responses_stream, "openai_responses", responses_whole),
    "anthropic_messages": ("anthropic_messages", messages_stream, "anthropic_messages", messages_whole),
    "gemini": ("gemini_stream_generate", gemini_stream, "gemini_generate", gemini_whole),
}


def read(api: str, facts: RequestFacts, body: bytes, content_type: str) -> Metered:
    """What the meter makes of the body in one piece, and byte by byte."""
    whole = metered(DIALECTS[api], facts, body, content_type=content_type)
    meter = DIALECTS[api].meter(facts, content_type=content_type, hide_usage_chunk=False)
    assert run(meter, [body[at : at + 1] for at in range(len(body))]) == whole
    assert whole.relayed == body
    return whole


def stated(api: str, *usages: Any) -> tuple[Usage | None, frozenset[str]]:
    """What the stream's meter makes of the statements; of a single one, the whole answer's too, which must be the same."""
    streaming, stream, plain, whole = APIS[api]
    got = read(streaming, STREAM, stream(*usages), "text/event-stream")
    assert got.ended
    if len(usages) == 1:
        once = read(plain, WHOLE, whole(usages[0]), "application/json")
        assert (once.usage, once.flags) == (got.usage, got.flags)
    return got.usage, got.flags


@pytest.mark.parametrize(
    ("sent", "counts"),
    [
        # the total has what was read beside the prompt, and what was written
        (
            {"prompt_tokens": 368, "completion_tokens": 19, "total_tokens": 10_923, "cache_read_input_tokens": 10_536},
            usage_of_totals(prompt=10_904, completion=19, cached=10_536),
        ),
        ({**usage(100, 7), "total_tokens": 607, "cached_tokens": 500}, usage_of_totals(prompt=600, completion=7, cached=500)),
        (
            {**usage(100, 7), "total_tokens": 607, "prompt_tokens_details": {"cached_tokens": 500}},
            usage_of_totals(prompt=600, completion=7, cached=500),
        ),
        (
            {
                **usage(600, 7),
                "total_tokens": 1_107,
                "prompt_tokens_details": {"cached_tokens": 500},
            },  # exactly it, though it would fit
            usage_of_totals(prompt=1_100, completion=7, cached=500),
        ),
        (
            {**usage(100, 7), "total_tokens": 807, "cache_read_input_tokens": 500, "cache_creation_input_tokens": 200},
            usage_of_totals(prompt=800, completion=7, cached=500, cache_write_5m=200),
        ),
        (
            {**usage(100, 7), "total_tokens": 307, "prompt_cache_hit_tokens": 200},
            usage_of_totals(prompt=300, completion=7, cached=200),
        ),
        # ... and what is left is output: reasoning beside the completion
        (
            {**usage(100, 7, completion_tokens_details={"reasoning_tokens": 50}), "total_tokens": 657, "cached_tokens": 500},
            usage_of_totals(prompt=600, completion=57, cached=500, reasoning=50),
        ),
        (
            {**usage(100, 7), "total_tokens": 627, "cache_read_input_tokens": 500},
            usage_of_totals(prompt=600, completion=27, cached=500),
        ),
        # a part of the prompt that was cached explains no excess of another size: it is reasoning (xAI, Google)
        (
            {
                **usage(10_120, 1_499, prompt_tokens_details={"cached_tokens": 128}),
                "total_tokens": 14_428,
                "completion_tokens_details": {"reasoning_tokens": 2_809},
            },
            usage_of_totals(prompt=10_120, completion=4_308, cached=128, reasoning=2_809),
        ),
        (
            {**usage(1_000, 20, prompt_tokens_details={"cached_tokens": 500}), "total_tokens": 1_620},
            usage_of_totals(prompt=1_000, completion=620, cached=500),
        ),
        (
            {
                **usage(1_000, 20, prompt_tokens_details={"cached_tokens": 500}),
                "total_tokens": 1_520,
                "completion_tokens_details": {"reasoning_tokens": 500},
            },
            usage_of_totals(prompt=1_000, completion=520, cached=500, reasoning=500),
        ),
        # nothing is outside: LiteLLM's names for parts of the prompt
        (usage(600, 7, cache_read_input_tokens=500), usage_of_totals(prompt=600, completion=7, cached=500)),
        (
            {"prompt_tokens": 600, "completion_tokens": 7, "cache_read_input_tokens": 500},
            usage_of_totals(prompt=600, completion=7, cached=500),
        ),
        (
            usage(600, 7, cache_creation_input_tokens=200, prompt_tokens_details={"cached_tokens": 300}),
            usage_of_totals(prompt=600, completion=7, cached=300, cache_write_5m=200),
        ),
        (
            usage(600, 7, prompt_tokens_details={"cached_tokens": 300, "cache_creation_tokens": 200}),
            usage_of_totals(prompt=600, completion=7, cached=300, cache_write_5m=200),
        ),
        (
            usage(
                600,
                7,
                prompt_tokens_details={
                    "cache_creation_tokens": 200,
                    "cache_creation_token_details": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 150},
                },
            ),
            usage_of_totals(prompt=600, completion=7, cache_write_5m=50, cache_write_1h=150),
        ),
        # a total that leaves them out, of more than fit into the prompt
        (usage(368, 19, cache_read_input_tokens=10_536), usage_of_totals(prompt=10_904, completion=19, cached=10_536)),
        (
            {"prompt_tokens": 368, "completion_tokens": 19, "cache_read_input_tokens": 10_536},
            usage_of_totals(prompt=10_904, completion=19, cached=10_536),
        ),
        # zeros beside the name that counts
        (
            usage(600, 7, cache_read_input_tokens=500, prompt_tokens_details={"cached_tokens": 0}),
            usage_of_totals(prompt=600, completion=7, cached=500),
        ),
        (
            usage(100, 7, prompt_cache_hit_tokens=80, prompt_cache_miss_tokens=20),
            usage_of_totals(prompt=100, completion=7, cached=80),
        ),
        (usage(100, 7, cached_tokens=80), usage_of_totals(prompt=100, completion=7, cached=80)),
        # reasoning that the completion cannot contain
        (
            {"prompt_tokens": 100, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 127}},
            usage_of_totals(prompt=100, completion=129, reasoning=127),
        ),
        (usage(33, 7_163, reasoning_tokens=73_997), usage_of_totals(prompt=33, completion=81_160, reasoning=73_997)),
        (
            {**usage(21, 0, completion_tokens_details={"reasoning_tokens": 60}), "total_tokens": 81},
            usage_of_totals(prompt=21, completion=60, reasoning=60),
        ),
        # a side that is left out is what the total has beyond the other
        ({"completion_tokens": 7, "total_tokens": 107}, TRUE),
        ({"prompt_tokens": 100, "total_tokens": 107}, TRUE),
        ({"prompt_tokens": 100, "output_tokens": 7}, TRUE),
    ],
)
def test_a_chat_answers_usage_is_what_was_billed(sent: dict[str, Any], counts: Usage) -> None:
    for api in ("openai_chat", "openai_completions", "mistral_fim"):
        assert stated(api, sent)[0] == counts


CHAT_NAMES = usage(100, 7)
INPUT_NAMES = {"input_tokens": 100, "output_tokens": 7}
OTHERS = {
    "chat": CHAT_NAMES,
    "chat without total": {"prompt_tokens": 100, "completion_tokens": 7},
    "chat in camel case": {"promptTokens": 100, "completionTokens": 7, "totalTokens": 107},
    "responses": INPUT_NAMES | {"total_tokens": 107},
    "messages": INPUT_NAMES,
    "bedrock": {"inputTokens": 100, "outputTokens": 7, "totalTokens": 107},
    "gemini": {"promptTokenCount": 100, "candidatesTokenCount": 7, "totalTokenCount": 107},
    "gemini in snake case": {"prompt_token_count": 100, "candidates_token_count": 7, "total_token_count": 107},
    "zeros under its own names": {
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "promptTokenCount"), 0),
        "prompt_token_count": 100,
        "candidates_token_count": 7,
    },
}
CACHED = usage_of_totals(prompt=600, completion=7, cached=500)
CACHED_OTHERS = {
    "chat with anthropic's": usage(600, 7, cache_read_input_tokens=500, cache_creation_input_tokens=0),
    "chat": usage(600, 7, prompt_tokens_details={"cached_tokens": 500}),
    "responses": {"input_tokens": 600, "output_tokens": 7, "total_tokens": 607, "input_tokens_details": {"cached_tokens": 500}},
    "messages": {"input_tokens": 100, "cache_read_input_tokens": 500, "cache_creation_input_tokens": 0, "output_tokens": 7},
    "bedrock": {"inputTokens": 100, "outputTokens": 7, "cacheReadInputTokens": 500},
    "gemini": {"promptTokenCount": 600, "cachedContentTokenCount": 500, "candidatesTokenCount": 7, "totalTokenCount": 607},
    "gemini in snake case": {
        "prompt_token_count": 600,
        "cached_content_token_count": 500,
        "candidates_token_count": 7,
        "total_token_count": 607,
        "prompt_tokens_details": [{"modality": "TEXT", "token_count": 600}],
    },
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("names", OTHERS)
def test_usage_under_the_names_of_another_api_is_read(api: str, names: str) -> None:
    assert stated(api, OTHERS[names]) == (TRUE, frozenset())


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("names", CACHED_OTHERS)
def test_what_was_cached_is_where_the_names_put_it(api: str, names: str) -> None:
    assert stated(api, CACHED_OTHERS[names]) == (CACHED, frozenset())


def test_audio_in_the_spelling_of_googles_libraries_is_audio() -> None:
    details = [{"modality": "AUDIO", "token_count": 40}, {"modality": "TEXT", "token_count": 60}]
    sent = {"prompt_token_count": 100, "candidates_token_count": 7, "total_token_count": 107, "prompt_tokens_details": details}
    assert stated("gemini", sent)[0] == usage_of_totals(prompt=100, completion=7, audio_prompt=40)


def test_a_whole_answer_of_gemini_in_that_spelling_is_read() -> None:
    parts = [{"text": "Hi"}, {"function_call": {"name": "look", "args": {"at": 1}}}, {"executable_code": {"code": "x=1"}}]
    candidate = {"content": {"parts": parts}, "finish_reason": "STOP"}
    sent = {"candidates": [candidate], "model_version": "g", "usage_metadata": OTHERS["gemini in snake case"]}
    got = assert_split_invariant(DIALECTS["gemini_stream_generate"], STREAM, sse(sent))
    assert (got.usage, got.response_model, got.ended, got.text) == (TRUE, "g", True, 'Hilook{"at":1}x=1')


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", ["total_tokens", "totalTokenCount", "total_token_count"])
def test_a_total_alone_is_flagged_to_be_split(api: str, name: str) -> None:
    assert stated(api, {name: 107}) == (usage_of_totals(completion=107), frozenset({"usage_inconsistent", "usage_total_only"}))


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("sent", [None, {}, [], "none", 7, {"cost": 0.1}, {"service_tier": "standard"}])
def test_no_count_is_no_usage(api: str, sent: Any) -> None:
    if api == "anthropic_messages":
        assert read(api, WHOLE, messages_whole(sent), "application/json").usage is None
    else:
        assert stated(api, sent)[0] is None


FIRST = {
    "openai_chat": usage(5_010, 7, prompt_tokens_details={"cached_tokens": 5_000}),
    "openai_responses": {
        "input_tokens": 5_010,
        "output_tokens": 7,
        "input_tokens_details": {"cached_tokens": 5_000},
        "total_tokens": 5_017,
    },
    "anthropic_messages": {"input_tokens": 10, "cache_read_input_tokens": 5_000, "output_tokens": 7},
    "gemini": {"promptTokenCount": 5_010, "cachedContentTokenCount": 5_000, "candidatesTokenCount": 7, "totalTokenCount": 5_017},
}


@pytest.mark.parametrize("api", FIRST)
def test_zeros_nulls_and_absent_members_take_nothing_back(api: str) -> None:
    first = FIRST[api]
    nothing = {name: dict.fromkeys(value, 0) if isinstance(value, dict) else 0 for name, value in first.items()}
    nulls = dict.fromkeys(first)
    negative = {name: -1 for name, value in first.items() if isinstance(value, int)}
    expected = usage_of_totals(prompt=5_010, completion=7, cached=5_000)
    for later in (nothing, nulls, negative, {}, None):
        assert stated(api, first, later)[0] == expected
        assert stated(api, nothing, first, later, nothing)[0] == expected
    for name in first:
        assert stated(api, first, {each: value for each, value in first.items() if each != name})[0] == expected
        assert stated(api, first, first | {name: nothing[name]})[0] == expected


def test_the_split_of_what_was_written_outlasts_zeros() -> None:
    split = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 5_000}
    start = {"input_tokens": 10, "cache_creation_input_tokens": 5_000, "cache_creation": split, "output_tokens": 1}
    zeros = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_creation": dict.fromkeys(split, 0), "output_tokens": 7}
    expected = usage_of_totals(prompt=5_010, completion=7, cache_write_1h=5_000)
    assert stated("anthropic_messages", start, zeros)[0] == expected
    assert stated("anthropic_messages", start, zeros | {"cache_creation": None})[0] == expected


def test_a_later_statement_replaces_what_it_states() -> None:
    assert stated("openai_chat", usage(100, 3), {"completion_tokens": 7})[0] == TRUE
    assert stated("openai_chat", usage(100, 3), {"prompt_tokens": 0, "completion_tokens": 7, "total_tokens": 7})[0] == TRUE
    assert stated("openai_chat", usage(100, 3), {"total_tokens": 107})[0] == TRUE
    outside = {**usage(100, 7), "total_tokens": 607, "cache_read_input_tokens": 500}
    expected = usage_of_totals(prompt=600, completion=7, cached=500)
    assert stated("openai_chat", outside, {"prompt_tokens": 100, "completion_tokens": 7})[0] == expected
    for api in ("openai_responses", "anthropic_messages"):
        assert stated(api, OTHERS["messages"], {"total_tokens": 107}) == (TRUE, frozenset())
    start = {"input_tokens": 100, "output_tokens": 1}
    assert stated("anthropic_messages", start, {"total_tokens": 107}) == (TRUE, frozenset())
    assert stated("anthropic_messages", start | {"input_tokens": 0}, {"total_tokens": 107})[0] == usage_of_totals(completion=107)
    assert stated("openai_chat", usage(0, 0), usage(100, 7))[0] == TRUE
    assert stated("openai_chat", {"input_tokens": 90, "output_tokens": 1}, usage(100, 7))[0] == TRUE
    assert stated("gemini", {"promptTokenCount": 100, "totalTokenCount": 100}, FIRST["gemini"])[0] == usage_of_totals(
        prompt=5_010, completion=7, cached=5_000
    )


def test_one_that_is_whole_in_itself_and_has_a_smaller_prompt_withdraws_what_was_stated() -> None:
    larger = {"promptTokenCount": 145, "candidatesTokenCount": 21, "totalTokenCount": 166}
    assert stated("gemini", larger, {"promptTokenCount": 85, "totalTokenCount": 85})[0] == usage_of_totals(prompt=85)
    assert stated("gemini", larger, {"promptTokenCount": 145, "totalTokenCount": 145})[0] == usage_of_totals(
        prompt=145, completion=21
    )


@pytest.mark.parametrize("later", [None, {}, {"output_tokens": 0}, {"output_tokens": None}, {"output_tokens": -1}])
def test_the_output_of_a_message_start_is_no_last_word(later: Any) -> None:
    meter = DIALECTS["anthropic_messages"].meter(STREAM, content_type="text/event-stream", hide_usage_chunk=False)
    meter.feed(messages_stream({"input_tokens": 100, "output_tokens": 1}, later))
    assert meter.reading.ended
    assert meter.reading.awaits_final_usage
    assert ("usage_impossible" in meter.reading.flags) == (later in ({"output_tokens": 0}, {"output_tokens": -1}))


def test_usage_of_the_last_choice_is_read() -> None:
    last = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage(100, 7, cached_tokens=80)}
    got = assert_split_invariant(DIALECTS["openai_chat"], STREAM, sse(chunk({"content": "Hi"}), chunk(choices=[last]), DONE))
    assert got.usage == usage_of_totals(prompt=100, completion=7, cached=80)


def test_what_is_remembered_of_odd_statements_is_bounded() -> None:
    many = [{f"x{index}": index for index in range(start, start + 50)} | usage(100, 7) for start in range(1, 1_000, 50)]
    assert stated("openai_chat", *many[:4])[0] == TRUE


@pytest.mark.parametrize(
    ("place", "total", "prompt"),
    [
        (CachePlace.BESIDE, None, 180),
        (CachePlace.BESIDE, 107, 100),
        (CachePlace.BESIDE, 187, 180),
        (CachePlace.EITHER, None, 100),
        (CachePlace.EITHER, 187, 180),
        (CachePlace.EITHER, 197, 180),
        (CachePlace.INSIDE, None, 100),
        (CachePlace.INSIDE, 187, 180),
        (CachePlace.INSIDE, 197, 100),
        (CachePlace.INSIDE, 147, 100),
    ],
)
def test_the_names_place_the_cache_where_the_total_does_not(place: CachePlace, total: int | None, prompt: int) -> None:
    counts = token_counts(set(), prompt=100, completion=7, cached=80, total=total, cache_place=place)
    assert (counts.prompt, counts.cached) == (prompt, 80)
    assert total is None or counts.total == total


READ_NAMES = ("cache_read_input_tokens", "cache_read_tokens", "cached_read_tokens", "cached_tokens", "prompt_cache_hit_tokens")
WRITTEN_NAMES = ("cache_creation_input_tokens", "cache_creation_tokens", "cache_write_tokens", "cached_write_tokens")
DETAIL_NAMES = ("cached_tokens", "cache_read_tokens", "cached_read_tokens", "cache_read_input_tokens", "cache_read")


@pytest.mark.parametrize("written", WRITTEN_NAMES)
def test_a_cache_has_many_names(written: str) -> None:
    counts = usage_of_totals(prompt=600, completion=7, cached=300, cache_write_5m=200)
    for read_name in READ_NAMES:
        assert stated("openai_chat", usage(600, 7, **{read_name: 300, written: 200}))[0] == counts
        outside = {**usage(100, 7, **{read_name: 300, written: 200}), "total_tokens": 607}
        assert stated("openai_chat", outside)[0] == counts
    for read_name in DETAIL_NAMES:
        details = {read_name: 300, written: 200}
        assert stated("openai_chat", usage(600, 7, prompt_tokens_details=details))[0] == counts
        in_names = {"input_tokens": 600, "output_tokens": 7, "total_tokens": 607, "input_tokens_details": details}
        assert stated("openai_responses", in_names)[0] == counts


def test_a_usage_without_output_is_not_of_the_text_before_it() -> None:
    nothing, some = usage(0, 0), usage(100, 1)
    text, stop = chunk({"content": "word"}), chunk({}, "stop")
    for stated, is_stale in (
        ([text, stop, chunk(choices=[], usage=some)], False),
        ([text, stop, chunk(choices=[], usage=some), chunk(choices=[], usage=nothing)], False),
        ([text | {"usage": some}, stop | {"usage": nothing}], False),
        ([text | {"usage": some}, text, stop, chunk(choices=[], usage=nothing)], True),
        ([text | {"usage": some}, text, stop, chunk(choices=[], usage=usage(100, 0))], True),
        ([text, stop, chunk(choices=[], usage={"prompt_tokens": 100})], True),
        ([text, stop, chunk(choices=[], usage={"total_tokens": 107})], False),
        ([text, stop, chunk(choices=[], usage={"prompt_tokens": 100, "total_tokens": 107})], False),
    ):
        meter = DIALECTS["openai_chat"].meter(STREAM, content_type="text/event-stream", hide_usage_chunk=False)
        meter.feed(sse(*stated, DONE))
        meter.end_body()
        reading = meter.reading
        assert (reading.ended, reading.is_usage_midstream, reading.has_text_after_usage) == (True, False, is_stale), stated


def test_the_usage_of_a_streams_last_chunk_is_final_without_a_reason_of_its_end() -> None:
    text, some = chunk({"content": "word"}), usage(100, 1)
    for stated, is_midstream in (
        ([text | {"usage": some}, DONE], False),
        ([text, chunk({"content": ""}, usage=some), DONE], False),
        ([text | {"usage": some}], True),
        ([text | {"usage": some}, text, DONE], True),
    ):
        meter = DIALECTS["openai_chat"].meter(STREAM, content_type="text/event-stream", hide_usage_chunk=False)
        meter.feed(sse(*stated))
        meter.end_body()
        assert meter.reading.is_usage_midstream is is_midstream, stated
