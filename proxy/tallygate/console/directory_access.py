"""The directory as the API sees it: its admin tokens as authorization, its endpoints, and its errors as the API's."""

from functools import wraps

from tallygate.console.api_access import Access, AdminAccess, PlatformToken
from tallygate.console.api_errors import ApiError, unknown_id
from tallygate.console.api_parameters import Parameter
from tallygate.console.api_routes import ApiCall, ApiRoute, Handler
from tallygate.ledger.directory.admin_tokens import AdminTokens
from tallygate.ledger.directory.errors import DirectoryError
from tallygate.ledger.directory.records import AdminToken


class DirectoryTokens:
    """The settings' own tokens, then those of the directory. Looked up for each call, so that a revoked token stops at once."""

    def __init__(self, platform: PlatformToken | None, tokens: AdminTokens, *, metrics: PlatformToken | None = None) -> None:
        self._of_settings = [token for token in (platform, metrics) if token is not None]
        self._tokens = tokens

    async def find(self, token: str) -> AdminAccess | None:
        """Implement sessions.SignInTokens. Raises LedgerUnavailableError if the database does not answer."""
        for of_settings in self._of_settings:
            found = await of_settings.find(token)
            if found is not None:
                return found
        return _access_of(await self._tokens.find(token))

    async def of_source(self, source: str) -> AdminAccess | None:
        """Implement sessions.SignInTokens."""
        for of_settings in self._of_settings:
            if of_settings.access.source == source:
                return of_settings.access
        return _access_of(await self._tokens.get(source))


def _access_of(token: AdminToken | None) -> AdminAccess | None:
    if token is None:
        return None
    return AdminAccess(
        actor=token.id,
        access=Access(token.access.value),
        orgs=None if token.orgs is None else frozenset(token.orgs),
        name=token.name,
        expires_at_ms=token.expires_at_ms,
        source=token.id,
    )


def directory_route(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    *,
    answer: type,
    tag: str,
    parameters: tuple[Parameter, ...] = (),
    body: type | None = None,
    status: int = 200,
) -> ApiRoute:
    """An endpoint of the directory: a GET reads, any other method writes, and the directory's refusals become API errors."""
    return ApiRoute(
        method=method,
        path=path,
        handler=_with_directory_errors(handler),
        summary=summary,
        access=Access.READ if method == "GET" else Access.WRITE,
        parameters=parameters,
        answer=answer,
        body=body,
        status=status,
        tag=tag,
    )


def _with_directory_errors(handler: Handler) -> Handler:
    @wraps(handler)
    async def handle(call: ApiCall) -> object:
        try:
            return await handler(call)
        except DirectoryError as error:
            message = "; ".join(error.problems) or error.message
            raise ApiError(status=error.status, code=error.code, message=message, param=error.param) from None

    return handle


def the_org(call: ApiCall) -> str:
    """The organization in the path. Raises ApiError 404 if it is outside the token's scope."""
    org: str = call.values["org"]
    if not call.access.sees(org):
        raise unknown_id("org", "organization")
    return org


def need_platform(call: ApiCall, what: str) -> None:
    """Raise ApiError 403 for a token that is limited to some organizations: it may not change what concerns all."""
    if call.access.orgs is not None:
        raise ApiError(status=403, code="platform_token_needed", message=f"{what} takes an admin token for all organizations")
