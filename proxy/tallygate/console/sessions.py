"""Browsers that have signed in: their cookie, and the proof that a page of the console made a request.

A browser sends a cookie with whatever request it makes, also on behalf of other sites. `SameSite=Strict` keeps it from most of
those; a change also needs the browser's word for the page that asked (Sec-Fetch-Site or Origin), and JSON, which forms cannot send.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from aiohttp import hdrs, web

from tallygate.config.sign_in import OpenIdProvider
from tallygate.console.api_access import TOKEN_CHARS_MAX, Access, AdminAccess, AdminTokens
from tallygate.console.api_errors import ApiError, unknown_host
from tallygate.console.known_hosts import KnownHosts
from tallygate.ledger.directory.sign_ins import LIFETIME_MS, MadeSession, Method, Session, SignedIn, SignIns

COOKIE: Final = "tallygate_session"
_FETCH_SITE: Final = "Sec-Fetch-Site"  # Fetch Metadata Request Headers (W3C), section 2.3
_SCHEMES: Final = frozenset({"http", "https"})


class SignInTokens(AdminTokens, Protocol):
    """Admin tokens that sessions may begin with."""

    async def of_source(self, source: str) -> AdminAccess | None:
        """Find the access of the token that an AdminAccess came from, as it is now; None if the token is not valid any more."""


class ConsoleSessions:
    """The sessions of one console. Implements api_access.Sessions.

    hosts   names under which pages are served: another name may be somebody else's that was made to resolve here
    url     the address under which people reach the console, "" if it has none of its own; with https, cookies are Secure
    openid  the provider in force, if any
    """

    def __init__(
        self,
        sign_ins: SignIns,
        tokens: SignInTokens,
        *,
        hosts: KnownHosts,
        url: str,
        openid: Callable[[], OpenIdProvider | None] = lambda: None,
    ) -> None:
        self.tokens = tokens
        self.openid = openid
        self._sign_ins = sign_ins
        self._hosts = hosts
        self._url = url
        self._is_secure = url.startswith("https:")

    async def find(self, request: web.Request) -> AdminAccess | None:
        """See Sessions. Raises LedgerUnavailableError."""
        secret = self._secret(request)
        if not secret or not self.is_known_host(request):
            return None
        session = await self._sign_ins.find(secret)
        return None if session is None else await self.access_of(session)

    async def begin(self, request: web.Request, who: SignedIn, *, lifetime_ms: int = LIFETIME_MS) -> MadeSession:
        """Begin a session, always a new one, and end that which the browser had."""
        return await self._sign_ins.begin(who, instead_of=self._secret(request), lifetime_ms=lifetime_ms)

    async def begin_by_link(self, request: web.Request, secret: str) -> MadeSession | None:
        """See SignIns.begin_by_link."""
        return await self._sign_ins.begin_by_link(secret, instead_of=self._secret(request))

    async def end(self, request: web.Request, *, everywhere: bool) -> None:
        """End the request's session. everywhere: and all others of the same actor."""
        found = await self.find(request) if everywhere else None
        if found is not None:
            await self._sign_ins.end_of(found.actor)
        elif secret := self._secret(request):
            await self._sign_ins.end(secret)

    def set_cookie(self, request: web.Request, response: web.Response, made: MadeSession) -> None:
        lifetime_ms = made.session.expires_at_ms - made.session.created_at_ms
        self.put_cookie(request, response, COOKIE, made.secret, lifetime_ms // 1000)

    def clear_cookie(self, request: web.Request, response: web.Response) -> None:
        self.put_cookie(request, response, COOKIE, "", 0)

    def require_own_page(self, request: web.Request) -> None:
        """See Sessions."""
        if not self.is_known_host(request):
            raise unknown_host()
        site = request.headers.get(_FETCH_SITE)
        origin = request.headers.get(hdrs.ORIGIN, "")
        if not (site == "same-origin" if site is not None else self._is_own(origin, request)):
            message = "a change with a session must come from a page of this console: send an admin token instead"
            raise ApiError(status=403, code="cross_origin", message=message)
        if request.body_exists and request.content_type != "application/json":
            raise ApiError(status=415, code="not_json", message="the body must be sent as application/json")

    def origin_of(self, request: web.Request) -> str:
        """The address of the console, as its setting has it, or else as this request does."""
        return self._url or f"http://{request.headers.get(hdrs.HOST, '')}"

    def is_known_host(self, request: web.Request) -> bool:
        return self._hosts.include(request.headers.getall(hdrs.HOST, ()))

    def _is_own(self, origin: str, request: web.Request) -> bool:
        """Return whether an origin is that of the console. Which scheme a proxy in front of it speaks, only the setting tells."""
        scheme, _, host = origin.partition("://")
        if self._is_secure:
            return origin == self._url
        return scheme in _SCHEMES and (origin == self._url or host == request.headers.get(hdrs.HOST))

    def _secret(self, request: web.Request) -> str:
        return self.cookie_of(request, COOKIE)

    def cookie_of(self, request: web.Request, name: str) -> str:
        """The value of a cookie, "" for none."""
        found = request.cookies.get(self._full_name(request, name), "")
        return found if len(found) <= TOKEN_CHARS_MAX else ""

    def _full_name(self, request: web.Request, name: str) -> str:
        """A browser sends one cookie to all ports of a host, so that two consoles on one machine need two names.

        With `__Host-`, a browser takes it from this very host alone (RFC 6265bis, section 4.1.3.2).
        """
        if self._is_secure:
            return f"__Host-{name}"
        port = request.headers.get(hdrs.HOST, "").rpartition(":")[2]
        return f"{name}_{port}" if port.isdecimal() else name

    def put_cookie(
        self,
        request: web.Request,
        response: web.Response,
        name: str,
        value: str,
        max_age: int,
        *,
        is_from_elsewhere: bool = False,
    ) -> None:
        """Set a cookie. is_from_elsewhere: it also comes with a link of another site's, such as one back from a provider."""
        response.set_cookie(
            self._full_name(request, name),
            value,
            max_age=max_age,
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="Lax" if is_from_elsewhere else "Strict",
        )

    async def access_of(self, session: Session) -> AdminAccess | None:
        """The access of a session as it is now; None if what the session began with has ended."""
        if session.method is Method.TOKEN:
            found = await self.tokens.of_source(session.source)
            if found is None:
                return None
            ends = [at_ms for at_ms in (found.expires_at_ms, session.expires_at_ms) if at_ms is not None]
            return replace(found, expires_at_ms=min(ends), session=session)
        if session.method is Method.OPENID:
            provider = self.openid()
            if provider is None or provider.fingerprint != session.source:
                return None
        return AdminAccess(
            actor=session.actor,
            access=Access(session.access.value),
            orgs=None if session.orgs is None else frozenset(session.orgs),
            name=session.name,
            expires_at_ms=session.expires_at_ms,
            source=session.source,
            session=session,
        )
