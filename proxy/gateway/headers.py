"""Which header fields pass through the gateway, each way. Framing and connection are never forwarded, only rebuilt."""

from collections.abc import Iterable, Sequence
from typing import Final

from multidict import MultiMapping

from proxy.config.directory import KEY_PREFIX
from proxy.gateway.authentication import KEY_HEADERS

Header = tuple[bytes, bytes]

VIA_PSEUDONYM: Final = "tallygate"
VIA: Final[Header] = (b"via", b"1.1 " + VIA_PSEUDONYM.encode())

# RFC 9110 section 7.6.1, RFC 9112 section 6, and what browsers and old proxies still send of that kind
_HOP_BY_HOP: Final = frozenset(
    {"connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"}
    | {"proxy-authenticate", "proxy-authorization", "proxy-authentication-info", "content-length"}
)

# Never up: keys (they are the gateway's business), cookies (the gateway's origin is not the upstream's; no AI API uses them),
# who the client claims to be for another proxy, and what the gateway answers itself.
_NOT_UP: Final = _HOP_BY_HOP | frozenset(
    {"authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie", "host", "expect", "x-request-id"}
    | {"forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "x-original-url", "x-rewrite-url"}
)
_NOT_UP_PREFIXES: Final = ("x-forwarded-", "tallygate-")

# Never down: cookies of the upstream's origin, and where else it can be reached.
_NOT_DOWN: Final = frozenset(name.encode() for name in _HOP_BY_HOP) | {b"set-cookie", b"set-cookie2", b"alt-svc"}
_NOT_DOWN_PREFIXES: Final[tuple[bytes, ...]] = (b"tallygate-",)
_RATE_LIMIT_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
_LISTS: Final = frozenset({b"server-timing", b"vary"})  # ours and theirs stand side by side


def request_headers(client: MultiMapping[str], *, credentials: Sequence[Header], request_id: str, is_metered: bool) -> list[Header]:
    """The client's headers as they go up, in order, then ours.

    credentials  the upstream's authentication headers; they replace the client's of the same name
    is_metered   the answer has to be readable: accept-encoding becomes identity
    A header in which the caller's own gateway key stands, whatever its name, stays here: it is a slip that would cost the key.
    Everything else passes unchanged: anthropic-*, openai-*, x-stainless-*, x-cache-ttl, idempotency-key, accept, user-agent ...
    """
    dropped = set(_NOT_UP)
    dropped.update(name.decode("latin-1").lower() for name, _ in credentials)
    dropped.update(token.strip().lower() for value in client.getall("connection", ()) for token in value.split(","))
    if is_metered:
        dropped.add("accept-encoding")
    issued = _issued_key(client)
    headers = [
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in client.items()
        if (lower := name.lower()) not in dropped and not lower.startswith(_NOT_UP_PREFIXES) and not (issued and issued in value)
    ]
    if is_metered:
        headers.append((b"accept-encoding", b"identity"))
    headers += credentials
    headers.append((b"x-request-id", request_id.encode()))
    headers.append(VIA)
    return headers


def _issued_key(client: MultiMapping[str]) -> str:
    """The key of ours that an authenticated request carries, "" if it is none of ours: there is one key at most by now."""
    for name in KEY_HEADERS:
        for word in client.get(name, "").split():
            if word.startswith(KEY_PREFIX):
                return word
    return ""


def response_headers(upstream: Iterable[Header], *, ours: Sequence[Header]) -> list[Header]:
    """The upstream's headers as they go down, in order, then ours.

    A header of ours replaces the upstream's of the same name; if ours speak of rate limits, the upstream's do not go down at
    all, since two different answers to "how much is left" help nobody. The upstream's x-request-id, which its support will ask
    for, goes down as x-upstream-request-id beside ours.
    """
    upstream = list(upstream)
    own_names = {name.lower() for name, _ in ours}
    dropped = (_NOT_DOWN | own_names) - _LISTS
    for name, value in upstream:
        if len(name) == 10 and name.lower() == b"connection":
            dropped |= {token.strip().lower() for token in value.split(b",")}
    prefixes = _NOT_DOWN_PREFIXES
    if any(name.startswith(_RATE_LIMIT_PREFIXES) for name in own_names):
        prefixes += _RATE_LIMIT_PREFIXES
    headers = [
        (name, value) for name, value in upstream if (lower := name.lower()) not in dropped and not lower.startswith(prefixes)
    ]
    if b"x-request-id" in own_names:
        headers += [(b"x-upstream-request-id", value) for name, value in upstream if name.lower() == b"x-request-id"][:1]
    headers += ours
    headers.append(VIA)
    return headers
