"""Signing in at an OpenID provider: authorization code flow (OpenID Connect Core 1.0, section 3.1) with PKCE (RFC 7636).

One secret of a browser, in a cookie for ten minutes, is all that a sign-in under way has: state, nonce and PKCE's verifier are
derived from it, so that nobody who has not this cookie can end this sign-in, and consoles need to share nothing.
"""

import base64
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import ClientSession, encode_basic_auth, hdrs, web

from tallygate.config.sign_in import OpenIdProvider
from tallygate.console.api_errors import unknown_host
from tallygate.console.openid_discovery import Discovered, OpenIdDiscovery
from tallygate.console.openid_tokens import TokenRefusedError, key_id_of, verify_id_token
from tallygate.console.sessions import ConsoleSessions
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory.records import Access
from tallygate.ledger.directory.sign_ins import NAME_CHARS_MAX, Method, SignedIn
from tallygate.outbound.session import FetchError, fetch

START_PATH: Final = "/sign-in/openid"
CALLBACK_PATH: Final = "/sign-in/openid/callback"
FAILED: Final = web.RequestKey("failed_sign_in", bool)  # its sender may have guessed, and is answered ever more slowly
COOKIE: Final = "tallygate_sign_in"
_IS_ITS_END: Final = web.RequestKey("sign_in_ends", bool)  # it is the provider's answer to this browser's own sign-in
_GUESSED: Final = frozenset({"refused", "expired"})
SECONDS_MAX: Final = 600  # in which somebody comes back from the provider
EXCHANGES_MAX: Final = 20  # at once: anybody can make up codes
ANSWER_BYTES_MAX: Final = 262_144
SUBJECT_CHARS_MAX: Final = 100  # in the log of changes; a longer one is there by its digest
_CODE_CHARS_MAX: Final = 4_096
_CANCELLED: Final = frozenset({"access_denied", "login_required", "interaction_required", "consent_required"})
_log = logging.getLogger(__name__)


class _SignInError(Exception):
    """A sign-in that failed. code: what the page says of it; the text is for the log."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Answer(msgspec.Struct):
    id_token: str


class OpenIdSignIn:
    """Signs people in at the provider in force.

    session       the HTTP session; not closed here
    existing      those of some ids that are organizations
    monotonic_ms  for what is kept of the provider; now_ms: Unix time, for its tokens
    """

    def __init__(
        self,
        sessions: ConsoleSessions,
        session: ClientSession,
        *,
        existing: Callable[[Sequence[str]], Awaitable[tuple[str, ...]]],
        now_ms: Callable[[], int],
        monotonic_ms: Callable[[], int],
        timeout_ms: int,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._sessions = sessions
        self._session = session
        self._existing = existing
        self._now_ms = now_ms
        self._monotonic_ms = monotonic_ms
        self._timeout_ms = timeout_ms
        self._random_bytes = random_bytes
        self._discovery: tuple[OpenIdProvider, OpenIdDiscovery] | None = None
        self._exchanges = 0

    def add_to(self, app: web.Application) -> None:
        app.router.add_get(START_PATH, self._guarded(self._start), allow_head=False)
        app.router.add_get(CALLBACK_PATH, self._guarded(self._finish), allow_head=False)

    def _guarded(
        self, handler: Callable[[web.Request, OpenIdProvider], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The handler, where there is a provider. What fails leads back to the page, which says why."""

        async def handle(request: web.Request) -> web.Response:
            provider = self._sessions.openid()
            if provider is None:
                raise web.HTTPNotFound
            if not self._sessions.is_known_host(request):
                return unknown_host().answer()
            try:
                return await handler(request, provider)
            except _SignInError as error:
                reason, code = str(error), error.code
            except FetchError as error:
                reason, code = str(error), "unavailable"
            except LedgerUnavailableError as error:
                reason, code = str(error), "unavailable"
            _log.warning("nobody was signed in", extra={"fields": {"reason": reason, "code": code, "address": request.remote}})
            request[FAILED] = code in _GUESSED
            response = _redirect(f"/#sign_in={code}")
            if request.get(_IS_ITS_END):  # else another site may have sent the browser here, in the midst of a sign-in
                self._sessions.put_cookie(request, response, COOKIE, "", 0, is_from_elsewhere=True)
            return response

        return handle

    async def _start(self, request: web.Request, provider: OpenIdProvider) -> web.Response:
        """Send a browser to the provider. A page of somebody else's may not: it would change who is signed in."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise _SignInError("elsewhere", "another site began the sign-in")
        found = await self._discovered(provider).get()
        secret = base64.urlsafe_b64encode(self._random_bytes(32)).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": self._redirect_uri(request),
            "scope": " ".join(provider.scopes),
            "state": _derived(secret, "state"),
            "nonce": _derived(secret, "nonce"),
            "code_challenge": _encoded(hashlib.sha256(_derived(secret, "verifier").encode()).digest()),
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in found.authorization_url else "?"
        response = _redirect(f"{found.authorization_url}{separator}{urlencode(query)}")
        self._sessions.put_cookie(request, response, COOKIE, secret, SECONDS_MAX, is_from_elsewhere=True)
        return response

    async def _finish(self, request: web.Request, provider: OpenIdProvider) -> web.Response:
        """Sign in whom the provider sends back, or say why not."""
        query = request.query
        secret = self._sessions.cookie_of(request, COOKIE)
        state = query.get("state", "")
        if not secret or not hmac.compare_digest(state.encode("utf-8", "replace"), _derived(secret, "state").encode()):
            raise _SignInError("expired", "its state is not that of a sign-in of this browser")
        request[_IS_ITS_END] = True
        discovery = self._discovered(provider)
        found = await discovery.get()
        if query.get("iss", provider.issuer) != provider.issuer or (found.states_issuer and "iss" not in query):
            raise _SignInError("refused", "the answer is of another provider: its iss is not issuer")
        if "error" in query:
            code = "cancelled" if query["error"] in _CANCELLED else "refused"
            raise _SignInError(code, "the provider answered with an error")
        code = query.get("code", "")
        if not 0 < len(code) <= _CODE_CHARS_MAX:
            raise _SignInError("refused", "the answer has no code")
        token = await self._exchange(request, provider, found, code, _derived(secret, "verifier"))
        try:
            found = await discovery.with_key(key_id_of(token))
            claims = verify_id_token(token, found.keys, provider, nonce=_derived(secret, "nonce"), now_ms=self._now_ms())
        except TokenRefusedError as error:
            raise _SignInError("refused", f"the ID token is refused: {error}") from None
        who = await self._who(provider, claims)
        made = await self._sessions.begin(request, who, lifetime_ms=provider.session_ms)
        _log.info("signed in", extra={"fields": {"actor": who.actor, "by": who.method.value, "address": request.remote}})
        response = _redirect("/")
        self._sessions.set_cookie(request, response, made)
        self._sessions.put_cookie(request, response, COOKIE, "", 0, is_from_elsewhere=True)
        return response

    async def _exchange(self, request: web.Request, provider: OpenIdProvider, found: Discovered, code: str, verifier: str) -> str:
        """The ID token for a code (RFC 6749, section 4.1.3)."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri(request),
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {hdrs.ACCEPT: "application/json"}
        if provider.client_secret and found.takes_basic:  # both are form-encoded first: RFC 6749, section 2.3.1
            login, password = quote(provider.client_id, safe=""), quote(provider.client_secret, safe="")
            headers[hdrs.AUTHORIZATION] = encode_basic_auth(login, password)
        else:
            form["client_id"] = provider.client_id
            if provider.client_secret:
                form["client_secret"] = provider.client_secret
        if self._exchanges >= EXCHANGES_MAX:
            raise _SignInError("unavailable", "too many sign-ins wait for the provider")
        self._exchanges += 1
        try:
            body = await fetch(
                self._session,
                "POST",
                found.token_url,
                whose="the OpenID provider",
                bytes_max=ANSWER_BYTES_MAX,
                timeout_s=self._timeout_ms / 1000,
                headers=headers,
                data=form,
            )
            return msgspec.json.decode(body, type=_Answer).id_token
        except (msgspec.MsgspecError, RecursionError):
            raise _SignInError("refused", "the provider's answer has no ID token") from None
        except FetchError as error:
            if error.status in {400, 401, 403}:  # a code that is used, has expired, or was made up; or a wrong client secret
                raise _SignInError("refused", f"the code is not accepted: {error}") from None
            raise
        finally:
            self._exchanges -= 1

    async def _who(self, provider: OpenIdProvider, claims: Mapping[str, Any]) -> SignedIn:
        sees = provider.sees(claims)
        orgs = None if sees is None else await self._existing(sees)
        if orgs == ():
            raise _SignInError("no_organization", "the claim names no organization that is known here")
        subject: str = claims["sub"]
        name = claims.get(provider.name_claim)
        is_name = isinstance(name, str) and 0 < len(name) <= NAME_CHARS_MAX and name.isprintable()
        if not subject.isprintable() or len(subject) > SUBJECT_CHARS_MAX:
            subject = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
        return SignedIn(
            method=Method.OPENID,
            actor=f"openid:{subject}",
            source=provider.fingerprint,
            name=str(name) if is_name else subject,
            access=Access.WRITE if provider.may_write(claims) else Access.READ,
            orgs=orgs,
        )

    def _discovered(self, provider: OpenIdProvider) -> OpenIdDiscovery:
        """What is known of the provider in force; another one is read anew."""
        if self._discovery is None or self._discovery[0] != provider:
            kept = OpenIdDiscovery(provider, self._session, now_ms=self._monotonic_ms, timeout_ms=self._timeout_ms)
            self._discovery = (provider, kept)
        return self._discovery[1]

    def _redirect_uri(self, request: web.Request) -> str:
        return f"{self._sessions.origin_of(request)}{CALLBACK_PATH}"


def _derived(secret: str, what: str) -> str:
    return _encoded(hmac.digest(secret.encode("utf-8", "replace"), what.encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _redirect(location: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: location, "Referrer-Policy": "no-referrer"})
