"""From a verified token to the credential that it stands for."""

from typing import Final

from tallygate.config.directory import Identity
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.gateway.callers.clients import Clients
from tallygate.gateway.callers.jwt_bearer import JwtRefusedError, JwtVerifier
from tallygate.gateway.callers.jwt_keys import KeysUnavailableError
from tallygate.gateway.callers.keys import unauthorized

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

    async def find(self, token: str) -> Identity | Refusal:
        """The caller whom a token identifies, enabled or not; or why it identifies nobody. A known token waits for nothing."""
        client = self.verifier.recall(token)
        if client is None:
            try:
                client = await self.verifier.verify(token)
            except JwtRefusedError as error:
                return unauthorized(str(error))
            except KeysUnavailableError:
                return UNAVAILABLE
        return self._clients.identity(client)
