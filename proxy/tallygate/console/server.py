"""The console's HTTP surface: /metrics, /healthz and /readyz, beside them the API and the page, and a 404 for everything else."""

import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiohttp import hdrs, web

from tallygate.console.api_access import AdminTokens, PlatformToken, access_of
from tallygate.console.api_errors import RETRY_SECONDS, ApiError, unavailable, unknown_host
from tallygate.console.api_routes import Api
from tallygate.console.known_hosts import KnownHosts
from tallygate.console.openid import FAILED, OpenIdSignIn
from tallygate.console.packed import takes_gzip
from tallygate.console.page_files import PageFiles, plain_page, shows_pages
from tallygate.console.readiness import Readiness
from tallygate.console.scrape import Scrape
from tallygate.console.wrong_tokens import WrongTokens
from tallygate.http1.client_connection import ClientConnection, ClientTimeouts
from tallygate.http1.client_port import ClientPort
from tallygate.http1.faults import Fault
from tallygate.http1.received_head import asks_about_nothing, fault_of_request, offers_websocket
from tallygate.http1.server_connection import last_answer, put_before
from tallygate.ledger.database_errors import LedgerUnavailableError

_LOG: Final = logging.getLogger(__name__)
HEADER_BYTES_MAX: Final = 8_190
HEAD_BYTES_MAX: Final = 32_768
BODY_BYTES_MAX: Final = 2**20  # of a body; routes have smaller maxima of their own
CONNECTIONS_MAX: Final = 512
SHUTDOWN_SECONDS: Final = 1.0
PATH_CHARS_LOGGED: Final = 200
_ALWAYS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}  # of every answer, unless it has its own
_API_PATHS: Final = ("/api/", "/v1/")
_CODES: Final = {
    400: "bad_request",
    414: "uri_too_long",
    417: "expectation_failed",
    431: "head_too_large",
    500: "internal_error",
    501: "unknown_method",
    505: "http_version_not_supported",
}
_UNKNOWN_PATH: Final = ApiError(status=404, code="unknown_path", message="there is nothing at this path; see /api/openapi.json")
_NO_WEBSOCKETS: Final = ApiError(
    status=426,
    code="websocket_not_served",
    message="this is served over plain HTTP only, not over a WebSocket",
    headers={hdrs.UPGRADE: "HTTP/1.1", hdrs.CONNECTION: "upgrade, close"},
)
_NO_METRICS_TOKEN: Final = ApiError(
    status=401,
    code="missing_or_wrong_token",
    message="a token is needed: Authorization: Bearer <token>",
    headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
)
_ALL_ORGANIZATIONS: Final = ApiError(
    status=403, code="token_of_some_organizations", message="metrics name all organizations, and this token sees some"
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BaseHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ConsoleServer:
    """Serves on an inherited socket.

    token_sha256   digest of a token that /metrics requires; None if requests under a known host need none, as on loopback.
                   Health is open to all, since it reveals nothing that a port scan would not.
    api            further routes, which require their own tokens wherever the console listens
    asked          called for each call of the API
    tokens         further tokens that /metrics accepts, if they may see all organizations; so it does sessions of the API
    page           the page's files, served under known hosts
    openid         signing in at a provider
    hosts          the known hosts
    wrong_tokens   delays the answers to wrong tokens
    timeouts       for clients, as at the gateway's port; connections_max: of them at once (`OpenConnections`)
    """

    def __init__(
        self,
        *,
        scrape: Scrape,
        readiness: Readiness,
        token_sha256: bytes | None,
        timeouts: ClientTimeouts,
        api: Api | None = None,
        asked: Sequence[Callable[[], None]] = (),
        tokens: AdminTokens | None = None,
        page: PageFiles | None = None,
        openid: OpenIdSignIn | None = None,
        hosts: KnownHosts | None = None,
        wrong_tokens: WrongTokens | None = None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._scrape = scrape
        self._readiness = readiness
        self._token_sha256 = token_sha256
        self._tokens = tokens
        self._sessions = None if api is None else api.sessions
        self._hosts = hosts or KnownHosts()
        self._wrong_tokens = wrong_tokens or WrongTokens(now_ms=lambda: time.monotonic_ns() // 1_000_000)
        app = web.Application(middlewares=[_ended, _plain_errors, _no_websockets, self._slow_wrong_tokens], client_max_size=1024)
        app.router.add_get("/metrics", self._metrics, allow_head=False)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        if api is not None:
            api.add_to(app, asked)
        if page is not None:
            page.add_to(app, self._hosts)
        if openid is not None:
            openid.add_to(app)
        app.on_response_prepare.append(self._finish_head)
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self.port = ClientPort(
            connections_max=connections_max,
            timeouts=timeouts,
            answer_fault=_answer_fault,
            head_bytes_max=HEAD_BYTES_MAX,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )

    async def start(self, sock: socket.socket) -> None:
        await self._runner.setup()
        if self._runner.server is None:
            raise RuntimeError("setup makes the server")
        put_before(self._runner.server, _checked)
        await self.port.open(self._runner.server, sock)

    def announce_leaving(self) -> None:
        """Keep serving, but close each connection after its next answer, so that clients go elsewhere with their next request."""
        self.port.announce_leaving()

    async def drain(self, grace_seconds: float) -> None:
        """Accept no more; return when every request is answered, at the latest after the grace."""
        await self.port.drain(grace_seconds, is_busy=self.port.is_answering)

    async def close(self) -> None:
        self.port.close()
        await self._runner.cleanup()

    async def _finish_head(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.pop(hdrs.SERVER, None)
        for name, value in _ALWAYS.items():
            response.headers.setdefault(name, value)
        connection = request.protocol
        if isinstance(connection, ClientConnection) and connection.is_last:
            response.headers.setdefault(hdrs.CONNECTION, "close")
            response.force_close()

    async def _metrics(self, request: web.Request) -> web.Response:
        try:
            refusal = await self._refusal(request)
        except LedgerUnavailableError:
            return unavailable("ledger_unavailable", "the ledger does not answer, so admin tokens cannot be checked").answer()
        if refusal is not None:
            return refusal
        is_gzipped = takes_gzip(request)
        content_type, body = await self._scrape.text(accept=request.headers.get(hdrs.ACCEPT, ""), is_gzipped=is_gzipped)
        headers = {hdrs.CONTENT_TYPE: content_type, hdrs.VARY: "Accept, Accept-Encoding"}
        return web.Response(body=body, headers=headers | ({hdrs.CONTENT_ENCODING: "gzip"} if is_gzipped else {}))

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _answer(200, {"status": "alive"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        is_ready, checks = await self._readiness.check()
        answer = [{"name": check.name, "passed": check.passed, "reason": check.reason} for check in checks]
        return _answer(200 if is_ready else 503, {"status": "ready" if is_ready else "not_ready", "checks": answer})

    async def _refusal(self, request: web.Request) -> web.Response | None:
        """The refusal of a request that may not read metrics. A known host needs no token; a token needs no known host."""
        is_known = self._hosts.include(request.headers.getall(hdrs.HOST, ()))
        if self._token_sha256 is None and is_known:
            return None
        platform = None if self._token_sha256 is None else PlatformToken(self._token_sha256)
        for tokens in (platform, self._tokens):
            found = None if tokens is None else await access_of(request, tokens, self._sessions)
            if found is not None:
                return None if found.sees_metrics else _ALL_ORGANIZATIONS.answer()
        if self._token_sha256 is None and hdrs.AUTHORIZATION not in request.headers:
            return unknown_host().answer()
        return _NO_METRICS_TOKEN.answer()

    @web.middleware
    async def _slow_wrong_tokens(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if (response.status == 401 and hdrs.AUTHORIZATION in request.headers) or request.get(FAILED):
            path = request.path[:PATH_CHARS_LOGGED]
            if not await self._wrong_tokens.slow_down(request.remote or "", path):
                headers: dict[str, str] = {hdrs.RETRY_AFTER: str(RETRY_SECONDS)}
                text = "too many wrong admin tokens are being answered; a right one is not kept waiting"
                return ApiError(status=429, code="too_many_wrong_tokens", message=text, headers=headers).answer()
        return response


def _answer_fault(fault: Fault) -> web.Response:
    return ApiError(status=fault.status, code=_CODES[fault.status], message=fault.message).answer()


def _checked(handler: BaseHandler) -> BaseHandler:
    """Check a request before the application, which would answer an expectation by itself and does not check Host."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        fault = fault_of_request(request)
        if fault is None and not asks_about_nothing(request):
            return await handler(request)
        response = web.Response(status=204) if fault is None else _answer_fault(fault)
        response.headers.update(_ALWAYS)
        last_answer(request, response)
        return response

    return handle


@web.middleware
async def _ended(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Inform the connection when a request has ended, and limit the time for its body."""
    connection = request.protocol
    if not isinstance(connection, ClientConnection):  # the application served by another server
        return await handler(request)
    if request.body_exists:
        connection.await_body(BODY_BYTES_MAX)
    try:
        return await handler(request)
    finally:
        connection.body_read()
        connection.end_exchange()


@web.middleware
async def _no_websockets(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse an offer of WebSocket at a known path: only HTTP is served (RFC 9110 section 15.5.22)."""
    found = request.match_info.http_exception
    if not offers_websocket(request) or (found is not None and found.status == 404):
        return await handler(request)
    response = _NO_WEBSOCKETS.answer()
    response.force_close()
    return response


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give errors constant bodies, which repeat nothing of the request."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"this path takes {allowed}, and no other method"
        return ApiError(status=405, code="method_not_allowed", message=message, headers={hdrs.ALLOW: allowed}).answer()
    except web.HTTPException as error:
        if error.status != 404:
            return ApiError(status=error.status, code="refused", message="the request cannot be answered as it is").answer()
        if shows_pages(request) and not request.path.startswith(_API_PATHS):
            return plain_page(404, "There is nothing at this address", '<a href="/">To the usage page</a>')
        return _UNKNOWN_PATH.answer()
    except Exception:  # noqa: BLE001 - the outermost place: logged, and answered without a word of it
        _LOG.exception("the console failed to answer")
        return ApiError(status=500, code="internal_error", message="the console failed to answer; its log says why").answer()


def _answer(status: int, body: Mapping[str, object], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode() + b"\n", content_type="application/json", headers=headers)
