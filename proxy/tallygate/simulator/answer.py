"""A parsed request, the answer generated for it, and the pieces in which it is sent: the same for every wire API."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tallygate.simulator.directive import Directive, UsageStyle
from tallygate.simulator.words import TOOL_CLOSING, TOOL_FRAME_TOKENS, TOOL_OPENING, text_of, words


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A parsed request.

    last_text       the last user text, which may have a directive
    max_tokens      output maximum of each choice; None: no maximum
    image_tokens    of each choice, which is an image; None: it is a text
    include_usage   the usage chunk of chat streams was asked for
    alt             Gemini's query parameter: "sse" for an event stream, else the stream is one JSON array
    has_free_results  what its tools at the provider bring in is not billed
    extra           further values that the endpoint's wire needs
    """

    model: str
    prompt_tokens: int
    last_text: str = ""
    stream: bool = False
    max_tokens: int | None = None
    choices: int = 1
    image_tokens: int | None = None
    include_usage: bool = False
    alt: str = ""
    has_free_results: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


class Figures(NamedTuple):
    """Reported usage: integers, unless the directive asks for something odd."""

    prompt: Any
    completion: Any
    total: Any
    cached: Any
    cache_write: Any
    reasoning: Any


class Event(NamedTuple):
    """One piece of a stream. data b"": hidden work (reasoning), with nothing to send. figures: the usage that it reports.

    reasoning, image   among its tokens
    """

    data: bytes
    tokens: int = 0
    reasoning: int = 0
    figures: Figures | None = None
    image: int = 0


class Piece(NamedTuple):
    """One delta of one choice. reasoning True: generated before the visible text, shown only if `show_reasoning`."""

    choice: int
    text: str
    tokens: int
    reasoning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to generate. Tokens are per choice; image_tokens: those of an image; capped: the request's maximum cut it."""

    id: str
    created: int
    model: str
    ask: Ask
    directive: Directive
    text_tokens: int
    reasoning_tokens: int
    capped: bool
    image_tokens: int = 0

    @property
    def completion_tokens(self) -> int:
        return (self.text_tokens + self.image_tokens + self.reasoning_tokens) * self.ask.choices

    def with_passes(self, figures: Figures) -> Figures:
        """All that is billed, with the passes beside the answer."""
        billed = [each for each in self.directive.passes if each.is_billed]
        if not billed or not isinstance(figures.prompt, int):
            return figures
        prompt, completion = sum([each.prompt for each in billed]), sum([each.completion for each in billed])
        return figures._replace(prompt=figures.prompt + prompt, completion=figures.completion + completion)

    @property
    def billed_results(self) -> int:
        """Input tokens that tools at the provider brought in, unless they are free."""
        return 0 if self.ask.has_free_results else self.directive.results

    @property
    def is_tool_call(self) -> bool:
        return self.directive.tool and self.text_tokens >= TOOL_FRAME_TOKENS

    def finish(self, *, stop: str, length: str, tool: str, refusal: str = "refusal") -> str:
        """The finish reason in a dialect's own words."""
        if self.directive.refuse:
            return refusal
        if self.directive.finish:
            return self.directive.finish
        if self.capped:
            return length
        return tool if self.is_tool_call else stop

    def text(self) -> str:
        """The visible text, or the arguments of the tool call."""
        if self.is_tool_call:
            return TOOL_OPENING + text_of(self.text_tokens - TOOL_FRAME_TOKENS) + TOOL_CLOSING
        return text_of(self.text_tokens)

    def reasoning_text(self) -> str:
        return text_of(self.reasoning_tokens, start=7)

    def pieces(self) -> Iterator[Piece]:
        """Everything generated, in order, the choices in turn. A tool call's name is counted with its first piece."""
        size, choices = self.directive.per_event, range(self.ask.choices)
        for start in range(0, self.reasoning_tokens, size):
            count = min(size, self.reasoning_tokens - start)
            for choice in choices:
                yield Piece(choice, text_of(count, start + 7), count, reasoning=True)
        if self.is_tool_call:
            for choice in choices:
                yield Piece(choice, TOOL_OPENING, TOOL_FRAME_TOKENS - 1)
                for word in words(self.text_tokens - TOOL_FRAME_TOKENS):
                    yield Piece(choice, word, 1)
                yield Piece(choice, TOOL_CLOSING, 1)
            return
        for start in range(0, self.text_tokens, size):
            count = min(size, self.text_tokens - start)
            text = text_of(count, start)
            for choice in choices:
                yield Piece(choice, text, count)

    def figures(self, generated: int | None = None) -> Figures | None:
        """The usage to report once `generated` tokens are out (None: all). None if the style leaves it out."""
        style, directive = self.directive.usage, self.directive
        if style in {UsageStyle.MISSING, UsageStyle.NULL}:
            return None
        prompt = self.ask.prompt_tokens
        completion: Any = self.completion_tokens if generated is None else generated
        reasoning = min(self.reasoning_tokens * self.ask.choices, completion)
        cached, total = min(directive.cached, prompt), prompt + completion
        cache_write = min(directive.cache_write, prompt - cached)
        match style:
            case UsageStyle.WRONG:
                completion, reasoning = 1, 0
                total = prompt + 1
            case UsageStyle.NEGATIVE:
                completion = -5
            case UsageStyle.ABSURD:
                completion = 10**15
            case UsageStyle.FRACTIONAL:
                completion += 0.5
            case UsageStyle.TEXT:
                return Figures(str(prompt), str(completion), str(total), str(cached), str(cache_write), str(reasoning))
            case UsageStyle.CACHED_OVER:
                cached = prompt + 151
            case UsageStyle.XAI:
                completion -= reasoning
            case _:
                pass
        return Figures(prompt, completion, total, cached, cache_write, reasoning)

    def early_figures(self) -> Figures | None:
        """A usage object that a stream sends before its last one: half the count, or more than the whole; else None."""
        match self.directive.usage:
            case UsageStyle.DUPLICATE:
                return self.figures(self.completion_tokens // 2)
            case UsageStyle.SHRINKING:
                whole = self.figures()
                return whole and whole._replace(prompt=whole.prompt + 60, completion=whole.completion + 21, total=whole.total + 81)
            case _:
                return None


class Wire(Protocol):
    """One wire API, as a server speaks it, free of sockets, time and faults."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of every answer of this provider."""

    def stream_type(self, answer: Answer) -> str:
        """The content type of a stream."""

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        """The whole answer as one JSON body, and the usage it reports."""

    def events(self, answer: Answer) -> Iterator[Event]:
        """The answer as a stream."""

    def error(self, status: int, message: str) -> bytes:
        """An error body in the provider's real shape."""

    def stream_error(self, answer: Answer, message: str) -> bytes:
        """An error inside a running stream, after its first event."""


def make_answer(*, sequence: int, created: int, ask: Ask, directive: Directive, tokens_default: int) -> Answer:
    """Decide what is generated: the requested tokens, within the request's maximum unless the directive exceeds it."""
    reasoning, text = directive.reasoning, tokens_default if directive.tokens is None else directive.tokens
    limit = ask.max_tokens
    capped = False
    if directive.refuse:
        reasoning = text = 0
    if limit is not None and directive.over_generate:
        reasoning = min(reasoning, limit)
        text = limit + directive.over_generate - reasoning
    elif limit is not None and reasoning + text > limit:
        capped = True
        reasoning = min(reasoning, limit)
        text = limit - reasoning
    image = min(directive.image, text)
    if ask.image_tokens is not None:
        reasoning, text = 0, ask.image_tokens if directive.tokens is None else directive.tokens
        image = text
    return Answer(
        id=f"sim-{sequence}",
        created=created,
        model=directive.model or ask.model,
        ask=ask,
        directive=directive,
        text_tokens=text - image,
        image_tokens=image,
        reasoning_tokens=reasoning,
        capped=capped,
    )
