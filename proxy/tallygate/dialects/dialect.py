"""What the gateway needs of a wire API. Implementations are pure: bytes in, facts out; no socket, clock or log.

A dialect types only the fields it acts on and relays everything else as bytes. It never fails a relay because a usage field is
missing or odd: odd counts are clamped and flagged.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from re import Pattern
from typing import Protocol

import msgspec

from tallygate.domain.admission import Decision
from tallygate.domain.errors import Refusal
from tallygate.domain.prompt import PromptShape
from tallygate.domain.stored_object import StoredReference
from tallygate.domain.token_counts import TokenCounts


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What admission needs to know about a request body.

    model              None where the provider chooses it (Gloo's auto routing or model family), or a stored prompt does
    model_family       Gloo's model_family, lower case, when given
    is_any_model       without a `model`: it can be any that there is, not only those that a routing reaches
    max_output_tokens  per choice, as the request states it; None if it does not
    choices            answers generated (n, best_of, candidateCount); the output bound is max_output_tokens * choices
    has_output         False for embeddings and token counting: no output tokens can arise
    client_asks_usage  the client itself asked for the usage chunk of its stream
    can_ask_usage      False where a dated version of the API (Azure's `api-version`) does not know `include_usage` yet
    replaces_model     the body names another model than `model`, which it is to name when it goes up
    cache_write_5m/1h  the request can cause cache writes of that kind
    writes_1h          all cache writes may last an hour, and the answer does not say how long they last
    audio_input/output the request can be charged at audio rates
    has_unknown_input  input whose size the request does not show: stored at the provider and among `references` (file ids,
                       previous_response_id, cachedContent), or unseen
    has_unseen_input   input that nobody has seen (documents by URL, what tools at the provider will find, stored templates)
    references         stored objects that the body names, each once
    added_tokens       what the provider may put into the prompt besides; held, and never counted
    window_min_tokens  the least context window, whatever the price row says: the request asked for a larger one
    window_reads       how often the model may read a full context window while tools run at the provider; each time is input
    prompt_reads       how often the model may read the whole prompt besides, to sum it up; each time is input
    output_min_tokens  clamping leaves each choice this at least: a minimum that the request states, more than a thinking budget
    is_cut_upstream    the model may read less than the provider stores, so that the usage does not show the size of what is stored
    predicted          text given as a prediction of the answer, which is charged as output where it is wrong
    """

    model: str | None
    prompt: PromptShape
    stream: bool = False
    model_family: str | None = None
    is_any_model: bool = False
    max_output_tokens: int | None = None
    choices: int = 1
    has_output: bool = True
    client_asks_usage: bool = False
    can_ask_usage: bool = True
    replaces_model: bool = False
    cache_write_5m: bool = False
    cache_write_1h: bool = False
    writes_1h: bool = False
    audio_input: bool = False
    audio_output: bool = False
    has_unknown_input: bool = False
    has_unseen_input: bool = False
    added_tokens: int = 0
    window_min_tokens: int = 0
    window_reads: int = 1
    prompt_reads: int = 1
    output_min_tokens: int = 1
    predicted: str = ""
    references: tuple[StoredReference, ...] = ()
    is_cut_upstream: bool = False


@dataclass(slots=True, kw_only=True)
class MeterReading:
    """What a meter has read so far. Mutable: the meter owns it and updates it in place.

    usage                 the provider's own counts; None until it reports some (an explicit zero is a value, not None)
    awaits_final_usage    the usage was reported as the answer began, and the final one is still to come
    is_usage_midstream    the usage was reported before the end, as some services do in every piece, and is not final
    has_text_after_usage  text came after the usage, which does not include it
    response_model        the model that answered
    ended                 the dialect's own end was seen ([DONE], message_stop, finish reason, closed JSON ...)
    failed                an error object was seen inside a 2xx
    ends_inside           the body ended inside an event: whatever is written after it would become part of that event
    unread_bytes          bytes of a body that the dialect cannot read: only their number is known
    text                  generated text, tool arguments and reasoning not yet removed by `drain_text`
    calls                 tool calls that the answer makes; each is generated with some framing that no text shows
    media_tokens          tokens of generated images and sound, by the provider's published rules
    flags                 oddities, for the usage event
    is_unread             no meter reads the answer, and every other field keeps its default
    """

    usage: TokenCounts | None = None
    response_model: str | None = None
    awaits_final_usage: bool = False
    is_usage_midstream: bool = False
    has_text_after_usage: bool = False
    ended: bool = False
    failed: bool = False
    ends_inside: bool = False
    unread_bytes: int = 0
    text: list[str] = field(default_factory=list)
    text_chars: int = 0
    calls: int = 0
    media_tokens: int = 0
    flags: set[str] = field(default_factory=set)
    is_unread: bool = False

    @property
    def has_text(self) -> bool:
        """Whether anything was generated that is not counted yet."""
        return bool(self.text_chars or self.calls or self.media_tokens)

    def drain_text(self) -> str:
        """Return the text since the last call and drop it, so that a long stream's memory stays bounded."""
        text = "".join(self.text)
        self.text.clear()
        self.text_chars = 0
        return text


class ResponseMeter(Protocol):
    """Reads one response body incrementally. Split at any byte, the answer is the same.

    Bounded: it keeps at most one unfinished event (to a named maximum; past it, metering of that event is given up and flagged,
    the bytes are still relayed).
    """

    reading: MeterReading

    def feed(self, data: bytes) -> bytes:
        """Read upstream bytes and return those for the client: the same object, unless our own usage chunk is hidden."""

    def end_body(self) -> bytes:
        """End the body, whole or cut: return the bytes held back and complete the reading."""


class UsageReporting(Enum):
    """Which complete answers of an API report their usage."""

    ALWAYS = "always"
    STREAMS_WHEN_ASKED = "streams_when_asked"  # and every answer that is not a stream
    NOT_PROMISED = "not_promised"  # never, or in some answers only


class Dialect(Protocol):
    """One wire API.

    is_billed           False for token counting: whatever the model, no provider bills it
    generates           False for embeddings and token counting: no answer has output tokens
    own_paths           how the paths of its API begin, where no other's do; None: several APIs have such paths
    own_header          which its API's clients alone send, lower case; None for none
    has_version_in_base its clients have the version (`/v1`) in their base URL; others add it themselves
    key_header          where its services take a key; in "authorization" as a bearer token. None where nothing says it: then it is
                        the one in which the client sent its own
    not_keys            key headers that another API's services alone take: a key that came in one goes up in "authorization"
    usage_reporting     which complete answers report their usage; only streams of STREAMS_WHEN_ASKED are asked for it
    request_id_header   where its SDKs look for a request's id, if elsewhere than in x-request-id
    reset_header        where its clients look, in a 429, for the time until which to wait, as Unix seconds
    query_values        the parameters of a query that it knows, with the values under which its meters can read the answer
    """

    name: str
    is_billed: bool
    generates: bool
    own_paths: Pattern[str] | None
    own_header: str | None
    has_version_in_base: bool
    key_header: str | None
    not_keys: Collection[str]
    usage_reporting: UsageReporting
    request_id_header: bytes | None
    reset_header: bytes | None
    query_values: Mapping[str, Pattern[str]]

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a request. `path` holds the route's parameters (Gemini's model). Raises RequestRejectedError."""

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """The body to forward: asking for the usage chunk and with a lowered maximum where given; else `body` itself."""

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        """A meter for a 2xx response of that content type (SSE, JSON, JSON array); anything else is relayed unread."""

    def error(self, refusal: Refusal, *, request_id: str) -> tuple[str, bytes]:
        """Content type and body of an error in the dialect's shape, with RFC 9457 members beside it."""

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        """An error inside a running event stream, as the dialect's SDKs understand it."""

    def limit_headers(self, decision: Decision, rate: Sequence["NamedRate"]) -> list[tuple[bytes, bytes]]:
        """The dialect's own rate-limit headers, ready to be written, for the tightest request and token limits."""


class NamedRate(msgspec.Struct, frozen=True):
    """A rate limit's state as headers show it. kind: "requests" or "tokens"."""

    name: str
    kind: str
    limit: int
    window_ms: int
    remaining: int
    reset_ms: int
    retry_after_ms: int
