"""What providers count around texts, and how their tokenizers differ from ours."""

import json
from collections.abc import Iterator

import pytest
import tiktoken
from encodings_of_tests import load_once
from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.tokens.counter import TokenCounter
from tallygate.tokens.tokenization import Family, tokenization
from tallygate.tokens.tool_text import CHARS_MAX, namespace_text
from tallygate.tokens.vocabulary import EncodingName

# The tool and the conversation of OpenAI's cookbook, "How to count tokens with tiktoken", section 7.
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "unit": {"type": "string", "description": "The unit of temperature to return", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    },
}
ASKED = ("You are a helpful assistant that can answer to questions about the weather.", "What's the weather like in San Francisco?")
MODELS = {
    Family.OPENAI: "gpt-4o",
    Family.OPENAI_LEGACY: "davinci-002",
    Family.GPT_5: "gpt-5-mini",
    Family.GPT_5_1: "gpt-5.2",
    Family.GPT_OSS: "gpt-oss-120b",
    Family.CLAUDE_3: "claude-sonnet-4-20250514",
    Family.CLAUDE_4_5: "claude-haiku-4-5",
    Family.CLAUDE: "claude-opus-4-7",
    Family.GEMINI: "gemini-2.5-pro",
    Family.GROK: "grok-4",
    Family.GROK_PLAIN: "grok-4-1-fast-non-reasoning",
    Family.MISTRAL: "mistral-large-latest",
    Family.DEEPSEEK: "deepseek-chat",
    Family.KIMI: "kimi-k2",
    Family.LLAMA_4: "llama-4-scout-17b",
    Family.SONAR: "sonar-pro",
    Family.OTHER: "llama-3.3-70b",
}


@pytest.fixture
def counter(encodings: dict[EncodingName, tiktoken.Encoding]) -> Iterator[TokenCounter]:
    counter = TokenCounter(load=encodings.__getitem__, inline_chars_max=4_096)
    yield counter
    counter.close()


def test_every_family_has_a_model_here() -> None:
    assert {family: tokenization(model).family for family, model in MODELS.items()} == {family: family for family in Family}


def test_text_of_openai_s_models_counts_as_it_is(counter: TokenCounter) -> None:
    assert counter.completion(1_000, "gpt-4o") == 1_000
    assert counter.completion(1_000, "gpt-4") == 1_000
    assert counter.completion(1_000, "gpt-5.2") == 1_004  # in a channel


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-3-5-haiku-20241022", 1_133),
        ("claude-sonnet-4-20250514", 1_133),
        ("claude-sonnet-4-5", 1_113),
        ("claude-opus-4-6", 1_113),
        ("claude-opus-4-7", 1_433),
        ("claude-sonnet-5", 1_433),
        ("claude-of-tomorrow", 1_433),
    ],
)
def test_a_claude_s_text_counts_with_the_scale_of_its_tokenizer(counter: TokenCounter, model: str, tokens: int) -> None:
    assert counter.completion(1_000, model) == tokens


def test_the_newer_claudes_count_about_a_third_more(counter: TokenCounter) -> None:
    """Anthropic: up to 35 % more tokens for the same text."""
    older, newer = (counter.completion(100_000, model) for model in ("claude-opus-4-6", "claude-opus-4-7"))
    assert 1.2 <= newer / older <= 1.35


def test_the_scale_is_applied_once_to_the_sum(counter: TokenCounter) -> None:
    assert counter.completion(10, "claude-sonnet-4-5") == 12 + 3  # 11.1 rounded up
    assert counter.completion(1, "claude-sonnet-4-5") * 10 > counter.completion(10, "claude-sonnet-4-5")


@pytest.mark.parametrize(("calls", "tokens"), [(0, 0), (1, 7), (2, 28), (3, 35)])
def test_several_calls_of_a_gpt_are_wrapped_into_one(counter: TokenCounter, calls: int, tokens: int) -> None:
    assert counter.completion(10, "gpt-4o", calls=calls) == 10 + tokens


@pytest.mark.parametrize("model", MODELS.values())
def test_a_call_without_arguments_is_not_free(counter: TokenCounter, model: str) -> None:
    if tokenization(model).family not in {Family.OPENAI_LEGACY, Family.SONAR}:  # have no tools
        assert counter.completion(0, model, calls=1) > 0
    assert counter.completion(0, model) == 0


def test_every_answer_of_several_has_its_frame(counter: TokenCounter) -> None:
    assert counter.completion(30, "gpt-5.2", answers=3) == 30 + 3 * 4


def test_a_tool_is_read_as_a_type() -> None:
    assert namespace_text(json.dumps(WEATHER)) == (
        "// Get the current weather in a given location\n"
        "type get_current_weather = (_: {\n"
        "// The city and state, e.g. San Francisco, CA\n"
        "location: string,\n"
        "// The unit of temperature to return\n"
        'unit?: "celsius" | "fahrenheit",\n'
        "}) => any;\n\n"
    )


def test_nested_schemas_are_types_too() -> None:
    schema = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "place": {"type": "object", "properties": {"zip": {"type": "integer"}}, "required": ["zip"]},
            "size": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "kind": {"type": ["string", "null"]},
            "count": {"type": "integer", "default": 3},
            "any": {},
            "odd": 5,
        },
    }
    assert namespace_text(json.dumps({"type": "function", "name": "find", "parameters": schema})) == (
        "type find = (_: {\ntags?: string[],\nplace?: {\nzip: number,\n},\nsize?: number | null,\nkind?: string | null,\n"
        "count?: number, // default: 3\nany?: any,\nodd?: any,\n}) => any;\n\n"
    )
    assert namespace_text('{"name": "now"}') == "type now = () => any;\n\n"


@pytest.mark.parametrize(
    "definition",
    [
        "",
        "5",
        "[]",
        "{}",
        '{"type":"web_search"}',
        '{"name":5}',
        "[" * 60_000,
        '{"name":"' + "x" * CHARS_MAX + '"}',
        '{"name":"f","parameters":{"properties":{"a":{"$ref":"#/$defs/A"}}}}',
    ],
)
def test_what_is_no_function_counts_as_it_is(definition: str) -> None:
    assert namespace_text(definition) == definition


def test_a_schema_that_is_nested_deep_has_an_end() -> None:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    assert "any[]" in namespace_text(json.dumps({"name": "f", "parameters": {"properties": {"a": schema}}}))


@pytest.mark.parametrize(("model", "reported"), [("gpt-3.5-turbo", 105), ("gpt-4", 105), ("gpt-4o", 101), ("gpt-4o-mini", 101)])
def test_the_cookbook_s_tool_counts_nearly_as_the_api_reported_it(counter: TokenCounter, model: str, reported: int) -> None:
    shape = PromptShape(texts=ASKED, messages=2, tools=(json.dumps(WEATHER),))
    assert counter.count_prompt(shape, model) == pytest.approx(reported, abs=2)
    assert counter.upper_bound_prompt(shape, model) >= reported


@pytest.mark.parametrize(
    ("model", "least", "most"), [("claude-3-haiku-20240307", 264, 530), ("claude-sonnet-4-20250514", 313, 346), ("gpt-4o", 0, 20)]
)
def test_tools_bring_a_prompt_of_their_own(counter: TokenCounter, model: str, least: int, most: int) -> None:
    """Anthropic, "Tool use with Claude", section "Pricing"."""
    without = counter.count_prompt(PromptShape(texts=("hi",), messages=1), model)
    with_tool = counter.count_prompt(PromptShape(texts=("hi",), messages=1, tools=("{}",)), model)
    assert least <= with_tool - without <= most + 20  # the tool itself


def test_a_call_in_the_history_is_framed_as_it_was_generated(counter: TokenCounter) -> None:
    plain, called = (PromptShape(texts=("hi",), messages=1, calls=calls) for calls in (0, 1))
    assert counter.count_prompt(called, "claude-sonnet-4-5") - counter.count_prompt(plain, "claude-sonnet-4-5") == 40


SCHEMA = json.dumps({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})


@pytest.mark.parametrize(("model", "bills"), [("gemini-2.5-pro", False), ("gpt-4o", True), ("claude-sonnet-4-5", True)])
def test_the_form_of_an_answer_counts_where_it_is_billed_and_is_held_everywhere(
    counter: TokenCounter, model: str, bills: bool
) -> None:
    plain, formed = (PromptShape(texts=("hi",), messages=1, schemas=schemas) for schemas in ((), (SCHEMA,)))
    assert (counter.count_prompt(formed, model) > counter.count_prompt(plain, model)) is bills
    more = counter.upper_bound_prompt(formed, model) - counter.upper_bound_prompt(plain, model)
    assert more >= counter.count_text(SCHEMA, model)


async def test_long_tools_and_schemas_count_the_same_in_a_thread(encodings: dict[EncodingName, tiktoken.Encoding]) -> None:
    counter = TokenCounter(load=encodings.__getitem__, inline_chars_max=10)
    shape = PromptShape(texts=("hi",), messages=1, tools=(json.dumps(WEATHER),) * 3, schemas=(SCHEMA,))
    for model in MODELS.values():
        assert await counter.prompt(shape, model, org="acme") == counter.count_prompt(shape, model)
        assert await counter.prompt_upper_bound(shape, model, org="acme") == counter.upper_bound_prompt(shape, model)
    counter.close()


def test_an_image_whose_rule_nobody_publishes_is_held_at_the_most(counter: TokenCounter) -> None:
    small = PromptShape(images=(ImageInput(width=10, height=10),))
    assert counter.upper_bound_prompt(small, "pixtral-12b") == 4_784 + 24
    assert counter.upper_bound_prompt(small, "gpt-4o") == 319  # 255 of the rule, and a quarter


SHAPES = st.builds(
    PromptShape,
    texts=st.lists(st.text(max_size=60), max_size=4).map(tuple),
    messages=st.integers(0, 20),
    names=st.integers(0, 5),
    calls=st.integers(0, 20),
    tools=st.lists(st.sampled_from([json.dumps(WEATHER), "{}", '{"name":"f"}', "x"]), max_size=60).map(tuple),
    schemas=st.lists(st.sampled_from([SCHEMA, "{}"]), max_size=3).map(tuple),
    images=st.lists(st.builds(ImageInput, width=st.integers(0, 4_000), height=st.integers(0, 4_000)), max_size=3).map(tuple),
    opaque_bytes=st.integers(0, 1_000),
    tokens=st.integers(0, 1_000),
)
_SHARED = TokenCounter(load=load_once, inline_chars_max=4_096)


@given(shape=SHAPES, model=st.sampled_from(list(MODELS.values())))
def test_the_upper_bound_is_never_below_the_count(shape: PromptShape, model: str) -> None:
    assert _SHARED.upper_bound_prompt(shape, model) >= _SHARED.count_prompt(shape, model)
