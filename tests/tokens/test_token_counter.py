"""Counts of texts and prompts, on the loop and off it."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import tiktoken

from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.tokens.counter import RememberedCounts, TokenCounter
from tallygate.tokens.vocabulary import EncodingName, load_encoding

# The example conversation of OpenAI's cookbook, "How to count tokens with tiktoken", section 6
COOKBOOK = (
    ("system", None, "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."),
    ("system", "example_user", "New synergies will help drive top-line growth."),
    ("system", "example_assistant", "Things working well together will increase revenue."),
    (
        "system",
        "example_user",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    ),
    ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
    ("user", None, "This late pivot means we don't have time to boil the ocean for the client deliverable."),
)


def chat(*texts: str, **more: object) -> PromptShape:
    return PromptShape(texts=texts, messages=len(texts), **more)  # type: ignore[arg-type]


@pytest.fixture
def counter(encodings: dict[EncodingName, tiktoken.Encoding]) -> Iterator[TokenCounter]:
    counter = TokenCounter(load=encodings.__getitem__, inline_chars_max=100)
    yield counter
    counter.close()


@pytest.mark.parametrize(
    ("model", "text", "tokens"),
    [  # figures printed in the cookbook
        ("gpt-4", "tiktoken is great!", 6),
        ("gpt-4", "antidisestablishmentarianism", 6),
        ("gpt-4o", "antidisestablishmentarianism", 6),
        ("gpt-4", "2 + 2 = 4", 7),
        ("gpt-4o", "2 + 2 = 4", 7),
        ("gpt-4", "お誕生日おめでとう", 9),
        ("gpt-4o", "お誕生日おめでとう", 8),
        ("gpt-4o", "", 0),
    ],
)
def test_texts_count_as_openai_publishes(counter: TokenCounter, model: str, text: str, tokens: int) -> None:
    assert counter.count_text(text, model) == tokens


@pytest.mark.parametrize(("model", "tokens"), [("gpt-3.5-turbo", 129), ("gpt-4-0613", 129), ("gpt-4o", 124), ("gpt-4o-mini", 124)])
def test_the_cookbooks_conversation_counts_as_the_api_reported_it(counter: TokenCounter, model: str, tokens: int) -> None:
    texts = [text for _, name, content in COOKBOOK for text in (content, name) if text]
    shape = PromptShape(texts=tuple(texts), messages=len(COOKBOOK), names=4)

    assert counter.count_prompt(shape, model) == tokens
    assert counter.upper_bound_prompt(shape, model) == tokens


def test_a_completion_prompt_has_no_framing(counter: TokenCounter) -> None:
    assert counter.count_prompt(PromptShape(texts=("hello world",)), "text-embedding-3-small") == 2
    assert counter.count_prompt(PromptShape(tokens=17), "text-embedding-3-small") == 17


def test_special_tokens_in_a_text_are_plain_text(counter: TokenCounter) -> None:
    assert counter.count_text("<|endoftext|>", "gpt-4o") > 1


def test_a_lone_surrogate_is_counted_not_raised(counter: TokenCounter) -> None:
    assert counter.count_text("a\ud800b", "gpt-4o") == counter.count_text("a\ufffdb", "gpt-4o")


def test_foreign_tokenizers_get_a_margin_and_openai_none(counter: TokenCounter) -> None:
    shape = chat("word " * 100)
    exact = counter.count_prompt(shape, "gpt-4o")

    assert counter.upper_bound_prompt(shape, "gpt-4o") == exact
    assert exact < counter.count_prompt(shape, "claude-sonnet-4-5") < counter.count_prompt(shape, "claude-opus-4-7")
    assert counter.upper_bound_prompt(shape, "claude-sonnet-4-5") == exact * 2 + 48  # its frame is as long as OpenAI's here
    assert counter.upper_bound_prompt(shape, "claude-opus-4-7") == -(-exact * 26 // 10) + 48
    assert counter.upper_bound_prompt(shape, None) == -(-(exact + 2) * 3 // 2) + 48


def test_tools_images_and_files_go_by_rule(counter: TokenCounter) -> None:
    plain = counter.count_prompt(chat("hi"), "gpt-4o")
    tool = '{"type":"function","function":{"name":"search"}}'

    read = "type search = () => any;\n\n"

    assert counter.count_prompt(chat("hi", tools=(tool,)), "gpt-4o") == plain + counter.count_text(read, "gpt-4o") + 12
    assert counter.upper_bound_prompt(chat("hi", tools=(tool,)), "gpt-4o") == (
        plain + counter.count_text(tool, "gpt-4o") + 10 + 12 + 512
    )
    assert counter.count_prompt(chat("hi", images=(ImageInput(width=1024, height=1024),)), "gpt-4o") == plain + 765
    assert counter.count_prompt(chat("hi", opaque_bytes=9), "gpt-4o") == plain + 3
    assert counter.upper_bound_prompt(chat("hi", opaque_bytes=9), "gpt-4o") == plain + 5


@pytest.mark.parametrize(("model", "prompt"), [("claude-3-haiku-20240307", 530), ("claude-opus-4-7", 804), (None, 804)])
def test_the_prompt_that_comes_with_tools_is_within_the_upper_bound(counter: TokenCounter, model: str | None, prompt: int) -> None:
    bare, shape = chat("hi"), chat("hi", tools=('{"name":"f"}',))

    assert counter.upper_bound_prompt(shape, model) >= counter.upper_bound_prompt(bare, model) + prompt


async def test_both_ways_of_counting_agree(counter: TokenCounter) -> None:
    for shape in (chat("short"), chat("long text " * 500, "short", tools=('{"a":1}',) * 30)):
        for model in ("gpt-4o", "gpt-4", "claude-sonnet-4-5", None):
            assert await counter.prompt(shape, model, org="acme") == counter.count_prompt(shape, model)
            assert await counter.prompt_upper_bound(shape, model, org="acme") == counter.upper_bound_prompt(shape, model)
    assert await counter.text("long text " * 500, "gpt-4o", org="acme") == 1001


async def test_a_generated_text_is_counted_at_once_only_if_it_is_short(counter: TokenCounter) -> None:
    for text in ("", "short", "Aug 2026, 東京", "x" * 100):
        exact = counter.count_text(text, "gpt-4o")
        assert counter.short_text(text, "gpt-4o") == exact == await counter.text(text, "gpt-4o", org="acme")
    assert counter.short_text("long text " * 500, "gpt-4o") is None


class Counted:
    """An encoding that notes what it has counted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_ordinary(self, text: str) -> list[int]:
        self.texts.append(text)
        return [0]


def test_pieces_of_answers_push_no_prompt_out_of_what_is_remembered() -> None:
    encoding = Counted()
    counter = TokenCounter(load=lambda _: encoding, inline_chars_max=100, remembered_max=1)  # type: ignore[arg-type, return-value]
    counter.count_text("the system prompt", "gpt-4o")
    counter.short_text("a piece of an answer", "gpt-4o")
    counter.count_text("the system prompt", "gpt-4o")
    assert encoding.texts == ["the system prompt", "a piece of an answer"]


class Gate:
    """An encoding that waits in its thread until it is opened, and notes which threads came."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.threads: list[int] = []
        self.active = 0
        self.active_most = 0

    def encode_ordinary(self, text: str) -> list[int]:
        self.threads.append(threading.get_ident())
        self.active += 1
        self.active_most = max(self.active_most, self.active)
        self.opened.wait(timeout=30)
        self.active -= 1
        return [0] * (len(text) // 4)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_the_loop_goes_on_while_a_long_text_is_counted() -> None:
    gate = Gate()
    counter = TokenCounter(load=lambda _: gate, inline_chars_max=10, remembered_max=0)  # type: ignore[arg-type, return-value]
    counting = asyncio.ensure_future(counter.text("x" * 400, "gpt-4o", org="acme"))

    await turns(1000)
    assert not counting.done()
    gate.opened.set()

    assert await counting == 100
    assert threading.get_ident() not in gate.threads
    counter.close()


async def test_a_full_queue_makes_estimates_by_the_byte_and_charges_wait() -> None:
    gate = Gate()
    counter = TokenCounter(load=lambda _: gate, inline_chars_max=10, queued_max=2, threads=1)  # type: ignore[arg-type, return-value]
    first = [asyncio.ensure_future(counter.text("x" * 400, "gpt-4o", org="acme")) for _ in range(2)]
    await turns(5)

    assert await counter.prompt_upper_bound(PromptShape(texts=("y" * 50,)), "gpt-4o", org="acme") == 50
    assert await counter.prompt_upper_bound(PromptShape(texts=("é" * 50,)), "claude-sonnet-4-5", org="acme") == 200
    third = asyncio.ensure_future(counter.prompt(PromptShape(texts=("x" * 800,)), "gpt-4o", org="acme"))
    await turns(100)
    assert not third.done()

    gate.opened.set()
    assert [await one for one in first] == [100, 100]
    assert await third == 200
    assert gate.active_most == 1
    counter.close()


async def test_short_prompts_are_counted_at_once_even_when_the_queue_is_full() -> None:
    gate = Gate()
    counter = TokenCounter(load=lambda _: gate, inline_chars_max=10, queued_max=1, threads=1)  # type: ignore[arg-type, return-value]
    long = asyncio.ensure_future(counter.text("x" * 400, "gpt-4o", org="acme"))
    await turns(5)
    gate.opened.set()

    assert await counter.prompt_upper_bound(PromptShape(texts=("y" * 8,)), "gpt-4o", org="acme") == 2
    await long
    counter.close()


def test_a_text_that_comes_again_is_encoded_once(encodings: dict[EncodingName, tiktoken.Encoding]) -> None:
    encoded: list[str] = []

    class Noting:
        def encode_ordinary(self, text: str) -> list[int]:
            encoded.append(text)
            return encodings[EncodingName.O200K].encode_ordinary(text)

    counter = TokenCounter(load=lambda _: Noting(), inline_chars_max=4_096, remembered_max=2)  # type: ignore[arg-type, return-value]
    texts = [f"{name} " * 200 for name in ("one", "two", "three")]
    for text in (texts[0], texts[0], texts[1], texts[0], texts[2], texts[0], texts[1]):
        assert counter.count_text(text, "gpt-4o") == len(encodings[EncodingName.O200K].encode_ordinary(text))

    assert encoded == [texts[0], texts[1], texts[2], texts[1]]  # the third pushed the second out, the first had just been used
    counter.close()


def test_a_text_too_long_to_hash_on_the_loop_is_not_remembered(encodings: dict[EncodingName, tiktoken.Encoding]) -> None:
    counts = RememberedCounts(encodings[EncodingName.O200K], 10)

    counts.count("a" * 65_537)
    counts.count("a" * 65_536)

    assert len(counts._counts) == 1


def test_encodings_do_not_share_what_they_remember(counter: TokenCounter) -> None:
    text = "お誕生日おめでとう" * 40

    assert counter.count_text(text, "gpt-4o") == 8 * 40
    assert counter.count_text(text, "gpt-4") != 8 * 40


async def test_starting_loads_off_the_loop_and_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    loaded: list[int] = []

    def load(name: EncodingName) -> tiktoken.Encoding:
        loaded.append(threading.get_ident())
        return load_encoding(name)

    counter = TokenCounter(load=load, inline_chars_max=4_096)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    await counter.start()
    await counter.start()

    assert counter.count_text("hello world", "gpt-4o") == 2
    assert len(loaded) == len(EncodingName)
    assert threading.get_ident() not in loaded
    counter.close()


def test_client_chosen_model_names_do_not_pile_up(counter: TokenCounter) -> None:
    for number in range(3_000):
        counter.count_text("hi", f"gpt-4o-{number}")

    assert len(counter._models) <= 1_024


async def test_a_queue_that_one_organization_fills_makes_no_other_ones_estimate_worse(
    encodings: dict[EncodingName, tiktoken.Encoding],
) -> None:
    counter = TokenCounter(load=encodings.__getitem__, inline_chars_max=4_096, remembered_max=0)
    long = PromptShape(texts=("The quick brown fox. " * 20_000,))
    crowd = [asyncio.ensure_future(counter.prompt_upper_bound(long, "gpt-4o", org="crowd")) for _ in range(75)]
    await turns(5)

    victim = PromptShape(texts=("several words of a long prompt " * 4_000,))
    exact = counter.upper_bound_prompt(victim, "gpt-4o")
    assert await counter.prompt_upper_bound(victim, "gpt-4o", org="victim") == exact < len(victim.texts[0]) // 4
    assert sum(one.done() for one in crowd) < 40  # those that were past its queue, and some that had their turn
    assert await counter.prompt_upper_bound(victim, "gpt-4o", org="crowd") == len(victim.texts[0])
    counter.close()
    await asyncio.gather(*crowd, return_exceptions=True)
