"""Completions and embeddings: texts, token ids, and lists of either."""

from typing import Any

import pytest
from openai_wire import DONE, compact, read, sse, usage
from splits import assert_split_invariant, metered

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.openai_completions import OpenAiCompletions
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import Usage, usage_of_totals

COMPLETIONS, EMBEDDINGS = OpenAiCompletions(), OpenAiEmbeddings()
FACTS = RequestFacts(model="m", prompt=PromptShape(), stream=True)
INPUTS = [
    ("Hi", PromptShape(texts=("Hi",)), 1),
    (["a", "b"], PromptShape(texts=("a", "b")), 2),
    ([5, 6, 7], PromptShape(tokens=3), 1),
    ([[5, 6], [7]], PromptShape(tokens=3), 2),
    (["a", [7, 8]], PromptShape(texts=("a",), tokens=2), 2),
    ([], PromptShape(), 1),
]


@pytest.mark.parametrize(("prompt", "shape", "prompts"), INPUTS)
def test_each_prompt_of_a_completion_is_answered_n_times(prompt: Any, shape: PromptShape, prompts: int) -> None:
    facts = read(COMPLETIONS, {"model": "m", "prompt": prompt, "n": 2, "max_tokens": 5})
    assert (facts.prompt, facts.choices, facts.max_output_tokens) == (shape, 2 * prompts, 5)


def test_best_of_is_generated_whatever_n_returns() -> None:
    assert read(COMPLETIONS, {"model": "m", "prompt": "a", "n": 2, "best_of": 5}).choices == 5
    assert read(COMPLETIONS, {"model": "m", "prompt": "a", "n": 2, "best_of": 0}).choices == 2
    assert read(COMPLETIONS, {"model": "m", "prompt": "a", "echo": True, "suffix": "z"}).prompt.texts == ("a", "z")
    assert read(COMPLETIONS, {"model": "m"}).choices == 1


@pytest.mark.parametrize(("given", "shape", "inputs"), INPUTS)
def test_embeddings_have_input_and_no_output(given: Any, shape: PromptShape, inputs: int) -> None:
    facts = read(EMBEDDINGS, {"model": "m", "input": given})
    assert (facts.prompt, facts.has_output) == (shape, False)


@pytest.mark.parametrize(
    ("dialect", "request_", "param"),
    [
        (EMBEDDINGS, {"input": "a"}, "model"),
        (EMBEDDINGS, {"model": "m"}, "input"),
        (EMBEDDINGS, {"model": "m", "input": {}}, "input"),
        (EMBEDDINGS, {"model": "m", "input": [None]}, "input[0]"),
        (COMPLETIONS, {"prompt": "a"}, "model"),
        (COMPLETIONS, {"model": "m", "prompt": 1.5}, "prompt"),
        (COMPLETIONS, {"model": "m", "best_of": -1}, "best_of"),
        (COMPLETIONS, {"model": "m", "max_tokens": -2}, "max_tokens"),
    ],
)
def test_a_field_that_cannot_be_priced_is_refused_by_name(dialect: Any, request_: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejectedError) as caught:
        read(dialect, request_)
    assert caught.value.param == param


def test_completions_are_rewritten_and_metered_like_chat() -> None:
    body = b'{"model":"m","prompt":"a","stream":true, "max_tokens":16}'
    facts = read(COMPLETIONS, body)
    rewritten = COMPLETIONS.rewrite_request(body, facts, ask_usage=True, max_output_tokens=4)
    assert rewritten == b'{"stream_options":{"include_usage":true},"model":"m","prompt":"a","stream":true, "max_tokens":4}'

    part = {"model": "davinci-002", "choices": [{"index": 0, "text": "ab", "finish_reason": None}]}
    last = {"choices": [{"index": 0, "text": "c", "finish_reason": "stop"}]}
    stream = sse(part | {"usage": None}, last | {"usage": None}, {"choices": [], "usage": usage(3, 2)}, DONE)
    reading = assert_split_invariant(COMPLETIONS, facts, stream, hide=True)
    assert reading.relayed == sse(part, last, DONE)
    assert (reading.usage, reading.text, reading.response_model) == (usage_of_totals(prompt=3, completion=2), "abc", "davinci-002")

    whole = compact({"choices": [{"text": "abc"}], "usage": usage(3, 2)})
    assert assert_split_invariant(COMPLETIONS, facts, whole, content_type="application/json").text == "abc"
    assert metered(COMPLETIONS, facts, b"<p>" + whole, content_type="text/html").usage is None


@pytest.mark.parametrize(
    ("sent", "counts", "flags"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, usage_of_totals(prompt=8), set()),
        ({"prompt_tokens": 0, "total_tokens": 0}, usage_of_totals(), set()),
        ({"prompt_tokens": 8}, usage_of_totals(prompt=8), set()),
        ({"total_tokens": 8}, usage_of_totals(prompt=8), {"usage_inconsistent"}),
        ({"prompt_tokens": 8, "total_tokens": 11}, usage_of_totals(prompt=11), {"usage_inconsistent"}),
        ({"prompt_tokens": "8", "total_tokens": 8}, usage_of_totals(prompt=8), {"usage_clamped"}),
        ({}, None, set()),
        (None, None, set()),
        ("8", None, set()),
    ],
)
def test_every_token_of_an_embedding_is_input(sent: Any, counts: Usage | None, flags: set[str]) -> None:
    body = compact({"object": "list", "data": [{"embedding": [0.1, -2e-3]}], "model": "text-embedding-3-small", "usage": sent})
    reading = assert_split_invariant(EMBEDDINGS, FACTS, body, content_type="application/json")
    assert reading.usage == counts
    assert (reading.response_model, reading.ended, reading.flags) == ("text-embedding-3-small", True, flags)


def test_embeddings_are_never_rewritten() -> None:
    body = b'{"model":"m","input":"a"}'
    assert EMBEDDINGS.rewrite_request(body, read(EMBEDDINGS, body), ask_usage=True, max_output_tokens=5) is body


def test_embeddings_past_the_maximum_are_counted_from_their_tail() -> None:
    vector = b'{"object":"embedding","embedding":[' + b"0.123456789," * 1_500_000 + b"0]}"
    body = b'{"data":[' + vector + b'],"model":"e","usage":{"prompt_tokens":7,"total_tokens":7}}'
    reading = metered(EMBEDDINGS, FACTS, body, content_type="application/json")
    assert (reading.usage, reading.flags) == (usage_of_totals(prompt=7), {"body_too_large"})
