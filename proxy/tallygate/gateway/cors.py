"""Access for pages of configured other origins, by the Fetch standard's CORS protocol (section 3.3).

Credentials in its sense (cookies and certificates) are never allowed. Keys come in headers that a page sets itself, so no
other page can use them, and any origin can be admitted without exposing what a browser stores.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.gateway.callers.keys import KEY_HEADERS
from tallygate.http1.header import Header
from tallygate.http1.request_head import is_token

ANY: Final = "*"
MAX_AGE_SECONDS: Final = 7_200  # Chromium's maximum for the answer to a preflight
ASKED_NAMES_MAX: Final = 100
_NOT_ALLOWED: Final = Refusal(
    code=ErrorCode.ORIGIN_NOT_ALLOWED,
    message="Pages of this origin may not use this gateway: an operator lets them by TALLYGATE_CORS_ORIGINS.",
    should_retry=False,
)
_EXPOSED: Final = ("x-request-id", "retry-after", "retry-after-ms", "x-should-retry", "ratelimit", "ratelimit-policy")
_ALLOW_PRIVATE: Final[Header] = (b"access-control-allow-private-network", b"true")
_VARY: Final[Header] = (b"vary", b"Origin")
_VARY_PREFLIGHT: Final[Header] = (
    b"vary",
    b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
)


@dataclass(frozen=True, slots=True)
class Grant:
    """The CORS part of the answers to one request. origin: the allowed one; None if it is not allowed, or there is none."""

    origin: bytes | None

    def headers(self, names: Iterable[bytes]) -> list[Header]:
        """Headers to add to an answer with headers of these names, all of which the page may then read."""
        if self.origin is None:
            return [_VARY]
        read = dict.fromkeys((*(name.encode() for name in _EXPOSED), *(name.lower() for name in names)))
        return [(b"access-control-allow-origin", self.origin), (b"access-control-expose-headers", b", ".join(read)), _VARY]


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """The configured policy. origins: as browsers write them, or ANY among them."""

    origins: frozenset[str] = frozenset()

    def grant(self, request: web.BaseRequest) -> Grant | None:
        """The additions to each answer to this request; None if no origin is configured: then no answer has CORS headers.

        Answers to other origins still state that they vary by origin (Fetch, section 3.3.7).
        """
        if not self.origins:
            return None
        origins = request.headers.getall("Origin", ())
        if len(origins) != 1:
            return Grant(None)
        if ANY in self.origins:
            return Grant(ANY.encode())
        return Grant(origins[0].encode()) if origins[0] in self.origins else Grant(None)


def is_preflight(request: web.BaseRequest) -> bool:
    return "Origin" in request.headers and "Access-Control-Request-Method" in request.headers


def preflight_headers(request: web.BaseRequest, grant: Grant | None, *, methods: str) -> list[Header]:
    """The headers of the answer to a preflight. It allows any header; the request itself is checked when it comes.

    methods   of the path, separated by commas
    Raises Refused.
    """
    if grant is None or grant.origin is None:
        raise Refused(_NOT_ALLOWED)
    asked = _asked_names(request.headers.getall("Access-Control-Request-Headers", ()))
    headers: list[Header] = [
        (b"access-control-allow-origin", grant.origin),
        (b"access-control-allow-methods", methods.encode()),
        (b"access-control-max-age", b"%d" % MAX_AGE_SECONDS),
        _VARY_PREFLIGHT,
    ]
    if asked:
        headers.append((b"access-control-allow-headers", ", ".join(asked).encode()))
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers.append(_ALLOW_PRIVATE)  # Private Network Access: a public page may call a gateway in the local network
    return headers


def check_origin(request: web.BaseRequest, grant: Grant | None) -> None:
    """Refuse a page's handshake for a WebSocket, which no preflight precedes. A page cannot set a header for its key.

    Raises Refused.
    """
    origin = request.headers.get("Origin")
    if origin is None or any(name in request.headers for name in KEY_HEADERS):
        return
    is_own = origin.partition("://")[2] == request.headers.get("Host")
    if not is_own and (grant is None or grant.origin is None):
        raise Refused(_NOT_ALLOWED)


def _asked_names(fields: Sequence[str]) -> list[str]:
    names = [name.strip().lower() for field in fields for name in field.split(",") if name.strip()]
    if len(names) > ASKED_NAMES_MAX or not all(map(is_token, names)):
        message = f"Access-Control-Request-Headers must be at most {ASKED_NAMES_MAX} names of headers, separated by commas."
        raise Refused(Refusal(code=ErrorCode.INVALID_REQUEST, message=message, should_retry=False))
    return names
