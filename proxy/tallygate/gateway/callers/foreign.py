"""Callers whose key no credential here has: by a signed token, or by having the key looked up."""

from aiohttp import web

from tallygate.config.directory import Identity
from tallygate.domain.errors import Refusal
from tallygate.gateway.callers.clients import Clients
from tallygate.gateway.callers.jwt_bearer import JwtVerifier, looks_like_jwt
from tallygate.gateway.callers.jwt_identity import JwtIdentities
from tallygate.gateway.callers.key_lookup import LookedUpKeys
from tallygate.gateway.callers.keys import UNKNOWN_KEY, presented_key, query_keys


class ForeignCallers:
    """Of one configuration and directory. verifier, keys: None where authentication.yaml has no such source."""

    def __init__(self, clients: Clients, *, verifier: JwtVerifier | None, keys: LookedUpKeys | None) -> None:
        self.clients = clients
        self.keys = keys
        self.tokens = None if verifier is None else JwtIdentities(verifier, clients)

    async def find(self, request: web.BaseRequest) -> Identity | Refusal:
        """The caller of a request whose key is none of ours; else the refusal of an unknown key."""
        key = presented_key(request.headers, *query_keys(request))
        if isinstance(key, Refusal):
            return key
        if self.tokens is not None and looks_like_jwt(key):
            return await self.tokens.find(key)
        return UNKNOWN_KEY if self.keys is None else await self.keys.find(key, request.remote or "", self.clients)
