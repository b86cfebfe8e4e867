"""The rules for organizations: those of organizations.yaml, checked by the same code, under the plans and routes in force."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from tallygate.config.model import GatewayConfig
from tallygate.config.organizations import CREDENTIALS_MAX, read_organization
from tallygate.config.plain_values import FieldProblems, section_of
from tallygate.domain.organization import Credential, Organization
from tallygate.ledger.directory.errors import InvalidChangeError, ManagedByFileError
from tallygate.ledger.directory.from_rows import organization_from_rows
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization

CREDENTIALS_OF_ONE_MAX: Final = CREDENTIALS_MAX


class Rules:
    """The rules in force. config: returns the reviewed configuration, called each time."""

    def __init__(self, config: Callable[[], GatewayConfig]) -> None:
        self._config = config

    def effective(self, organization: StoredOrganization, credentials: Sequence[StoredCredential]) -> Organization:
        """The organization as the gateway serves it, merged with its plan. Raises InvalidChangeError with every problem.

        If the plan's maximum was lowered below an earlier spend limit, that maximum applies: the organization
        stays in service, and spends no more than the plan allows.
        """
        found = organization_from_rows(organization, credentials, self._config())
        if found is not None:
            return found
        # Parsing it like an entry of the file names each problem.
        self.parse(organization.document() | {"credentials": [credential.document() for credential in credentials]}, lowers=True)
        raise InvalidChangeError("is not an organization")

    def parse(self, document: dict[str, Any], *, lowers: bool = False) -> Organization:
        """Parse an entry in the form of organizations.yaml. Raises InvalidChangeError with every problem.

        lowers   a spend limit above its plan's maximum is read as that maximum
        """
        config = self._config()
        problems = FieldProblems()
        try:
            found = read_organization(
                section_of(document, problems),
                plans=config.stated_plans,
                capabilities=config.capabilities,
                needs_keys=False,
                lowers=lowers,
            )
        except ValueError as error:
            raise InvalidChangeError(str(error)) from None
        if problems or found is None:
            texts = problems.texts() or ("is not an organization",)
            raise InvalidChangeError(texts[0], param=problems.param, problems=texts)
        return found

    def in_file(self, org: str) -> Organization | None:
        """The organization of organizations.yaml with this id. The file takes precedence over the database."""
        return next((organization for organization in self._config().organizations if organization.id == org), None)

    def orgs_in_file(self) -> frozenset[str]:
        """Ids of the organizations of organizations.yaml."""
        return frozenset(organization.id for organization in self._config().organizations)

    def credentials_in_file(self) -> tuple[Credential, ...]:
        """The credentials of organizations.yaml."""
        return tuple(credential for organization in self._config().organizations for credential in organization.credentials)

    def refuse_in_file(self, *, org: str | None = None, credential: str | None = None, digest: str | None = None) -> None:
        """Raise ManagedByFileError if organizations.yaml has the organization, the Client ID or the key."""
        for organization in self._config().organizations:
            if organization.id == org:
                raise ManagedByFileError(f"Organization {org!r} stands in organizations.yaml: change it there.", param="id")
            for held in organization.credentials:
                if held.id == credential:
                    raise ManagedByFileError(
                        f"Credential {credential!r} stands in organizations.yaml: change it there.", param="id"
                    )
                if digest is not None and digest in {held.key_sha256.hex(), held.old_key_sha256.hex()}:
                    raise ManagedByFileError("This key is that of a credential in organizations.yaml.", param="key_sha256")
