"""Authentication and authorization on the console's API. One function decides both."""

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from aiohttp import hdrs, web

from tallygate.console.api_errors import ApiError
from tallygate.ledger.directory.sign_ins import Session

TOKEN_CHARS_MAX: Final = 512  # a longer one is unknown
READING: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


class Access(StrEnum):
    """The access that a route needs and a token has; WRITE includes READ. METRICS is for /metrics alone, no route of the API."""

    METRICS = "metrics"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAccess:
    """The holder of an admin token.

    actor   the token's id, as the audit log names it
    orgs    the organizations in its scope; None: all, and the platform's own affairs
    name    as people call it; expires_at_ms: None for never
    source  identifies the token, without being it: its id, or a fingerprint
    session None if the token itself was sent
    """

    actor: str
    access: Access
    orgs: frozenset[str] | None = None
    name: str = ""
    expires_at_ms: int | None = None
    source: str = ""
    session: Session | None = None

    @property
    def sees_metrics(self) -> bool:
        """Return whether the holder may read /metrics, which names every organization."""
        return self.orgs is None

    def sees(self, org: str) -> bool:
        return self.orgs is None or org in self.orgs


class AdminTokens(Protocol):
    """A store of admin tokens."""

    async def find(self, token: str) -> AdminAccess | None:
        """Find the access that this token gives; None if it is unknown, expired or revoked. Never raises for any text."""


class Sessions(Protocol):
    """The sessions of browsers."""

    async def find(self, request: web.Request) -> AdminAccess | None:
        """Find the access of the session whose cookie this request has; None without a valid one."""

    def require_own_page(self, request: web.Request) -> None:
        """Raise ApiError unless a page of the console made this request: browsers send cookies with those of others, too."""


class PlatformToken:
    """A token of the process's settings, for all organizations. Only its digest is kept."""

    def __init__(self, token_sha256: bytes, *, actor: str = "platform", access: Access = Access.WRITE) -> None:
        self._token_sha256 = token_sha256
        source = f"{actor} {hashlib.sha256(b'session of ' + token_sha256).hexdigest()}"
        self.access = AdminAccess(actor=actor, access=access, name=actor, source=source)

    async def find(self, token: str) -> AdminAccess | None:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        is_it = hmac.compare_digest(digest, self._token_sha256)
        return self.access if is_it else None


async def access_of(request: web.Request, tokens: AdminTokens, sessions: Sessions | None = None) -> AdminAccess | None:
    """The access of the token in a request's Authorization header, or else of its session; None without a valid one."""
    if hdrs.AUTHORIZATION not in request.headers:
        return None if sessions is None else await sessions.find(request)
    scheme, _, token = request.headers[hdrs.AUTHORIZATION].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_CHARS_MAX:
        return None
    return await tokens.find(token)


async def authorize(request: web.Request, tokens: AdminTokens, needed: Access, sessions: Sessions | None = None) -> AdminAccess:
    """The caller of a request that needs `needed`. Raises ApiError 401 without a valid token or session, 403 if it may only read.

    A session is also refused what a page of somebody else's may have asked for.
    """
    found = await access_of(request, tokens, sessions)
    if found is None:
        raise not_signed_in()
    refuse_metrics_only(found)
    if sessions is not None and found.session is not None and request.method not in READING:
        sessions.require_own_page(request)
    if needed is Access.WRITE and found.access is not Access.WRITE:
        raise ApiError(status=403, code="read_only_token", message="this admin token may read, not change")
    return found


def refuse_metrics_only(found: AdminAccess) -> None:
    """Raise ApiError 403 for the holder of a token that is for /metrics alone."""
    if found.access is Access.METRICS:
        raise ApiError(status=403, code="metrics_only_token", message="this admin token may read /metrics and nothing else")


def not_signed_in() -> ApiError:
    return ApiError(
        status=401,
        code="invalid_admin_token",
        message="an admin token is needed: Authorization: Bearer <token>",
        headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
    )
