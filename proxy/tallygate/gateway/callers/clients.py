"""The credential of a client that a token's issuer or a look-up service confirmed."""

from dataclasses import dataclass
from typing import Final

from tallygate.config.client_policy import ClientPolicy, UnknownClients
from tallygate.config.directory import EVERYWHERE, Directory, Identity, StoredSource
from tallygate.domain.errors import Refused
from tallygate.domain.organization import Credential, Organization
from tallygate.gateway.callers.keys import DIRECTORY_UNREAD, unauthorized

ATTACHED_MAX: Final = 1_000  # distinguished unknown clients of an organization; further ones share one credential of it
ATTACHED_ALL_MAX: Final = 20_000  # the same, of all organizations together
SHARED_CLIENT: Final = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedClient:
    """A caller's client, as a source of clients confirmed it.

    org             the organization that it named; "" where none was asked for, or it may be left out and was
    expires_at_ms   from then on it is confirmed no longer, leeway included
    """

    policy: ClientPolicy
    client_id: str
    org: str
    expires_at_ms: int


class Clients:
    """Identities by confirmed client, over one directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._attached: dict[str, dict[str, tuple[str, Identity]]] = {}  # by organization and Client ID: the source, the identity
        self._attached_count = 0

    @property
    def knows_all(self) -> bool:
        """Return whether a key that is not known here is nobody's."""
        return self._directory.source is StoredSource.DATABASE

    def identity(self, client: VerifiedClient) -> Identity:
        """The organization is one that its source may speak for, and the one that was named with it, if one was. Raises Refused."""
        policy, found = client.policy, self._directory.credential(client.client_id)
        if found is None:
            return self._attach(client)
        organization, credential = found
        is_confirmed = bool(client.org) or policy.bound_to == {organization.id} or not credential.is_self_made
        if is_confirmed and _admits(client, organization.id):
            return found
        # Claiming a Client ID for itself neither makes an organization the source's client of that name nor locks the client out.
        if credential.is_self_made:
            return self._attach(client)
        raise Refused(_ANOTHERS)

    def _attach(self, client: VerifiedClient) -> Identity:
        """A client that no credential stands for, under the policy for such. Raises Refused."""
        policy = client.policy
        if self._directory.source is StoredSource.NOTHING:  # it may have a credential, or be revoked
            raise Refused(DIRECTORY_UNREAD)
        org = client.org if policy.unknown_clients is UnknownClients.CLAIMED_ORGANIZATION else policy.unknown_clients_org
        organization, retired = self._directory.organization(org), self._directory.retired
        if (client.client_id, EVERYWHERE) in retired or (client.client_id, org) in retired:
            raise Refused(_REVOKED)
        if policy.unknown_clients is UnknownClients.REFUSE or organization is None:
            raise Refused(_UNKNOWN)
        if not _admits(client, org):
            raise Refused(_ANOTHERS)
        attached = self._attached.setdefault(org, {})
        known = attached.get(client.client_id)
        source = "" if policy.shares_client_ids else policy.source
        if known is not None and known[0] == source:
            return known[1]
        if known is not None or len(attached) >= ATTACHED_MAX or self._attached_count >= ATTACHED_ALL_MAX:
            return organization, _credential_of(organization, SHARED_CLIENT)
        identity = organization, _credential_of(organization, client.client_id)
        attached[client.client_id] = source, identity
        self._attached_count += 1
        return identity

    def directory_changed(self) -> None:
        """Attach unknown clients again: their organizations may have changed."""
        self._attached.clear()
        self._attached_count = 0


def _admits(client: VerifiedClient, org: str) -> bool:
    """Return whether the source may speak for the organization, and the one that was named, if one was, is it."""
    bound_to = client.policy.bound_to
    return (not bound_to or org in bound_to) and (not client.org or client.org == org)


def _credential_of(organization: Organization, client_id: str) -> Credential:
    """The credential of an unregistered client: it may do all that its organization may, and has no key."""
    return Credential(id=client_id, org=organization.id, key_sha256=b"", name="by token", is_registered=False)


_REVOKED: Final = unauthorized("The key or token is valid, but its client was revoked. Ask your administrator for another one.")
_UNKNOWN: Final = unauthorized("The key or token is valid, but its client is not known here. Ask your administrator to add it.")
_ANOTHERS: Final = unauthorized("The key or token is valid, but its client belongs to another organization.")
