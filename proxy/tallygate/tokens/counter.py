"""Token counts of prompts and texts: short ones at once, long ones in a thread."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final

import tiktoken

from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.shares.turns import Turns, at_once
from tallygate.tokens.framing import PromptFraming
from tallygate.tokens.images import OWN_RULES, ImageRule, image_rule
from tallygate.tokens.text import count, count_all, upper_bound
from tallygate.tokens.tokenization import Tokenization, tokenization
from tallygate.tokens.tool_text import namespace_text
from tallygate.tokens.vocabulary import EncodingName, load_encoding

# OpenAI cookbook, "How to count tokens with tiktoken", num_tokens_for_tools: framing of a tool's definition (7 to 10, by model)
# and of all tools (12). The definition counts as its JSON text, which is longer than the form that the model reads.
TOOL_UPPER: Final = 10
TOOLS_UPPER: Final = 12
NAME_TOKENS: Final = 1  # OpenAI cookbook, "How to count tokens with tiktoken": of a message that has a name
# For files and audio of which only the size is known: a text file has 4 bytes a token; audio and PDF have far more.
OPAQUE_BYTES_PER_TOKEN: Final = 4
OPAQUE_BYTES_PER_TOKEN_UPPER: Final = 2

IMAGE_UPPER_PERMILLE: Final = 1250  # 1.20 of the rule was seen
UNKNOWN_IMAGE: Final = ImageInput()

QUEUED_MAX: Final = 64
THREADS: Final = 2
MODELS_KEPT_MAX: Final = 1_024  # names come from clients: beyond it the cache is emptied
REMEMBERED_MAX: Final = 16_384  # about 150 bytes each
REMEMBERED_CHARS_MAX: Final = 65_536  # a longer one would take too long to hash on the event loop

Load = Callable[[EncodingName], tiktoken.Encoding]


class RememberedCounts:
    """Counts in one encoding, and those of texts that recur, such as the system prompt and history of a conversation.

    No text is kept. A count is found by Python's own hash of its text, whose key is a secret of the process, so that nobody can
    choose two texts with the same one. Among those that are kept two have the same by chance in one process of a thousand million;
    the other's count is taken for theirs then.

    size_max   beyond it the text that was least recently used is forgotten
    """

    def __init__(self, encoding: tiktoken.Encoding, size_max: int) -> None:
        self.encoding = encoding
        self._counts: OrderedDict[int, int] = OrderedDict()
        self._size_max = size_max

    def get(self, text: str) -> int | None:
        """The count of a text; None if it is not remembered."""
        if len(text) > REMEMBERED_CHARS_MAX:
            return None
        key = hash(text)
        tokens = self._counts.get(key)
        if tokens is not None:
            self._counts.move_to_end(key)
        return tokens

    def put(self, text: str, tokens: int) -> None:
        """Remember the count of a text."""
        if len(text) > REMEMBERED_CHARS_MAX:
            return
        self._counts[hash(text)] = tokens
        if len(self._counts) > self._size_max:
            self._counts.popitem(last=False)

    def count(self, text: str) -> int:
        """Count a text, unless it is remembered."""
        tokens = self.get(text)
        if tokens is None:
            tokens = count(text, self.encoding)
            self.put(text, tokens)
        return tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """The facts about a model name, and the counts in its encoding."""

    tokenization: Tokenization
    counts: RememberedCounts
    images: ImageRule
    has_image_rule: bool


class TokenCounter:
    """Counts for one event loop. `start` loads the vocabularies in a thread; without it each is loaded at its first use.

    inline_chars_max    texts of one prompt up to this many characters together are counted at once, longer ones in a thread:
                        4,096 of English take about 0.13 ms, at worst 2 ms, and a hop to a thread and back about 0.1 ms
    queued_max          thread jobs of one organization at a time. Beyond it, `prompt_upper_bound` returns one token a byte,
                        which is never too low, and `prompt` and `text`, which decide the charge, wait for their turn
    remembered_max      texts of each encoding whose counts are kept (`RememberedCounts`)
    """

    def __init__(
        self,
        *,
        inline_chars_max: int,
        load: Load = load_encoding,
        threads: int = THREADS,
        queued_max: int = QUEUED_MAX,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        self._load = load
        self._remembered: dict[EncodingName, RememberedCounts] = {}
        self._models: dict[str | None, _Model] = {}
        self._inline_chars_max = inline_chars_max
        self._turns = Turns(threads=threads, name="tokens")
        self._queued_max = queued_max
        self._remembered_max = remembered_max

    async def start(self) -> None:
        """Load every encoding, off the loop. Raises VocabularyError."""
        for name in EncodingName:
            if name not in self._remembered:
                encoding = await self._turns.run_in_turn("", at_once(partial(self._load, name)))
                self._remembered[name] = RememberedCounts(encoding, self._remembered_max)

    def close(self) -> None:
        """Drop what is queued and let the threads end."""
        self._turns.close()

    def count_text(self, text: str, model: str | None) -> int:
        """Count `text` in our encoding, synchronously; the input of `completion`."""
        return self._model(model).counts.count(text)

    def completion(self, text_tokens: int, model: str | None, *, answers: int = 1, calls: int = 0) -> int:
        """The tokens that a provider bills for answers with so many tokens of text, in our encoding, and so many tool calls.

        The scale of a foreign tokenizer applies once, to the sum. If nothing was generated, the result is 0.
        """
        if not text_tokens and not calls:
            return 0
        known = self._model(model).tokenization
        return -(-text_tokens * known.permille // 1000) + known.answer.tokens(answers=answers, calls=calls)

    def count_prompt(self, shape: PromptShape, model: str | None) -> int:
        """Count a prompt, synchronously. Texts and messages are exact for OpenAI's chat models; rules approximate the rest."""
        known = self._model(model)
        count_one = known.counts.count
        tools: Iterable[str] = shape.tools
        if known.tokenization.prompt.is_namespace:
            tools = map(namespace_text, shape.tools)
        parts = _Parts(sum(map(count_one, shape.texts)), sum(map(count_one, tools)), sum(map(count_one, shape.schemas)))
        return _total(parts, shape, known)

    def upper_bound_prompt(self, shape: PromptShape, model: str | None) -> int:
        """The most tokens that the prompt can have: our count, with the family's margin if the tokenizer is not the model's own."""
        known = self._model(model)
        texts = sum(map(known.counts.count, shape.texts))
        if shape.tools or shape.schemas:
            texts += sum(map(known.counts.count, chain(shape.tools, shape.schemas)))
        return _upper(texts, shape, known, known.tokenization.upper_permille)

    def short_text(self, text: str, model: str | None) -> int | None:
        """Count a text that will hardly come again; None for a long one, which `text` counts."""
        return count(text, self._model(model).counts.encoding) if len(text) <= self._inline_chars_max else None

    async def text(self, text: str, model: str | None, *, org: str) -> int:
        """Count as `count_text` does, off the loop if the text is long, in the turn of `org`."""
        counted = self.short_text(text, model)
        return await self._long_texts((text,), self._model(model).counts, org) if counted is None else counted

    async def prompt(self, shape: PromptShape, model: str | None, *, org: str) -> int:
        """Count as `count_prompt` does, off the loop if the texts are long."""
        if self._is_short(shape):
            return self.count_prompt(shape, model)
        known = self._model(model)
        counts = known.counts
        texts = await self._long_texts(shape.texts, counts, org)
        if known.tokenization.prompt.is_namespace and shape.tools:
            tools = sum(await self._turns.run_in_turn(org, count_all(shape.tools, counts.encoding, namespace_text)))
        else:
            tools = await self._long_texts(shape.tools, counts, org)
        return _total(_Parts(texts, tools, await self._long_texts(shape.schemas, counts, org)), shape, known)

    async def prompt_upper_bound(self, shape: PromptShape, model: str | None, *, org: str) -> int:
        """Bound as `upper_bound_prompt` does, off the loop if the texts are long; one token a byte if `org`'s queue is full."""
        if self._is_short(shape):
            return self.upper_bound_prompt(shape, model)
        known = self._model(model)
        if self._turns.queued(org) >= self._queued_max:
            return _upper(sum(map(upper_bound, _all_texts(shape))), shape, known, 1000)
        texts = await self._long_texts(tuple(_all_texts(shape)), known.counts, org)
        return _upper(texts, shape, known, known.tokenization.upper_permille)

    def _model(self, model: str | None) -> _Model:
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= MODELS_KEPT_MAX:
                self._models.clear()
            found = tokenization(model)
            known = self._models[model] = _Model(
                tokenization=found,
                counts=self._counts(found.encoding),
                images=image_rule(found.family, model),
                has_image_rule=found.family in OWN_RULES,
            )
        return known

    def _counts(self, name: EncodingName) -> RememberedCounts:
        counts = self._remembered.get(name)
        if counts is None:
            counts = self._remembered[name] = RememberedCounts(self._load(name), self._remembered_max)
        return counts

    def _is_short(self, shape: PromptShape) -> bool:
        chars = sum(map(len, shape.texts))
        if shape.tools or shape.schemas:
            chars += sum(map(len, chain(shape.tools, shape.schemas)))
        return chars <= self._inline_chars_max

    async def _long_texts(self, texts: Sequence[str], counts: RememberedCounts, org: str) -> int:
        """Count texts: remembered ones at once, the others together in one thread job."""
        remembered = list(map(counts.get, texts))
        unknown = [text for text, tokens in zip(texts, remembered, strict=True) if tokens is None]
        total = sum([tokens for tokens in remembered if tokens is not None])
        if not unknown:
            return total
        counted = await self._turns.run_in_turn(org, count_all(unknown, counts.encoding))
        for text, tokens in zip(unknown, counted, strict=True):
            counts.put(text, tokens)
        return total + sum(counted)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Tokens of a prompt's texts in our encoding; tools in the form in which the model reads them."""

    texts: int
    tools: int
    schemas: int


def _all_texts(shape: PromptShape) -> Iterator[str]:
    return chain(shape.texts, shape.tools, shape.schemas)


def _messages(shape: PromptShape, framing: PromptFraming) -> int:
    """Tokens around messages, and around calls of earlier answers."""
    if not shape.messages:
        return 0
    return framing.reply + shape.messages * framing.message + shape.names * NAME_TOKENS + shape.calls * framing.call


def _given(shape: PromptShape, known: _Model) -> int:
    """Tokens of images by their rule, and tokens given as ids."""
    return shape.tokens + sum(map(known.images.tokens, shape.images)) if shape.images else shape.tokens


def _image_upper(image: ImageInput, known: _Model) -> int:
    """The most tokens of one image: with a margin if size and rule are known, the maximum if the model's rule is not published."""
    if not image.width:
        return known.images.tokens(image)
    if not known.has_image_rule:
        return known.images.tokens(UNKNOWN_IMAGE)
    return -(-known.images.tokens(image) * IMAGE_UPPER_PERMILLE // 1000)


def _total(parts: _Parts, shape: PromptShape, known: _Model) -> int:
    framing, permille = known.tokenization.prompt, known.tokenization.permille
    read = parts.texts
    if shape.tools:
        read += -(-parts.tools * framing.tool_permille // 1000)
    read = -(-read * permille // 1000) + _messages(shape, framing)
    if shape.tools:
        read += framing.tools + len(shape.tools) * framing.tool
    if shape.schemas:
        read += max(0, -(-parts.schemas * framing.schema_permille * permille // 1_000_000) + framing.schema)
    return read + _given(shape, known) + -(-shape.opaque_bytes // OPAQUE_BYTES_PER_TOKEN)


def _upper(texts: int, shape: PromptShape, known: _Model, permille: int) -> int:
    """An upper bound: tools and schemas with all their JSON, and the longest framing."""
    framing = known.tokenization.prompt
    read = -(-(texts + _messages(shape, framing) + len(shape.tools) * max(TOOL_UPPER, framing.tool)) * permille // 1000)
    if shape.messages or permille > 1000:  # a foreign tokenizer may begin even a bare text with a token of its own
        read += framing.upper
    if shape.tools:
        read += max(framing.tools, framing.tools_upper) + TOOLS_UPPER
    if shape.schemas:
        read += max(framing.schema, framing.schema_upper)
    if shape.images:
        read += sum(_image_upper(image, known) for image in shape.images)
    return read + shape.tokens + -(-shape.opaque_bytes // OPAQUE_BYTES_PER_TOKEN_UPPER)
