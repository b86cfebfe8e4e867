"""The way of a header by its name alone, each way through the gateway. Framing and connection are never forwarded, only rebuilt."""

import re
from enum import Enum
from functools import lru_cache
from typing import Final

from tallygate.dialects.limits import RATE_LIMIT_PREFIXES
from tallygate.dialects.request_headers import CHANGE_FORM, SENT_BY_SDKS
from tallygate.gateway.callers.keys import KEY_HEADERS

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
_KEYS: Final = frozenset(name.lower().encode() for name in KEY_HEADERS)

# Never down: cookies of the upstream's origin, where else it can be reached, keys, which an upstream that shows what it was
# sent would give away, and orders to servers in front of it, which those in front of the gateway would obey: to send another
# file or address instead, or to keep the answer for others.
_NOT_DOWN: Final = (
    _HOP_BY_HOP
    | _KEYS
    | {b"set-cookie", b"set-cookie2", b"alt-svc"}
    | {b"x-accel-redirect", b"x-accel-expires", b"x-sendfile", b"x-lighttpd-send-file", b"x-reproxy-url"}
    | {b"surrogate-control", b"cdn-cache-control"}
)
# Our own names; and who may read an answer of the upstream's origin, which says nothing of ours.
_NOT_DOWN_PREFIXES: Final = (b"tallygate-", b"access-control-")

_NAMES_MAX: Final = 512  # header names with cached ways, each way: clients and upstreams send the same ones again


class Way(Enum):
    """What becomes of a header, by its name."""

    PASSES = 0
    ENDS = 1
    CONNECTION = 2  # ends here, and so do the headers that it names
    KEY = 3  # ends here, as do other headers in which the same key stands
    RATE_LIMIT = 4  # relayed only if our own headers show no limits
    REQUEST_ID = 5
    OWN = 6  # forwarded only with the client's own key
    IDEMPOTENT = 7  # beside the operator's key, made the organization's own
    UNKNOWN = 8  # passes, but at a metered route only with the client's own key
    FORM = 9  # changes the form of an answer: like UNKNOWN if it is not refused
    ACCEPT = 10  # at a metered route, what the meters can read
    CONTENT_TYPE = 11  # at a metered route always JSON, as the body was parsed
    DATE = 12


@lru_cache(_NAMES_MAX)
def upward(name: bytes) -> tuple[bytes, Way]:
    """The lower-case name, and whether it is forwarded upstream."""
    lower = name.lower()
    if lower == b"connection":
        return lower, Way.CONNECTION
    if lower in _KEYS:
        return lower, Way.KEY
    if lower in _NOT_UP or lower.startswith(_NOT_UP_PREFIXES) or _KEY_NAME.search(lower) is not None:
        return lower, Way.ENDS
    if lower in _CHANGES_FORM:
        return lower, Way.FORM
    if _IDEMPOTENCY in lower:
        return lower, Way.IDEMPOTENT
    if lower == b"accept":
        return lower, Way.ACCEPT
    if lower == b"content-type":
        return lower, Way.CONTENT_TYPE
    if lower in _METERED or lower.startswith(_METERED_PREFIXES):
        return lower, Way.PASSES
    return lower, Way.OWN if _ACTS_FOR.search(lower) is not None else Way.UNKNOWN


@lru_cache(_NAMES_MAX)
def downward(name: bytes) -> tuple[bytes, Way]:
    """The lower-case name, and whether it is forwarded to the client."""
    lower = name.lower()
    if lower == b"connection":
        return lower, Way.CONNECTION
    if lower in _NOT_DOWN or lower.startswith(_NOT_DOWN_PREFIXES):
        return lower, Way.ENDS
    if lower == b"x-request-id":
        return lower, Way.REQUEST_ID
    if lower == b"date":
        return lower, Way.DATE
    return lower, Way.RATE_LIMIT if lower.startswith(RATE_LIMIT_PREFIXES) else Way.PASSES
