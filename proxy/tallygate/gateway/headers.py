"""Header fields that pass through the gateway, each way. Framing and connection are never forwarded, only rebuilt."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from http import HTTPStatus
from typing import ClassVar, Final

from tallygate.dialects.limits import RATE_LIMIT_PREFIXES, RESET_HEADER
from tallygate.dialects.request_headers import CHANGE_FORM, SENT_BY_SDKS
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.gateway.callers.key_traces import gives_away, key_words, may_give_away
from tallygate.gateway.callers.keys import KEY_HEADERS
from tallygate.http1.header import Header, http_date

VIA_PSEUDONYM: Final = "tallygate"
# RFC 9110 section 7.6.3: the version is that of the message as it was received, from the client or from the upstream.
_VIA: Final[Header] = (b"via", b"1.1 " + VIA_PSEUDONYM.encode())
_VIA_1_0: Final[Header] = (b"via", b"1.0 " + VIA_PSEUDONYM.encode())

# RFC 9110 section 7.6.1, RFC 9112 section 6, and what browsers and old proxies still send of that kind
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings"}
    | {b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info", b"content-length"}
)

# Never up: keys (they are the gateway's business), cookies (the gateway's origin is not the upstream's; no AI API uses them),
# who the client claims to be for another proxy, what the gateway answers itself, and how a body was coded that goes up decoded.
_NOT_UP: Final = _HOP_BY_HOP | frozenset(
    {b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key", b"cookie", b"host", b"expect", b"x-request-id"}
    | {b"content-encoding"}
    | {b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip", b"x-original-url", b"x-rewrite-url"}
)
# ... nor headers that are keys by their name: Anthropic-Api-Key, X-Auth-Token, X-Amzn-Authorization ...
_KEY_NAME: Final = re.compile(rb"api[-_]?key|(?:auth|access|api|secret)[-_]?token|authorization|cookie|password")
_NOT_UP_PREFIXES: Final = (b"x-forwarded-", b"tallygate-")

# With the operator's key these would act in the operator's name: the project that pays, the workspace of the objects, another
# method than the one that the route table knows. OpenAI-Organization, OpenAI-Project, X-Goog-User-Project, X-Organization-Id ...
_ACTS_FOR: Final = re.compile(
    rb"organi[sz]ation|project|workspace|tenant|account|impersonat|on-behalf|method|quota|billing|authenticated|subscription"
)
_IDEMPOTENCY: Final = b"idempotency"
_IDEMPOTENCY_BYTES: Final = 16

# At a metered route, what SDKs, tracing and browsers send, and what means something to the dialects. Anything else stays here
# beside the operator's key, unless the route lets it through: a header can change the form of an answer as a query can.
_METERED: Final = frozenset(
    {b"accept-language", b"user-agent", b"via", b"max-forwards", b"referer", b"http-referer", b"x-title", b"x-client-request-id"}
    | SENT_BY_SDKS
    | {b"traceparent", b"tracestate", b"baggage", b"b3", b"sentry-trace", b"x-amzn-trace-id", b"x-cloud-trace-context"}
)
_METERED_PREFIXES: Final = (b"x-stainless-", b"x-b3-")
# These remove the usage from an answer or change its form, whichever key is used. RFC 7240 (Prefer), RFC 9110 section
# 14.2 (Range).
_CHANGES_FORM: Final = CHANGE_FORM | {b"prefer", b"range"}
# Media types that the meters can read. Others are removed from Accept; if none remains, the request is refused.
_READABLE: Final = frozenset({b"*/*", b"application/*", b"application/json", b"text/*", b"text/event-stream"})
_ACCEPTS_REMEMBERED_MAX: Final = 64

_KEYS: Final = frozenset(name.lower().encode() for name in KEY_HEADERS)

# Never down: cookies of the upstream's origin, where else it can be reached, and keys, which an upstream that shows what it was
# sent would give away.
_NOT_DOWN: Final = _HOP_BY_HOP | _KEYS | {b"set-cookie", b"set-cookie2", b"alt-svc"}
_NOT_DOWN_PREFIXES: Final = (
    b"tallygate-",
    b"access-control-",
)  # who may read an answer of the upstream's origin says nothing of ours
_LISTS: Final = frozenset({b"server-timing", b"vary"})  # ours and theirs stand side by side

_IDENTITY: Final[Header] = (b"accept-encoding", b"identity")
_READ_AS: Final[tuple[Header, ...]] = ((b"content-type", b"application/json"), _IDENTITY)
_NOT_WHOLE: Final = frozenset({b"accept-encoding", b"range", b"if-range", b"if-none-match", b"if-modified-since"})

_NAMES_MAX: Final = 512  # header names with cached verdicts, each way: clients and upstreams send the same ones again


# The verdict on a header by its name alone. Plain numbers: reading an enum's member would cost as much as everything else.
_PASSES: Final = 0
_ENDS: Final = 1
_CONNECTION: Final = 2  # ends here, and so do the headers that it names
_KEY: Final = 3  # ends here, as do other headers in which the same key stands
_RATE_LIMIT: Final = 4  # relayed only if our own headers show no limits
_REQUEST_ID: Final = 5
_OWN: Final = 6  # forwarded only with the client's own key
_IDEMPOTENT: Final = 7  # beside the operator's key, made the organization's own
_UNKNOWN: Final = 8  # passes, but at a metered route only with the client's own key
_FORM: Final = 9  # changes the form of an answer: like _UNKNOWN if it is not refused
_ACCEPT: Final = 10  # at a metered route, what the meters can read
_CONTENT_TYPE: Final = 11  # at a metered route always JSON, as the body was parsed
_DATE: Final = 12
_OPERATORS: Final = frozenset({_OWN, _IDEMPOTENT})  # these act in the name of the key's owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """The conditions for forwarding headers of a request whose answer nobody reads.

    is_own_key   the upstream sees the client's own key (`passthrough`), so what the headers act for is the client's too
    org          whose request it is
    more         lower-case names that the route lets through, whatever they mean
    """

    is_own_key: bool
    org: str
    more: frozenset[bytes] = frozenset()

    replaced: ClassVar[frozenset[bytes]] = frozenset()  # headers that stay here for ours
    ours: ClassVar[tuple[Header, ...]] = ()

    def changed(self, header: Header, way: int) -> Header | None:
        """The forwarded form of a header that passes only under conditions; None if it is dropped."""
        if self.is_own_key or way not in _OPERATORS:
            return header
        return self._idempotent(header) if way == _IDEMPOTENT else None

    def _idempotent(self, header: Header) -> Header:
        own = blake2b(header[1], key=self.org.encode()[:64], digest_size=_IDEMPOTENCY_BYTES)
        return header[0], own.hexdigest().encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadablePassage(Passage):
    """The conditions where the answer has to be readable: it comes uncoded, and the content type is what the body was read as."""

    replaced: ClassVar[frozenset[bytes]] = frozenset({b"accept-encoding"})
    ours: ClassVar[tuple[Header, ...]] = _READ_AS

    def changed(self, header: Header, way: int) -> Header | None:
        if way == _ACCEPT:
            return header[0], readable_accept(header[1])
        if way == _CONTENT_TYPE:
            return None
        if self.is_own_key:
            return header
        return self._idempotent(header) if way == _IDEMPOTENT else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPassage(ReadablePassage):
    """The conditions where the body is a form, which was read with the boundary that its content type names."""

    content_type: bytes

    @property
    def ours(self) -> tuple[Header, ...]:  # type: ignore[override]  # of this request
        return ((b"content-type", self.content_type), _IDENTITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPassage(ReadablePassage):
    """The conditions where the answer may be sound or pictures, of which any type may be accepted."""

    def changed(self, header: Header, way: int) -> Header | None:
        return header if way == _ACCEPT else super(MediaPassage, self).changed(header, way)


@lru_cache(_NAMES_MAX)
def _upward(name: bytes) -> tuple[bytes, int]:
    """The lower-case name, and whether it is forwarded upstream."""
    lower = name.lower()
    if lower == b"connection":
        return lower, _CONNECTION
    if lower in _KEYS:
        return lower, _KEY
    if lower in _NOT_UP or lower.startswith(_NOT_UP_PREFIXES) or _KEY_NAME.search(lower) is not None:
        return lower, _ENDS
    if lower in _CHANGES_FORM:
        return lower, _FORM
    if _IDEMPOTENCY in lower:
        return lower, _IDEMPOTENT
    if lower == b"accept":
        return lower, _ACCEPT
    if lower == b"content-type":
        return lower, _CONTENT_TYPE
    if lower in _METERED or lower.startswith(_METERED_PREFIXES):
        return lower, _PASSES
    return lower, _OWN if _ACTS_FOR.search(lower) is not None else _UNKNOWN


@lru_cache(_NAMES_MAX)
def _downward(name: bytes) -> tuple[bytes, int]:
    """The lower-case name, and whether it is forwarded to the client."""
    lower = name.lower()
    if lower == b"connection":
        return lower, _CONNECTION
    if lower in _NOT_DOWN or lower.startswith(_NOT_DOWN_PREFIXES):
        return lower, _ENDS
    if lower == b"x-request-id":
        return lower, _REQUEST_ID
    if lower == b"date":
        return lower, _DATE
    return lower, _RATE_LIMIT if lower.startswith(RATE_LIMIT_PREFIXES) else _PASSES


@lru_cache(_NAMES_MAX)
def _replaced(own_names: tuple[bytes, ...]) -> tuple[frozenset[bytes], bool]:
    """Names of the upstream's headers that ours replace, and whether ours speak of rate limits. Few combinations of ours exist."""
    lower = frozenset(name.lower() for name in own_names)
    return lower - _LISTS, any(name.startswith(RATE_LIMIT_PREFIXES) for name in lower)


def request_headers(
    client: Sequence[Header],
    *,
    credentials: Sequence[Header],
    request_id: str,
    passage: Passage,
    query_key: str = "",
    is_http_1_0: bool = False,
) -> list[Header]:
    """The headers to send upstream: the client's in order, then ours.

    client       as received, in order, repeated ones included
    credentials  the upstream's authentication headers; they replace the client's of the same name
    query_key    the caller's key in `?key=`
    is_http_1_0  how the request came
    A header in which a gateway key stands, the caller's own or another's, stays here whatever its name (`key_traces`).
    """
    dropped = {name.lower() for name, _ in credentials} | passage.replaced
    changed, more = passage.changed, passage.more
    keys = [query_key.encode("utf-8", "surrogateescape")] if query_key else []
    passing: list[tuple[bytes, Header]] = []
    for header in client:
        lower, way = _upward(header[0])
        if way == _PASSES:
            passing.append((lower, header))
        elif way == _CONNECTION:
            dropped.update(_connection_options(header[1]))
        elif way == _KEY:
            keys += key_words(header[1])
        elif way != _ENDS:
            forwarded = header if lower in more else changed(header, way)
            if forwarded is not None:
                passing.append((lower, forwarded))
    headers = [header for lower, header in passing if lower not in dropped]
    if may_give_away(b"\n".join([value for _, value in headers]), keys):
        headers = [header for header in headers if not gives_away(header[1], keys)]
    headers += passage.ours
    headers += credentials
    headers.append((b"x-request-id", request_id.encode()))
    headers.append(_VIA_1_0 if is_http_1_0 else _VIA)
    return headers


def read_whole(headers: Sequence[Header]) -> list[Header]:
    """The headers of a request whose answer is read although it is not metered: it must come plain, and not in parts."""
    return [header for header in headers if header[0].lower() not in _NOT_WHOLE] + [_IDENTITY]


def check_form(client: Sequence[Header], more: Collection[bytes], *, is_media: bool = False) -> None:
    """Refuse a request at a metered route for a header that changes the form of the answer.

    more       names that pass all the same
    is_media   the answer may be of any type
    """
    for header in client:
        lower, way = _upward(header[0])
        is_unreadable = way == _ACCEPT and not is_media and header[1] and not readable_accept(header[1])
        if (way == _FORM or is_unreadable) and lower not in more:
            name = lower.decode("latin-1")
            message = (
                f"The header {name!r} may change the form of the answer, which could then not be metered. "
                "Leave it out, or ask the operator to let it pass on this route."
            )
            raise Refused(Refusal(code=ErrorCode.INVALID_REQUEST, message=message, param=name, should_retry=False))


@lru_cache(_ACCEPTS_REMEMBERED_MAX)
def readable_accept(accept: bytes) -> bytes:
    """The media ranges of an Accept header that meters can read, without their parameters; empty if there are none."""
    ranges = (each.partition(b";")[0].strip().lower() for each in accept.split(b","))
    return b", ".join(each for each in ranges if each in _READABLE)


def response_headers(
    upstream: Sequence[Header], *, ours: Sequence[Header], status: int = 200, now_ms: int | None = None, is_http_1_0: bool = False
) -> list[Header]:
    """The headers to send to the client: the upstream's in order, then ours.

    now_ms       the Date of an answer that has none (RFC 9110 section 6.6.1); None leaves it without
    is_http_1_0  how the answer came

    A header of ours replaces the upstream's of the same name; if ours speak of rate limits, the upstream's do not go down at
    all, since two different answers to "how much is left" help nobody; but for the time until which its own 429 asks to wait.
    The upstream's x-request-id, which its support will ask for, goes down as x-upstream-request-id beside ours.
    """
    replaced, is_limited = _replaced(tuple([name for name, _ in ours]))
    named: set[bytes] = set()
    request_id: bytes | None = None
    has_date = False
    passing: list[tuple[bytes, Header]] = []
    for header in upstream:
        lower, way = _downward(header[0])
        if way == _CONNECTION:
            named.update(_connection_options(header[1]))
        elif way == _REQUEST_ID and b"x-request-id" in replaced:
            request_id = header[1] if request_id is None else request_id
        elif way == _DATE:
            has_date = True
            passing.append((lower, header))
        elif way == _RATE_LIMIT and is_limited:
            if status == HTTPStatus.TOO_MANY_REQUESTS and lower == RESET_HEADER and lower not in replaced:
                passing.append((lower, header))
        elif way != _ENDS and lower not in replaced:
            passing.append((lower, header))
    headers = [header for lower, header in passing if lower not in named]
    if request_id is not None:
        headers.append((b"x-upstream-request-id", request_id))
    if not has_date and now_ms is not None:
        headers.append((b"date", http_date(now_ms)))
    headers += ours
    headers.append(_VIA_1_0 if is_http_1_0 else _VIA)
    return headers


def _connection_options(value: bytes) -> list[bytes]:
    """The names of headers that end at this hop (RFC 9110 section 7.6.1)."""
    return [token.strip().lower() for token in value.split(b",")]
