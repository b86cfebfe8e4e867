"""/api/tokens: admin tokens, for those who may see all organizations."""

from typing import Any, Final

from tallygate.config.section import instant_ms
from tallygate.console.api_body import read_object
from tallygate.console.api_errors import ApiError
from tallygate.console.api_parameters import Place, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.directory_access import directory_route, need_platform
from tallygate.console.directory_shapes import NewToken, TokenList, TokenListed, TokenMade
from tallygate.ledger.directory import records
from tallygate.ledger.directory.book import DirectoryBook

TAG: Final = "tokens"
TOKEN: Final = text("token", "The token's id, which is not its secret.", place=Place.PATH, is_required=True)
_FIELDS: Final = ("name", "access", "organizations", "expires")


def token_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    resource = _Tokens(book)
    return (
        directory_route(
            "GET",
            "/api/tokens",
            resource.list,
            "All admin tokens, without secrets.",
            answer=TokenList,
            tag=TAG,
        ),
        directory_route(
            "POST",
            "/api/tokens",
            resource.create,
            "Make an admin token; its secret is shown this once.",
            answer=TokenMade,
            body=NewToken,
            status=201,
            tag=TAG,
        ),
        directory_route(
            "POST",
            "/api/tokens/{token}/revoke",
            resource.revoke,
            "End an admin token for ever.",
            parameters=(TOKEN,),
            answer=TokenListed,
            tag=TAG,
        ),
    )


class _Tokens:
    def __init__(self, book: DirectoryBook) -> None:
        self._book = book

    async def list(self, call: ApiCall) -> object:
        need_platform(call, "seeing admin tokens")
        return {"tokens": [token.shown() for token in await self._book.tokens.list()]}

    async def create(self, call: ApiCall) -> object:
        """Body: name, access ("read", "write" or "metrics"), organizations (a list; null or left out: all), expires."""
        need_platform(call, "making an admin token")
        fields = await read_object(call.request)
        for key in fields:
            if key not in _FIELDS:
                raise _invalid(key[:64], f"is not a known key; known: {', '.join(_FIELDS)}")
        name, orgs = fields.get("name"), fields.get("organizations")
        if not isinstance(name, str):
            raise _invalid("name", "must be text")
        if orgs is not None and not (isinstance(orgs, list) and all(isinstance(org, str) for org in orgs)):
            raise _invalid("organizations", "must be a list of ids, or null for all")
        try:
            access = records.Access(str(fields.get("access")))
        except ValueError:
            raise _invalid("access", "must be read, write or metrics") from None
        made = await self._book.tokens.create(
            call.access.actor, name=name, access=access, orgs=orgs, expires_at_ms=_instant_ms(fields.get("expires"))
        )
        return made.token.shown() | {"token": made.secret}

    async def revoke(self, call: ApiCall) -> object:
        need_platform(call, "revoking an admin token")
        return (await self._book.tokens.revoke(call.access.actor, call.values["token"])).shown()


def _instant_ms(given: Any) -> int | None:
    if given is None:
        return None
    try:
        return instant_ms(given if isinstance(given, str) else "")
    except ValueError as error:
        raise _invalid("expires", str(error)) from None


def _invalid(param: str, text: str) -> ApiError:
    return ApiError(status=400, code="invalid_request", message=f"{param}: {text}", param=param)
