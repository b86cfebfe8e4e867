"""Callers whose key belongs to no credential here: by signed token, or by look-up of the key."""

from typing import Final

from tallygate.config.directory import Identity
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.gateway.callers.clients import Clients
from tallygate.gateway.callers.jwt_bearer import JwtRefusedError, JwtVerifier, looks_like_jwt
from tallygate.gateway.callers.jwt_keys import KeysUnavailableError
from tallygate.gateway.callers.key_lookup import LookedUpKeys
from tallygate.gateway.callers.keys import DIRECTORY_UNREAD, UNKNOWN_KEY, unauthorized

UNAVAILABLE: Final = Refusal(
    code=ErrorCode.AUTHENTICATION_UNAVAILABLE,
    message="The keys of the token's issuer cannot be had at the moment, so the token cannot be checked. Try again shortly.",
    retry_after_ms=5_000,
    should_retry=True,
)


class JwtIdentities:
    """Identities by token."""

    def __init__(self, verifier: JwtVerifier, clients: Clients) -> None:
        self.verifier = verifier
        self._clients = clients

    async def find(self, token: str) -> Identity:
        """The caller whom a token identifies, enabled or not. A known token waits for nothing. Raises Refused."""
        client = self.verifier.recall(token)
        if client is None:
            try:
                client = await self.verifier.verify(token)
            except JwtRefusedError as error:
                raise Refused(unauthorized(str(error))) from None
            except KeysUnavailableError:
                raise Refused(UNAVAILABLE) from None
        return self._clients.identity(client)


class ForeignCallers:
    """Foreign callers under one configuration and directory. verifier, keys: None if authentication.yaml has no such source."""

    def __init__(self, clients: Clients, *, verifier: JwtVerifier | None = None, keys: LookedUpKeys | None = None) -> None:
        self.clients = clients
        self.keys = keys
        self.tokens = None if verifier is None else JwtIdentities(verifier, clients)

    async def find(self, key: str, address: str) -> Identity:
        """The caller whose key belongs to no credential here, enabled or not. address: where it comes from. Raises Refused."""
        if self.tokens is not None and looks_like_jwt(key):
            return await self.tokens.find(key)
        if self.keys is None:
            raise Refused(self._unknown)
        try:
            return await self.keys.find(key, address, self.clients)
        except Refused as refused:
            raise (Refused(self._unknown) if refused.refusal is UNKNOWN_KEY else refused) from None

    @property
    def _unknown(self) -> Refusal:
        """The refusal of a key that nobody is known to have."""
        return UNKNOWN_KEY if self.clients.knows_all else DIRECTORY_UNREAD
