"""Authentication of the gateway at upstreams. A key that tallygate issued is never forwarded."""

from collections.abc import Sequence

from multidict import MultiMapping

from tallygate.config.directory import KEY_PREFIX
from tallygate.config.model import AuthKind, UpstreamAuth
from tallygate.dialects.dialect import Dialect
from tallygate.gateway.callers.keys import KEY_HEADERS
from tallygate.gateway.oauth2_token import OAuth2Token
from tallygate.http1.header import Header
from tallygate.http1.upstream_failure import FailureKind, UpstreamError
from tallygate.outbound.session import FetchError


class UpstreamAuthError(UpstreamError):
    """The upstream's authorization server gave no token. Nothing was sent to the upstream."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(FailureKind.UNREACHABLE, message, reason=reason)


class UpstreamCredentials:
    """The authentication headers of requests to one upstream.

    is_own   the operator's key is sent, and not the client's
    """

    def __init__(self, auth: UpstreamAuth, token: OAuth2Token | None = None) -> None:
        """token: needed for `oauth2_client_credentials`, ignored otherwise."""
        if auth.kind is AuthKind.OAUTH2_CLIENT_CREDENTIALS and token is None:
            raise ValueError("oauth2_client_credentials needs a token source")
        self._auth = auth
        self._token = token
        self.is_own = auth.kind is not AuthKind.PASSTHROUGH
        self._is_fetched = auth.kind is AuthKind.OAUTH2_CLIENT_CREDENTIALS
        self._fixed: dict[str, Header] = {}  # the operator's own key, by the header that it is sent in

    async def headers(self, client: MultiMapping[str], dialect: Dialect, query_key: str = "") -> list[Header]:
        """The headers to send, in place of the client's own authentication headers, which never go up as they came.

        client     the request's headers; query_key: the key in its `?key=`, which goes up as `x-goog-api-key` where keys pass
        dialect    says in which header
        Raises UpstreamAuthError if no token can be had.
        """
        if not self.is_own:
            return _passed_through(client, query_key)
        if self._is_fetched:
            return [_header("authorization" if self._auth.header == "auto" else self._auth.header, await self._access_token())]
        name = self._header_name(client, dialect)
        if name not in self._fixed:
            self._fixed[name] = _header(name, self._auth.secret)
        return [self._fixed[name]]

    def accepted(self, sent: Sequence[Header]) -> None:
        """Note that the upstream accepted these headers."""
        if self._token is not None:
            self._token.accept(_secret(sent))

    def refused(self, sent: Sequence[Header]) -> bool:
        """The upstream answered these headers with 401: whether others can be tried. A fetched token is given up then."""
        return self._token is not None and self._token.refuse(_secret(sent))

    async def _access_token(self) -> str:
        if self._token is None:
            raise UpstreamAuthError("no way to authenticate the gateway is configured")
        try:
            return await self._token.get()
        except FetchError as error:
            reason = f"no access token for it: {error}"
            raise UpstreamAuthError("the gateway could not authenticate itself", reason=reason) from error

    def _header_name(self, client: MultiMapping[str], dialect: Dialect) -> str:
        if self._auth.header != "auto":
            return self._auth.header
        if dialect.key_header is not None:
            return dialect.key_header
        sent = next((name.lower() for name in KEY_HEADERS if client.get(name)), "authorization")
        return "authorization" if sent in dialect.not_keys else sent


def _passed_through(client: MultiMapping[str], query_key: str) -> list[Header]:
    found = []
    for name in KEY_HEADERS:
        for value in client.getall(name, ()):
            if value.strip() and not _is_ours(value):
                found.append((name.lower().encode(), value.encode("utf-8", "surrogateescape")))
                break  # authentication saw to it that further ones hold the same key
    if not found and query_key and not _is_ours(query_key):
        return [_header("x-goog-api-key", query_key)]
    return found


def _is_ours(value: str) -> bool:
    return any(word.startswith(KEY_PREFIX) for word in value.split())


def _secret(sent: Sequence[Header]) -> str:
    return next((value.decode().removeprefix("Bearer ") for _, value in sent), "")


def _header(name: str, secret: str) -> Header:
    return name.encode(), f"Bearer {secret}".encode() if name == "authorization" else secret.encode()
