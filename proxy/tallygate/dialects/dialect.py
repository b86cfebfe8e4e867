"""The interface of a wire API. Implementations are pure: bytes in, facts out; no socket, clock or log.

A dialect types only the fields that it acts on and relays everything else as bytes. It never fails a relay because a usage field
is missing or odd: odd counts are clamped and flagged.
"""

from collections.abc import Collection, Mapping
from enum import Enum, StrEnum
from itertools import product
from re import Pattern
from typing import Any, Final, Protocol

import msgspec

from tallygate.dialects.form import Form, FormRules
from tallygate.dialects.limits import LimitHeaders
from tallygate.domain.errors import Refusal
from tallygate.domain.prompt import PromptShape
from tallygate.domain.stored_object import StoredReference
from tallygate.domain.unit import Unit
from tallygate.domain.usage import STANDARD, Conditions, Pass, Usage


class JobKind(StrEnum):
    """How work is followed that an upstream goes on with after its answer."""

    RESPONSE = "response"  # a background response: asked for at its own path until its status is final
    OPENAI_BATCH = "openai_batch"  # a batch: asked for until its status is final, then read line by line
    ANTHROPIC_BATCH = "anthropic_batch"
    GEMINI_BATCH = "gemini_batch"
    GEMINI_VIDEO = "gemini_video"  # videos: asked for until they are done
    VERTEX_VIDEO = "vertex_video"
    XAI_VIDEO = "xai_video"


class OtherModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose work a request can cause beside that of the one that answers, or before it.

    times              at most so often
    max_input_tokens   of each time; None: the prompt and what was generated before
    max_output_tokens  of each time; None: as much as it can
    feeds_answer       what it generates becomes input of the answering model, which then reads its prompt again
    units, conditions  as in `RequestFacts`, those that settings of the account bring included
    """

    model: str
    times: int = 1
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    feeds_answer: bool = False
    units: frozenset[Unit] = frozenset()
    conditions: tuple[Conditions, ...] = (STANDARD,)


class ImagesAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Images that a request is for: each is billed whole, however little of it arrives.

    stated   of their quality, size and format, by the names of the Images API
    unit     of one, where it is billed as one: `image` with its quality and size
    """

    stated: Mapping[str, Any]
    unit: str


class BatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch orders: requests of one dialect, its lines.

    dialect        of each line
    path           at which a line would be sent by itself
    input_file     where the lines stand, by the provider's id; "" if they stand in the request
    lines          how many there are; 0 until they are read
    models         that the lines name, each once
    prompt_tokens  of all lines together, at most
    """

    dialect: str
    path: str
    input_file: str = ""
    lines: int = 0
    models: tuple[str, ...] = ()
    prompt_tokens: int = 0


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a request body that admission needs.

    model              None if the provider chooses it (Gloo's auto routing or model family), or a stored prompt does
    model_family       Gloo's model_family, lower case, if given
    is_any_model       without a `model`: it can be any model, not only those within reach of routing
    max_output_tokens  per choice, as the request states it; None if it does not
    choices            answers generated (n, best_of, candidateCount); the output bound is max_output_tokens * choices
    has_output         False for embeddings and token counting: they produce no output tokens
    client_asks_usage  the client itself asked for the usage chunk of its stream
    can_ask_usage      False if a dated version of the API (Azure's `api-version`) does not support `include_usage` yet
    replaces_model     the body names another model; `model` replaces it before the body is forwarded
    units              in which the request can be charged besides plain, cached and reasoning tokens
    conditions         under which it can be charged, of which the answer may say which; at least one
    default_conditions further ones, which only settings of the account at the provider bring, and which the answer then states
    calls              the most that it can cause of what is no token, by unit
    calls_instead      the same, of what is charged in place of tokens where the model's price has a rate for it: seconds, …
    is_by_calls        it is charged by `calls` alone: the price has such a rate
    other_models       models that it can cause to work besides
    writes_1h          all cache writes may last an hour, and the answer does not say how long they last
    has_unknown_input  input whose size the request does not show: stored at the provider and among `references` (file ids,
                       previous_response_id, cachedContent), or unseen
    has_unseen_input   input that nobody has seen (documents by URL, results of tools at the provider, stored templates)
    references         stored objects that the body names, each once
    added_tokens       tokens that the provider may add to the prompt; held, and never counted
    window_min_tokens  the least context window, whatever the price row states: the request asked for a larger one
    window_reads       how often the model may read a full context window while tools run at the provider; each time is input
    prompt_reads       how often the model may read the whole prompt again, to summarize it; each time is input
    output_min_tokens  the least that clamping leaves each choice: a minimum that the request states, more than a thinking budget
    are_results_free   what its tools at the provider bring into the prompt is not charged
    is_cut_upstream    the model may read less than the provider stores, so the usage does not show the size of the stored object
    predicted          text given as a prediction of the answer, charged as output where it is wrong
    job_kind           the upstream may go on after its answer: how its work is followed from then on
    images             that it is for, `choices` of them; None where it is for text
    batch              what a batch orders; the other facts are then those of all its lines together
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
    units: frozenset[Unit] = frozenset()
    conditions: tuple[Conditions, ...] = (STANDARD,)
    default_conditions: tuple[Conditions, ...] = ()
    calls: Mapping[str, int] = {}
    calls_instead: Mapping[str, int] = {}
    is_by_calls: bool = False
    other_models: tuple[OtherModel, ...] = ()
    writes_1h: bool = False
    has_unknown_input: bool = False
    has_unseen_input: bool = False
    added_tokens: int = 0
    window_min_tokens: int = 0
    window_reads: int = 1
    prompt_reads: int = 1
    output_min_tokens: int = 1
    predicted: str = ""
    images: ImagesAsked | None = None
    references: tuple[StoredReference, ...] = ()
    are_results_free: bool = False
    is_cut_upstream: bool = False
    job_kind: JobKind | None = None
    batch: BatchOrder | None = None

    @property
    def has_audio(self) -> bool:
        """Whether audio can be read or generated."""
        return Unit.INPUT_AUDIO in self.units or Unit.OUTPUT_AUDIO in self.units


class MeterReading(msgspec.Struct, kw_only=True):
    """The state of a meter. Mutable: the meter owns it and updates it in place.

    usage                 the provider's own counts; None until it reports some (an explicit zero is a value, not None)
    awaits_final_usage    usage was reported at the start of the answer, and the final one is still to come
    is_usage_midstream    usage was reported before the end, as some services do in every piece, and is not final
    has_text_after_usage  text came after the usage, which does not include it
    is_output_zero        the last usage states zero output or less, after text: the provider did not count
    response_model        the model that answered
    ended                 the dialect's own end was seen ([DONE], message_stop, finish reason, closed JSON ...)
    failed                an error object was seen inside a 2xx
    is_failure_counted    usage was reported with the failure or after it, so that it is final
    ends_inside           the body ended inside an event: anything written after it would become part of that event
    unread_bytes          bytes of a body that the dialect cannot parse: only their number is known
    text                  generated text, tool arguments and reasoning not yet removed by `drain_text`
    calls                 tool calls of the answer; each is generated with some framing that is not in the text
    billed_calls          what is billed besides tokens, by unit
    passes                what other models were used for, beside `usage`
    stated_cost_nano_usd  what the provider itself says that the answer costs, rounded up
    conditions            members of `Conditions` that the answer states
    served_as             the model that answered in place of the one asked for, under the request's name for it
    others_begun          models that were seen to begin work beside the one that answers, or after it
    rounds_begun          times that tools were seen to begin at the provider, after which the model reads all of it again
    pending_calls         what is billed besides tokens and was seen to begin, without its result, by unit
    is_unbilled           the provider bills no token of it, whatever the usage shows
    media_tokens          tokens of generated images and sound by unit, by the provider's published rules
    is_measured           they are all that was generated
    job_id                what the upstream calls the work that it goes on with after this answer; None: nothing
    flags                 oddities, for the usage event
    is_events             it is an event stream, whatever its label says
    is_unread             no meter reads the answer, and every other field keeps its default
    """

    usage: Usage | None = None
    response_model: str | None = None
    awaits_final_usage: bool = False
    is_usage_midstream: bool = False
    has_text_after_usage: bool = False
    is_output_zero: bool = False
    ended: bool = False
    failed: bool = False
    is_failure_counted: bool = False
    ends_inside: bool = False
    unread_bytes: int = 0
    text: list[str] = []
    text_chars: int = 0
    calls: int = 0
    billed_calls: dict[str, int] = {}
    passes: tuple[Pass, ...] = ()
    stated_cost_nano_usd: int | None = None
    conditions: dict[str, str] = {}
    served_as: str | None = None
    others_begun: int = 0
    rounds_begun: int = 0
    pending_calls: dict[str, int] = {}
    is_unbilled: bool = False
    media_tokens: dict[Unit, int] = {}
    is_measured: bool = False
    job_id: str | None = None
    flags: set[str] = set()
    is_events: bool = False
    is_unread: bool = False

    @property
    def has_text(self) -> bool:
        """Whether generated text is waiting to be counted."""
        return bool(self.text_chars or self.calls or self.media_tokens)

    def drain_text(self) -> str:
        """Return the text since the last call and drop it, so that a long stream's memory stays bounded."""
        text = "".join(self.text)
        self.text.clear()
        self.text_chars = 0
        return text


class ResponseMeter(Protocol):
    """Reads one response body incrementally. Split at any byte, the answer is the same.

    Bounded: it keeps at most one unfinished event, up to a named maximum. Beyond that, the event is not metered but flagged, and
    its bytes are still relayed.
    """

    reading: MeterReading

    def feed(self, data: bytes) -> bytes:
        """Read upstream bytes and return those for the client: the same object, unless our own usage chunk is hidden."""

    def end_body(self) -> bytes:
        """End the body, whole or cut: return the bytes held back and complete the reading."""


def units_of(
    *,
    cache_write_5m: bool = False,
    cache_write_1h: bool = False,
    audio_input: bool = False,
    audio_output: bool = False,
    image_input: bool = False,
    image_output: bool = False,
) -> frozenset[Unit]:
    """The units that a request can be charged in: cache writes of that length, audio and images read or generated."""
    return _UNITS_OF[cache_write_5m, cache_write_1h, audio_input, audio_output, image_input, image_output]


def _units_of(*flags: bool) -> frozenset[Unit]:
    kinds = (
        (Unit.CACHE_WRITE_5M,),
        (Unit.CACHE_WRITE_1H, Unit.CACHE_WRITE_12H),
        (Unit.INPUT_AUDIO, Unit.CACHED_INPUT_AUDIO),
        (Unit.OUTPUT_AUDIO,),
        (Unit.INPUT_IMAGE, Unit.CACHED_INPUT_IMAGE),
        (Unit.OUTPUT_IMAGE,),
    )
    return frozenset([unit for units, is_used in zip(kinds, flags, strict=True) if is_used for unit in units])


_UNITS_OF: Final = {flags: _units_of(*flags) for flags in product((False, True), repeat=6)}


class UsageReporting(Enum):
    """The complete answers of an API that report their usage."""

    ALWAYS = "always"
    STREAMS_WHEN_ASKED = "streams_when_asked"  # and every answer that is not a stream
    NOT_PROMISED = "not_promised"  # never, or in some answers only


class FormDialect(Protocol):
    """How a dialect reads multipart forms."""

    rules: FormRules

    def read(self, form: Form, *, path: Mapping[str, str]) -> RequestFacts:
        """Facts of a request. `path` holds the route's parameters (Azure's deployment). Raises RequestRejectedError."""


class Dialect(Protocol):
    """One wire API.

    is_billed           False for token counting, which no provider bills, whatever the model
    generates           False for embeddings and token counting: no answer has output tokens
    own_paths           prefixes of paths that only its API has; None: several APIs share its paths
    own_header          a header that only its API's clients send, lower case; None for none
    has_version_in_base its clients have the version (`/v1`) in their base URL; others add it themselves
    key_header          the header in which its services expect a key; "authorization" means as a bearer token. None if unknown: the
                        header in which the client sent its own is used
    not_keys            key headers of another API alone: a key that came in one is forwarded in "authorization"
    usage_reporting     the complete answers that report their usage; only streams of STREAMS_WHEN_ASKED are asked for it
    request_id_header   the header in which its SDKs look for a request's id, if not x-request-id
    reset_header        the header of a 429 in which its clients look for the time until which to wait, as Unix seconds
    query_values        query parameters that it declares, with the values under which its meters can read the answer
    form                how it reads requests that come as forms; None: it does not
    answers_media       its answers can be sound or pictures, so that a client may accept any type
    allows_comments     its clients skip comments in streams of events
    limit_headers       its own headers of rate limits; None for none
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
    form: FormDialect | None
    answers_media: bool
    allows_comments: bool
    limit_headers: LimitHeaders | None

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a request. `path` holds the route's parameters (Gemini's model). Raises RequestRejectedError."""

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """The body to forward, with a request for the usage chunk and a lowered maximum if given; otherwise `body` itself."""

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        """A meter for a 2xx response (SSE, JSON, JSON array), whatever its content type says; anything else is relayed unread."""

    def error(self, refusal: Refusal, *, request_id: str) -> tuple[str, bytes]:
        """Content type and body of an error in the dialect's shape, with RFC 9457 members beside it."""

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        """An error inside a running event stream, as the dialect's SDKs understand it."""
