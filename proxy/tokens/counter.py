"""Token counts of prompts and texts: at once where they are short, in a thread where they are long."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import tiktoken

from proxy.domain.prompt import PromptShape
from proxy.shares.turns import Turns, at_once
from proxy.tokens.count_memory import CountMemory
from proxy.tokens.images import ImageRule, image_rule
from proxy.tokens.text import SLICE_CHARS, count, count_in_steps, upper_bound
from proxy.tokens.tokenization import Family, Tokenization, tokenization
from proxy.tokens.vocabulary import EncodingName, load_encoding

# OpenAI cookbook, "How to count tokens with tiktoken", num_tokens_from_messages: 3 tokens frame a message, one more spells its role
# (each of OpenAI's roles is one token), one more goes with a name, and 3 open the reply.
MESSAGE_TOKENS: Final = 4
NAME_TOKENS: Final = 1
REPLY_TOKENS: Final = 3
# Same source, num_tokens_for_tools: what surrounds a tool's definition (7 to 10, by model) and all of them (12). The definition
# itself is counted as its JSON text, which is longer than the form that the model reads.
TOOL_TOKENS: Final = 10
TOOLS_TOKENS: Final = 12
# Anthropic, "Tool use", section "Pricing": with tools comes a system prompt, the longest being that of Claude Opus 4.7 where it is
# told to use one. A model that is not known may be one of Anthropic's.
TOOLS_PROMPT_UPPER: Final = {Family.CLAUDE: 804, Family.OTHER: 804}
# Files and audio that only their size tells of: 4 bytes a token is a text file; audio and PDF hold far fewer tokens in a byte.
OPAQUE_BYTES_PER_TOKEN: Final = 4
OPAQUE_BYTES_PER_TOKEN_UPPER: Final = 2

INLINE_CHARS_MAX: Final = 4_096  # about 0.13 ms of English, at worst 2 ms; a hop to a thread and back costs about 0.1 ms
QUEUED_MAX: Final = 64
THREADS: Final = 2
MODELS_KEPT_MAX: Final = 1_024  # names come from clients: past it all are forgotten and learnt again
REMEMBERED_MAX: Final = 16_384  # about 150 bytes each

Load = Callable[[EncodingName], tiktoken.Encoding]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What is known of a model name."""

    tokenization: Tokenization
    images: ImageRule


class TokenCounter:
    """Counts for one event loop. `start` loads the vocabularies in a thread; without it each is loaded at its first use.

    inline_chars_max    texts of one prompt up to this many characters together are counted at once, longer ones in a thread
    queued_max          thread jobs of one organization at a time. Past it `prompt_upper_bound` answers it with one token a byte,
                        which is never too low, and `prompt` and `text`, which decide what is charged, wait for their turn
    remembered_max      counts of longer texts that are kept (`CountMemory`)
    """

    def __init__(
        self,
        *,
        load: Load = load_encoding,
        threads: int = THREADS,
        inline_chars_max: int = INLINE_CHARS_MAX,
        queued_max: int = QUEUED_MAX,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        self._load = load
        self._encodings: dict[EncodingName, tiktoken.Encoding] = {}
        self._models: dict[str | None, _Model] = {}
        self._inline_chars_max = inline_chars_max
        self._turns = Turns(threads=threads, name="tokens")
        self._queued_max = queued_max
        self._memory = CountMemory(remembered_max)

    async def start(self) -> None:
        """Load every encoding, off the loop. Raises VocabularyError."""
        for name in EncodingName:
            if name not in self._encodings:
                self._encodings[name] = await self._turns.take("", at_once(partial(self._load, name)))

    def close(self) -> None:
        """Drop what is queued and let the threads end."""
        self._turns.close()

    def count_text(self, text: str, model: str | None) -> int:
        """Tokens of `text`, here and now."""
        return self._count(text, self._model(model).tokenization.encoding)

    def count_prompt(self, shape: PromptShape, model: str | None) -> int:
        """Tokens of a prompt, here and now. Texts and framing are exact for OpenAI's chat models, the rest goes by rule."""
        known = self._model(model)
        return _total(self._texts(shape, known.tokenization.encoding), shape, known)

    def upper_bound_prompt(self, shape: PromptShape, model: str | None) -> int:
        """What the prompt can come to at most: the count where the tokenizer is the model's own, else with its family's margin."""
        known = self._model(model)
        return _upper(self._texts(shape, known.tokenization.encoding), shape, known, known.tokenization.upper_permille)

    async def text(self, text: str, model: str | None, *, org: str) -> int:
        """As `count_text`, off the loop if the text is long, in the turn of `org`."""
        name = self._model(model).tokenization.encoding
        return self._count(text, name) if len(text) <= self._inline_chars_max else await self._long_texts((text,), name, org)

    async def prompt(self, shape: PromptShape, model: str | None, *, org: str) -> int:
        """As `count_prompt`, off the loop if the texts are long."""
        if self._is_short(shape):
            return self.count_prompt(shape, model)
        known = self._model(model)
        return _total(await self._long_texts((*shape.texts, *shape.tools), known.tokenization.encoding, org), shape, known)

    async def prompt_upper_bound(self, shape: PromptShape, model: str | None, *, org: str) -> int:
        """As `upper_bound_prompt`, off the loop if the texts are long; one token a byte if `org` has filled its queue for that."""
        if self._is_short(shape):
            return self.upper_bound_prompt(shape, model)
        known = self._model(model)
        if self._turns.queued(org) >= self._queued_max:
            return _upper(sum(map(upper_bound, (*shape.texts, *shape.tools))), shape, known, 1000)
        texts = await self._long_texts((*shape.texts, *shape.tools), known.tokenization.encoding, org)
        return _upper(texts, shape, known, known.tokenization.upper_permille)

    def _model(self, model: str | None) -> _Model:
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= MODELS_KEPT_MAX:
                self._models.clear()
            found = tokenization(model)
            known = self._models[model] = _Model(tokenization=found, images=image_rule(found.family, model))
        return known

    def _encoding(self, name: EncodingName) -> tiktoken.Encoding:
        encoding = self._encodings.get(name)
        if encoding is None:
            encoding = self._encodings[name] = self._load(name)
        return encoding

    def _is_short(self, shape: PromptShape) -> bool:
        chars = 0
        for text in shape.texts:
            chars += len(text)
        for tool in shape.tools:
            chars += len(tool)
        return chars <= self._inline_chars_max

    def _texts(self, shape: PromptShape, name: EncodingName) -> int:
        total = 0
        for text in shape.texts:
            total += self._count(text, name)
        for tool in shape.tools:
            total += self._count(tool, name)
        return total

    def _count(self, text: str, name: EncodingName) -> int:
        key = self._memory.key(text, name)
        if key is None:
            return count(text, self._encoding(name))
        tokens = self._memory.get(key)
        if tokens is None:
            tokens = count(text, self._encoding(name))
            self._memory.put(key, tokens)
        return tokens

    async def _long_texts(self, texts: Sequence[str], name: EncodingName, org: str) -> int:
        """The texts' tokens: what is remembered at once, the others together in one thread job."""
        total = 0
        unknown: list[tuple[bytes | None, str]] = []
        for text in texts:
            key = self._memory.key(text, name)
            remembered = None if key is None else self._memory.get(key)
            if remembered is None:
                unknown.append((key, text))
            else:
                total += remembered
        if not unknown:
            return total
        counts = await self._turns.take(org, _count_all([text for _, text in unknown], self._encoding(name)))
        for (key, _), tokens in zip(unknown, counts, strict=True):
            if key is not None:
                self._memory.put(key, tokens)
        return total + sum(counts)


def _count_all(texts: Sequence[str], encoding: tiktoken.Encoding) -> Generator[None, None, list[int]]:
    """The count of each, with a pause after every slice of a long text, or after as many characters of short ones."""
    counts = []
    chars = 0
    for text in texts:
        counts.append((yield from count_in_steps(text, encoding)))
        chars += len(text)
        if chars >= SLICE_CHARS:
            chars = 0
            yield
    return counts


def _framing(shape: PromptShape) -> int:
    """Tokens around messages and tools."""
    framing = shape.messages * MESSAGE_TOKENS + shape.names * NAME_TOKENS + REPLY_TOKENS if shape.messages else 0
    return framing + len(shape.tools) * TOOL_TOKENS + TOOLS_TOKENS if shape.tools else framing


def _given(shape: PromptShape, known: _Model) -> int:
    """Images by their rule, and tokens given as ids."""
    return shape.tokens + sum(map(known.images.tokens, shape.images)) if shape.images else shape.tokens


def _total(texts: int, shape: PromptShape, known: _Model) -> int:
    return texts + _framing(shape) + _given(shape, known) + -(-shape.opaque_bytes // OPAQUE_BYTES_PER_TOKEN)


def _upper(texts: int, shape: PromptShape, known: _Model, permille: int) -> int:
    read = -(-(texts + _framing(shape)) * permille // 1000)
    if shape.tools:
        read += TOOLS_PROMPT_UPPER.get(known.tokenization.family, 0)
    return read + _given(shape, known) + -(-shape.opaque_bytes // OPAQUE_BYTES_PER_TOKEN_UPPER)
