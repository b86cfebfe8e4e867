"""Directives to the simulator: `x-sim: tokens=50; fault=cut; at=10`, or `[[sim tokens=50 fault=cut at=10]]` in a prompt.

| key           | meaning |
|---------------|---------|
| tokens        | visible output tokens of each choice or image (else the simulator's default); cut to the request's own maximum |
| reasoning     | output tokens generated before the visible ones, inside the same maximum; `show_reasoning=1` sends their text |
| cached        | prompt tokens reported as read from the cache; `cache_write`: as written to it |
| over_generate | output tokens of each choice beyond the request's maximum |
| delay         | milliseconds before the first token; `tps`: tokens a second after it (0: as fast as possible) |
| per_event     | tokens in one event |
| tool          | 1: answer with a tool call |
| finish        | the finish reason, in the dialect's own words |
| model         | the model that answers |
| searches      | searches that the provider ran and bills |
| files         | file searches that ran (OpenAI's Responses) |
| cost          | what the usage states as its own cost in USD (OpenRouter) |
| maps          | 1: Google Maps was used as well |
| results       | input tokens that tools at the provider brought in (Gemini) |
| audio         | audio tokens in the prompt; `cached_audio`: among the cached ones; `image`: among the visible output (Gemini) |
| tier, speed,  | the service tier, the speed and the place that the usage states |
| geo           | |
| passes        | further passes that the usage lists, as `kind:prompt/completion@model`, with commas between them; the model may |
|               | be left out. A `message` was tried before the answer, and declined: without output it is not billed. OpenAI's |
|               | Responses have `image_generation`: images of that model |
| refuse        | 1: the model declines before it generates anything, which is not billed |
| usage         | how usage is reported, a `UsageStyle` |
| done          | 0: leave out `data: [DONE]` |
| crlf, bom     | 1: lines of a stream end in CRLF; a byte order mark first |
| comments      | 1: comment events between the others; `empty_choices`: a chat chunk without choices first |
| split         | write the body in pieces of so many bytes; `gap`: milliseconds between them |
| fault         | a `Fault`, such as `cut` or `status:429`; its arguments: `at` (event), `byte` (of that event), `size` (bytes of |
|               | padding), `how` (fin; rst; end: a stream stops in good order, its rest is just missing), `retry_after` and `to` |
|               | (headers of a status and of a redirect) |
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

TOKENS_MAX: Final = 1_000_000  # of one choice; above it a directive is refused
DIRECTIVE_MAX_CHARS: Final = 1_000


class UsageStyle(StrEnum):
    """The way in which an answer reports its usage."""

    EXACT = "exact"  # where and when the provider documents it
    MISSING = "missing"
    NULL = "null"
    ALWAYS = "always"  # in streams even unasked
    WRONG = "wrong"  # one output token, whatever was generated
    NEGATIVE = "negative"
    ABSURD = "absurd"  # 10**15 output tokens
    FRACTIONAL = "fractional"
    TEXT = "text"  # counts as strings
    CACHED_OVER = "cached_over"  # more cached tokens than prompt tokens
    XAI = "xai"  # reasoning outside the output count, inside the total
    DUPLICATE = "duplicate"  # in streams: first half the count, then the whole
    SHRINKING = "shrinking"  # in streams: first more than the whole, then the whole
    EVERY_EVENT = "every_event"  # in streams: cumulative in each event
    IN_CHOICE_CHUNK = "in_choice_chunk"  # in chat streams: beside the finish reason
    GROQ = "groq"  # in chat streams: only as x_groq.usage


class Fault(StrEnum):
    """A fault. `at` counts written events from 0; a body that is not a stream is event 0."""

    STATUS = "status"  # an error status before any output
    DROP = "drop"  # the connection ends without an answer
    STALL = "stall"  # silence: before the headers, or from event `at` on, if given
    CUT = "cut"  # the connection ends before event `at`, or after `byte` bytes of it
    ERROR = "error"  # an error object in place of event `at`, then an orderly end
    BAD_CHUNK = "bad_chunk"  # broken chunk framing in place of event `at`
    DRIP = "drip"  # event `at` and all after it, byte by byte
    HUGE = "huge"  # event `at` carries `size` bytes of padding
    GZIP = "gzip"  # compressed, whatever the client accepts
    NUL_HEADER = "nul_header"  # a NUL in a response header
    BAD_LENGTH = "bad_length"  # two different Content-Length headers
    REDIRECT = "redirect"  # 302 to `to`
    EARLY_HINTS = "early_hints"  # a 103 before the answer
    UNSOLICITED = "unsolicited"  # after the answer, another one that nobody asked for
    BAD_JSON = "bad_json"  # a body, or event `at`, that is not JSON


class ExtraPass(NamedTuple):
    """A pass beside the answer, with its own tokens. kind: the provider's word for it; model "": the one that answers."""

    kind: str
    prompt: int
    completion: int
    model: str

    @property
    def is_billed(self) -> bool:
        return self.completion > 0 or self.kind != "message"


class DirectiveError(ValueError):
    """A directive that cannot be followed: a typing error in a test must not look like a good answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """The directive of one request. None: the simulator's default. at -1: not given. byte -1: whole events."""

    tokens: int | None = None
    reasoning: int = 0
    show_reasoning: bool = False
    cached: int = 0
    cache_write: int = 0
    over_generate: int = 0
    delay: int | None = None
    tps: int | None = None
    per_event: int = 1
    tool: bool = False
    finish: str = ""
    model: str = ""
    searches: int = 0
    files: int = 0
    cost: str = ""
    maps: bool = False
    results: int = 0
    audio: int = 0
    cached_audio: int = 0
    image: int = 0
    tier: str = ""
    speed: str = ""
    geo: str = ""
    passes: tuple[ExtraPass, ...] = ()
    refuse: bool = False
    usage: UsageStyle = UsageStyle.EXACT
    done: bool = True
    crlf: bool = False
    bom: bool = False
    comments: bool = False
    empty_choices: bool = False
    split: int = 0
    gap: int = 0
    fault: Fault | None = None
    status: int = 500
    retry_after: str = ""
    at: int = -1
    byte: int = -1
    how: str = "fin"
    size: int = 1 << 20
    to: str = "/elsewhere"


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= TOKENS_MAX:
        raise ValueError(f"must be between 0 and {TOKENS_MAX}")
    return value


def _positive(text: str) -> int:
    return max(1, _count(text))


def _bytes(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1 << 28:
        raise ValueError("must be between 0 and 256 MiB")
    return value


def _flag(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError("must be 0 or 1")
    return text == "1"


def _passes(text: str) -> tuple[ExtraPass, ...]:
    found = []
    for each in text.split(","):
        match = _PASS.fullmatch(each)
        if match is None:
            raise ValueError("must be kind:prompt/completion@model, several with commas between them")
        found.append(ExtraPass(match[1], _count(match[2]), _count(match[3]), match[4] or ""))
    return tuple(found)


def _how(text: str) -> str:
    if text not in {"fin", "rst", "end"}:
        raise ValueError("must be fin, rst or end")
    return text


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "tokens": _count,
    "reasoning": _count,
    "show_reasoning": _flag,
    "cached": _count,
    "cache_write": _count,
    "over_generate": _count,
    "delay": _count,
    "tps": _count,
    "per_event": _positive,
    "tool": _flag,
    "finish": str,
    "model": str,
    "searches": _count,
    "files": _count,
    "cost": str,
    "maps": _flag,
    "results": _count,
    "audio": _count,
    "cached_audio": _count,
    "image": _count,
    "tier": str,
    "speed": str,
    "geo": str,
    "passes": _passes,
    "refuse": _flag,
    "usage": UsageStyle,
    "done": _flag,
    "crlf": _flag,
    "bom": _flag,
    "comments": _flag,
    "empty_choices": _flag,
    "split": _count,
    "gap": _count,
    "status": int,
    "retry_after": str,
    "at": _count,
    "byte": _bytes,
    "how": _how,
    "size": _bytes,
    "to": str,
}
_PASS: Final = re.compile(r"([a-z_]+):(\d{1,9})/(\d{1,9})(?:@([^,@]+))?", re.ASCII)
_PAIR: Final = re.compile(r"([a-z_]+)=([^\s;]+)")
_IN_PROMPT: Final = re.compile(rf"\[\[sim\s([^\]]{{0,{DIRECTIVE_MAX_CHARS}}})\]\]")


def parse_directive(text: str) -> Directive:
    """Parse `key=value` pairs between semicolons or blanks. Raises DirectiveError for anything unknown."""
    rest = _PAIR.sub("", text).replace(";", "").strip()
    if rest:
        raise DirectiveError(f"not key=value: {rest!r}")
    wishes: dict[str, object] = {}
    for key, value in _PAIR.findall(text):
        try:
            if key == "fault":
                name, _, argument = value.partition(":")
                wishes["fault"] = Fault(name)
                if argument:
                    wishes["status"] = int(argument)
            elif key in _READERS:
                wishes[key] = _READERS[key](value)
            else:
                raise DirectiveError(f"unknown key {key!r}")
        except ValueError as error:
            raise DirectiveError(f"{key}={value}: {error}") from error
    return Directive(**wishes)  # type: ignore[arg-type]  # each reader returns its field's type


def find_directive(header: str | None, prompt_text: str) -> Directive:
    """The directive of a request: its `x-sim` header, else the first one in its last user text, else none.

    It may be anywhere in that text, since coding agents put text of their own before their user's.
    """
    if header:
        return parse_directive(header)
    found = _IN_PROMPT.search(prompt_text)
    return parse_directive(found[1]) if found else Directive()
