"""From a verified token to the credential that it stands for."""

from typing import Final

from aiohttp import web

from proxy.config.directory import Directory, Identity
from proxy.config.jwt_issuer import UnknownClients
from proxy.domain.errors import ErrorCode, Refusal
from proxy.domain.organization import Credential, Organization
from proxy.gateway.authentication import UNKNOWN_KEY, presented_key, query_keys, unauthorized
from proxy.gateway.jwt_bearer import JwtRefusedError, JwtVerifier, VerifiedClient, looks_like_jwt
from proxy.gateway.jwt_keys import KeysUnavailableError

ATTACHED_MAX: Final = 1_000  # unknown clients told apart; further ones share one credential of their organization
SHARED_CLIENT: Final = "other"
UNAVAILABLE: Final = Refusal(
    status=503,
    code=ErrorCode.AUTHENTICATION_UNAVAILABLE,
    message="The keys of the token's issuer cannot be had at the moment, so the token cannot be checked. Try again shortly.",
    retry_after_ms=5_000,
    should_retry=True,
)


async def authenticate_token(request: web.BaseRequest, identities: "JwtIdentities") -> Identity | Refusal:
    """The caller of a request whose key is none of ours, if it is a signed token; else the refusal of an unknown key."""
    key = presented_key(request.headers, *query_keys(request))
    if isinstance(key, Refusal) or not looks_like_jwt(key):
        return UNKNOWN_KEY
    return await identities.find(key)


class JwtIdentities:
    """Identities by token, over one directory."""

    def __init__(self, verifier: JwtVerifier, directory: Directory) -> None:
        self.verifier = verifier
        self._directory = directory
        self._attached: dict[tuple[str, str], Identity] = {}

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
        return self._identity(client)

    def _identity(self, client: VerifiedClient) -> Identity | Refusal:
        found = self._directory.credential(client.client_id) or self._attach(client)
        if found is None:
            return unauthorized("The token is valid, but its client is not known here. Ask your administrator to register it.")
        organization, _ = found
        issuer = client.issuer
        if (client.org and client.org != organization.id) or (issuer.organizations and organization.id not in issuer.organizations):
            return unauthorized("The token is valid, but its client belongs to another organization.")
        return found

    def _attach(self, client: VerifiedClient) -> Identity | None:
        policy = client.issuer.unknown_clients
        org = client.org if policy is UnknownClients.CLAIMED_ORGANIZATION else client.issuer.unknown_clients_org
        organization = self._directory.organization(org)
        if policy is UnknownClients.REFUSE or organization is None:
            return None
        key = (organization.id, client.client_id)
        if key not in self._attached and len(self._attached) >= ATTACHED_MAX:
            return organization, _credential_of(organization, SHARED_CLIENT)
        found = self._attached.get(key)
        if found is None:
            found = self._attached[key] = (organization, _credential_of(organization, client.client_id))
        return found

    def directory_changed(self) -> None:
        """Attach unknown clients anew: their organizations may be others now."""
        self._attached.clear()


def _credential_of(organization: Organization, client_id: str) -> Credential:
    """Of a client that no one registered: it may do what its organization may, and has no key."""
    return Credential(id=client_id, org=organization.id, key_sha256=b"", name="by token")
