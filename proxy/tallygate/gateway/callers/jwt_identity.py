"""From a verified token to the credential that it stands for."""

from typing import Final

from aiohttp import web

from tallygate.config.directory import EVERYWHERE, Directory, Identity
from tallygate.config.jwt_issuer import UnknownClients
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.domain.organization import Credential, Organization
from tallygate.gateway.callers.jwt_bearer import JwtRefusedError, JwtVerifier, VerifiedClient, looks_like_jwt
from tallygate.gateway.callers.jwt_keys import KeysUnavailableError
from tallygate.gateway.callers.keys import UNKNOWN_KEY, presented_key, query_keys, unauthorized

ATTACHED_MAX: Final = 1_000  # unknown clients of an organization told apart; further ones share one credential of it
ATTACHED_ALL_MAX: Final = 20_000  # the same, of all organizations together
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
        self._attached: dict[str, dict[str, tuple[str, Identity]]] = {}  # by organization and Client ID: the issuer, the identity
        self._attached_count = 0

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
        """A token admits to an organization that its issuer may speak for, and that it names itself where it has to name one."""
        issuer, found = client.issuer, self._directory.credential(client.client_id)
        if found is None:
            return self._attach(client)
        organization, credential = found
        is_confirmed = bool(issuer.org_claim) or issuer.bound_to == {organization.id} or not credential.is_self_made
        if is_confirmed and _admits(client, organization.id):
            return found
        # Whoever took a Client ID for itself has not become the issuer's client of that name, nor locked it out.
        return self._attach(client) if credential.is_self_made else _ANOTHERS

    def _attach(self, client: VerifiedClient) -> Identity | Refusal:
        """A client that no credential stands for, under the policy for such."""
        issuer = client.issuer
        org = client.org if issuer.unknown_clients is UnknownClients.CLAIMED_ORGANIZATION else issuer.unknown_clients_org
        organization, retired = self._directory.organization(org), self._directory.retired
        if (client.client_id, EVERYWHERE) in retired or (client.client_id, org) in retired:
            return unauthorized("The token is valid, but its client was revoked. Ask your administrator for another one.")
        if issuer.unknown_clients is UnknownClients.REFUSE or organization is None:
            return unauthorized("The token is valid, but its client is not known here. Ask your administrator to register it.")
        if not _admits(client, org):
            return _ANOTHERS
        attached = self._attached.setdefault(org, {})
        known = attached.get(client.client_id)
        if known is not None and known[0] == issuer.issuer:
            return known[1]
        if known is not None or len(attached) >= ATTACHED_MAX or self._attached_count >= ATTACHED_ALL_MAX:
            return organization, _credential_of(organization, SHARED_CLIENT)
        identity = organization, _credential_of(organization, client.client_id)
        attached[client.client_id] = issuer.issuer, identity
        self._attached_count += 1
        return identity

    def directory_changed(self) -> None:
        """Attach unknown clients anew: their organizations may be others now."""
        self._attached.clear()
        self._attached_count = 0


def _admits(client: VerifiedClient, org: str) -> bool:
    """Whether the issuer may speak for the organization, and the token's own claim, where one is asked for, names it."""
    bound_to = client.issuer.bound_to
    return (not bound_to or org in bound_to) and (not client.issuer.org_claim or client.org == org)


def _credential_of(organization: Organization, client_id: str) -> Credential:
    """Of a client that no one registered: it may do what its organization may, and has no key."""
    return Credential(id=client_id, org=organization.id, key_sha256=b"", name="by token", is_registered=False)


_ANOTHERS: Final = unauthorized("The token is valid, but its client belongs to another organization.")
