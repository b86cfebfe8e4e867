"""/api/session: signing in with an admin token or a one-time link, who is signed in, and signing out."""

import logging
from typing import Any, Final, Literal, TypedDict

import msgspec
from aiohttp import web

from tallygate.console.api_access import (
    TOKEN_CHARS_MAX,
    Access,
    AdminAccess,
    AdminTokens,
    access_of,
    not_signed_in,
    refuse_metrics_only,
)
from tallygate.console.api_body import read_object
from tallygate.console.api_errors import ApiError, json_answer
from tallygate.console.api_parameters import choice
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.openid import FAILED, START_PATH
from tallygate.console.sessions import ConsoleSessions
from tallygate.domain.instants import optional_instant
from tallygate.ledger.directory import records
from tallygate.ledger.directory.sign_ins import MadeSession, Method, SignedIn

_log = logging.getLogger(__name__)
SESSION_PATH: Final = "/api/session"
TAG: Final = "session"
EVERYWHERE: Final = choice(
    "everywhere", "`true`: in all browsers in which the same one is signed in.", ["true", "false"], default="false"
)


class Credentials(TypedDict, total=False):
    """One of the two: an admin token, or the part of a one-time link behind `#link=`."""

    token: str
    link: str


class OpenIdShown(msgspec.Struct, frozen=True, kw_only=True):
    """Signing in with a provider. name: for a button; path: where a browser begins."""

    name: str
    path: str


class SignInShown(msgspec.Struct, frozen=True, kw_only=True):
    """by: how it was signed in, null without a session. openid: null if it is not configured."""

    by: Literal["token", "link", "openid"] | None
    openid: OpenIdShown | None


class SignInPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the page needs at its start. session: null without one."""

    session: "SessionShown | None"
    openid: OpenIdShown | None


class SessionShown(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in. organizations: the only ones that are seen, null for all. expires_at: null for never."""

    name: str
    access: Literal["read", "write"]
    organizations: list[str] | None
    expires_at: str | None
    sign_in: SignInShown


def session_routes(tokens: AdminTokens, sessions: ConsoleSessions) -> tuple[ApiRoute, ...]:
    resource = _SessionApi(tokens, sessions)
    return (
        ApiRoute(
            method="GET",
            path="/api/sign-in",
            handler=resource.sign_in,
            summary="Who is signed in, if anybody, and how one may sign in: browsers report a 401 as an error.",
            answer=SignInPage,
            is_public=True,
            tag=TAG,
        ),
        ApiRoute(
            method="GET",
            path=SESSION_PATH,
            handler=resource.get,
            summary="Who is signed in, or whose token this is. A 401 has `sign_in` too.",
            answer=SessionShown,
            admits=True,
            tag=TAG,
        ),
        ApiRoute(
            method="POST",
            path=SESSION_PATH,
            handler=resource.create,
            summary="Sign in: the answer sets a cookie. From pages of the console alone.",
            access=Access.WRITE,
            answer=SessionShown,
            body=Credentials,
            status=201,
            admits=True,
            tag=TAG,
        ),
        ApiRoute(
            method="DELETE",
            path=SESSION_PATH,
            handler=resource.delete,
            summary="Sign out. From pages of the console alone.",
            access=Access.WRITE,
            parameters=(EVERYWHERE,),
            status=204,
            media=(),
            admits=True,
            tag=TAG,
        ),
    )


class _SessionApi:
    def __init__(self, tokens: AdminTokens, sessions: ConsoleSessions) -> None:
        self._tokens = tokens
        self._sessions = sessions

    async def get(self, call: ApiCall) -> object:
        found = await access_of(call.request, self._tokens, self._sessions)
        if found is None:
            refused = not_signed_in()
            body = msgspec.to_builtins(refused.body()) | {"sign_in": msgspec.to_builtins(self._shown_sign_in(None))}
            return json_answer(body, status=refused.status, headers=refused.headers)
        refuse_metrics_only(found)
        return self._shown(found)

    async def sign_in(self, call: ApiCall) -> object:
        found = await access_of(call.request, self._tokens, self._sessions)
        shown = None if found is None or found.access is Access.METRICS else self._shown(found)
        return SignInPage(session=shown, openid=self._shown_sign_in(None).openid)

    async def create(self, call: ApiCall) -> object:
        self._sessions.require_own_page(call.request)
        fields = await read_object(call.request)
        match fields:
            case {"token": str(token)} if len(fields) == 1:
                made = await self._begin_by_token(call.request, token)
            case {"link": str(link)} if len(fields) == 1:
                made = await self._begin_by_link(call.request, link)
            case _:
                message = 'the body must be {"token": "..."} or {"link": "..."}'
                raise ApiError(status=400, code="invalid_request", message=message)
        found = await self._sessions.access_of(made.session)
        if found is None:
            raise not_signed_in()
        _log.info(
            "signed in", extra={"fields": {"actor": found.actor, "by": made.session.method.value, "address": call.request.remote}}
        )
        response = json_answer(self._shown(found), status=201)
        self._sessions.set_cookie(call.request, response, made)
        return response

    async def delete(self, call: ApiCall) -> object:
        self._sessions.require_own_page(call.request)
        await self._sessions.end(call.request, everywhere=call.values["everywhere"] == "true")
        response = web.Response(status=204)
        self._sessions.clear_cookie(call.request, response)
        return response

    async def _begin_by_token(self, request: web.Request, token: str) -> MadeSession:
        found = await self._tokens.find(token) if token.isascii() and len(token) <= TOKEN_CHARS_MAX else None
        if found is None:
            request[FAILED] = True
            raise ApiError(status=401, code="invalid_admin_token", message="this admin token is unknown, expired or revoked")
        refuse_metrics_only(found)
        who = SignedIn(
            method=Method.TOKEN,
            actor=found.actor,
            source=found.source,
            name=found.name,
            access=records.Access(found.access.value),
            orgs=None if found.orgs is None else tuple(sorted(found.orgs)),
        )
        return await self._sessions.begin(request, who)

    async def _begin_by_link(self, request: web.Request, link: str) -> MadeSession:
        made = await self._sessions.begin_by_link(request, link) if link.isascii() and len(link) <= TOKEN_CHARS_MAX else None
        if made is None:
            request[FAILED] = True
            message = "this link was used, has expired, or never was: `tallygate login` makes another"
            raise ApiError(status=401, code="invalid_link", message=message)
        return made

    def _shown(self, found: AdminAccess) -> SessionShown:
        expires_at: Any = optional_instant(found.expires_at_ms)
        return SessionShown(
            name=found.name,
            access="write" if found.access is Access.WRITE else "read",
            organizations=None if found.orgs is None else sorted(found.orgs),
            expires_at=expires_at,
            sign_in=self._shown_sign_in(None if found.session is None else found.session.method),
        )

    def _shown_sign_in(self, by: Method | None) -> SignInShown:
        provider = self._sessions.openid()
        openid = None if provider is None else OpenIdShown(name=provider.name, path=START_PATH)
        return SignInShown(by=None if by is None else by.value, openid=openid)
