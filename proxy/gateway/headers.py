"""Which header fields pass through the gateway, each way. Framing and connection are never forwarded, only rebuilt."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from proxy.gateway.authentication import KEY_HEADERS
from proxy.gateway.key_traces import gives_away, key_words, may_give_away

Header = tuple[bytes, bytes]

VIA_PSEUDONYM: Final = "tallygate"
VIA: Final[Header] = (b"via", b"1.1 " + VIA_PSEUDONYM.encode())

# RFC 9110 section 7.6.1, RFC 9112 section 6, and what browsers and old proxies still send of that kind
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings"}
    | {b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info", b"content-length"}
)

# Never up: keys (they are the gateway's business), cookies (the gateway's origin is not the upstream's; no AI API uses them),
# who the client claims to be for another proxy, and what the gateway answers itself.
_NOT_UP: Final = _HOP_BY_HOP | frozenset(
    {b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key", b"cookie", b"host", b"expect", b"x-request-id"}
    | {b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip", b"x-original-url", b"x-rewrite-url"}
)
# ... nor headers that are keys by their name: Anthropic-Api-Key, X-Auth-Token, X-Amzn-Authorization ...
_KEY_NAME: Final = re.compile(rb"api[-_]?key|(?:auth|access|api|secret)[-_]?token|authorization|cookie|password")
_NOT_UP_PREFIXES: Final = (b"x-forwarded-", b"tallygate-")

# Never down: cookies of the upstream's origin, and where else it can be reached.
_NOT_DOWN: Final = _HOP_BY_HOP | {b"set-cookie", b"set-cookie2", b"alt-svc"}
_NOT_DOWN_PREFIX: Final = b"tallygate-"
_RATE_LIMIT_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
_LISTS: Final = frozenset({b"server-timing", b"vary"})  # ours and theirs stand side by side

_KEYS: Final = frozenset(name.lower().encode() for name in KEY_HEADERS)
_IDENTITY: Final[Header] = (b"accept-encoding", b"identity")

_NAMES_MAX: Final = 512  # header names whose verdict is remembered, each way: clients and upstreams send the same ones again


# What a header's name says about its way, whatever else is sent. Plain numbers: reading an enum's member costs as much as all else.
_PASSES: Final = 0
_ENDS: Final = 1
_CONNECTION: Final = 2  # ends here, and so do the headers that it names
_KEY: Final = 3  # ends here, as do other headers in which the same key stands
_RATE_LIMIT: Final = 4  # goes down only where ours say nothing of limits
_REQUEST_ID: Final = 5


@lru_cache(_NAMES_MAX)
def _upward(name: bytes) -> tuple[bytes, int]:
    """The lower-case name, and its way up."""
    lower = name.lower()
    if lower == b"connection":
        return lower, _CONNECTION
    if lower in _KEYS:
        return lower, _KEY
    is_kept = lower in _NOT_UP or lower.startswith(_NOT_UP_PREFIXES) or _KEY_NAME.search(lower) is not None
    return lower, _ENDS if is_kept else _PASSES


@lru_cache(_NAMES_MAX)
def _downward(name: bytes) -> tuple[bytes, int]:
    """The lower-case name, and its way down."""
    lower = name.lower()
    if lower == b"connection":
        return lower, _CONNECTION
    if lower in _NOT_DOWN or lower.startswith(_NOT_DOWN_PREFIX):
        return lower, _ENDS
    if lower == b"x-request-id":
        return lower, _REQUEST_ID
    return lower, _RATE_LIMIT if lower.startswith(_RATE_LIMIT_PREFIXES) else _PASSES


@lru_cache(_NAMES_MAX)
def _replaced(own_names: tuple[bytes, ...]) -> tuple[frozenset[bytes], bool]:
    """Which of the upstream's headers ours replace, and whether ours speak of rate limits. Few combinations of ours exist."""
    lower = frozenset(name.lower() for name in own_names)
    return lower - _LISTS, any(name.startswith(_RATE_LIMIT_PREFIXES) for name in lower)


def request_headers(client: Sequence[Header], *, credentials: Sequence[Header], request_id: str, is_metered: bool) -> list[Header]:
    """The client's headers as they go up, in order, then ours.

    client       as received, in order, repeated ones included
    credentials  the upstream's authentication headers; they replace the client's of the same name
    is_metered   the answer has to be readable: accept-encoding becomes identity
    A header in which a gateway key stands, the caller's own or another's, stays here whatever its name (`key_traces`).
    Everything else passes unchanged: anthropic-*, openai-*, x-stainless-*, x-cache-ttl, idempotency-key, accept, user-agent ...
    """
    dropped = {name.lower() for name, _ in credentials}
    if is_metered:
        dropped.add(b"accept-encoding")
    keys: list[bytes] = []
    passing: list[tuple[bytes, Header]] = []
    for header in client:
        lower, way = _upward(header[0])
        if way == _PASSES:
            passing.append((lower, header))
        elif way == _CONNECTION:
            dropped.update(_connection_options(header[1]))
        elif way == _KEY:
            keys += key_words(header[1])
    headers = [header for lower, header in passing if lower not in dropped]
    if may_give_away(b"\n".join([value for _, value in headers]), keys):
        headers = [header for header in headers if not gives_away(header[1], keys)]
    if is_metered:
        headers.append(_IDENTITY)
    headers += credentials
    headers.append((b"x-request-id", request_id.encode()))
    headers.append(VIA)
    return headers


def response_headers(upstream: Sequence[Header], *, ours: Sequence[Header]) -> list[Header]:
    """The upstream's headers as they go down, in order, then ours.

    A header of ours replaces the upstream's of the same name; if ours speak of rate limits, the upstream's do not go down at
    all, since two different answers to "how much is left" help nobody. The upstream's x-request-id, which its support will ask
    for, goes down as x-upstream-request-id beside ours.
    """
    replaced, is_limited = _replaced(tuple([name for name, _ in ours]))
    named: set[bytes] = set()
    request_id: bytes | None = None
    passing: list[tuple[bytes, Header]] = []
    for header in upstream:
        lower, way = _downward(header[0])
        if way == _CONNECTION:
            named.update(_connection_options(header[1]))
        elif way == _REQUEST_ID and b"x-request-id" in replaced:
            request_id = header[1] if request_id is None else request_id
        elif way != _ENDS and not (is_limited and way == _RATE_LIMIT) and lower not in replaced:
            passing.append((lower, header))
    headers = [header for lower, header in passing if lower not in named]
    if request_id is not None:
        headers.append((b"x-upstream-request-id", request_id))
    headers += ours
    headers.append(VIA)
    return headers


def _connection_options(value: bytes) -> list[bytes]:
    """The names of headers that end at this hop (RFC 9110 section 7.6.1)."""
    return [token.strip().lower() for token in value.split(b",")]
