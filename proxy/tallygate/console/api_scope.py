"""The scope of a call: the organizations that its token covers, and their credentials and capabilities."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from tallygate.console.api_access import AdminAccess
from tallygate.console.api_errors import invalid_parameter, unknown_id
from tallygate.console.api_parameters import Parameter, text, texts
from tallygate.domain.organization import Credential, Organization, retired_organization
from tallygate.ledger.history import Dimension, OrgScope
from tallygate.ledger.retention import visible_from_ms

ORGS_MAX: Final = 5_000  # of one query

ORG: Final = texts("org", "Organization ids. Default: every organization within the token's scope.")
ONE_ORG: Final = text("org", "An organization id. May be left out by a token that sees one organization.")
CREDENTIAL: Final = texts("credential", "Client IDs of credentials.")
CAPABILITY: Final = texts("capability", "Capabilities, such as chat.")


class Labels(Protocol):
    """Labels that the ledger has seen."""

    async def seen(self, orgs: Sequence[str], dimension: Dimension, labels: frozenset[str]) -> frozenset[str]: ...


class Scopes:
    """Restricts every query to what its token may see.

    organizations   those that exist now, by id
    capabilities    those of the routes in force
    now_ms          Unix time, from which an organization's history is counted back
    """

    def __init__(
        self,
        *,
        organizations: Callable[[], Mapping[str, Organization]],
        capabilities: Callable[[], frozenset[str]],
        labels: Labels,
        now_ms: Callable[[], int],
    ) -> None:
        self._organizations = organizations
        self._capabilities = capabilities
        self._labels = labels
        self._now_ms = now_ms

    def visible(self, access: AdminAccess) -> list[str]:
        """The ids of visible organizations, sorted."""
        known = self._organizations()
        return sorted(known if access.orgs is None else access.orgs & known.keys())

    def organization(self, access: AdminAccess, org: str, *, param: str = ORG.name) -> Organization:
        """Find an organization. Raises ApiError 404 if there is none within the scope."""
        found = self._organizations().get(org)
        if found is None or not access.sees(org):
            raise unknown_id(param, "organization")
        return found

    def one(self, access: AdminAccess, org: str | None) -> Organization:
        """The organization of ONE_ORG: the named one, or the only visible one. Raises ApiError."""
        visible = [org] if org is not None else self.visible(access)
        if len(visible) != 1:
            raise invalid_parameter(ONE_ORG.name, f"is required: this token sees {len(visible)} organizations")
        return self.organization(access, visible[0])

    def asked(
        self, access: AdminAccess, orgs: Sequence[str], *, param: str = ORG.name, orgs_max: int = ORGS_MAX
    ) -> list[Organization]:
        """The named organizations, or all visible ones. Raises ApiError if one is not visible, or there are too many."""
        ids = sorted(orgs) or self.visible(access)
        if len(ids) > orgs_max:
            raise invalid_parameter(param, f"name up to {orgs_max} organizations: this token sees {len(ids)}")
        return [self.organization(access, org, param=param) for org in ids]

    async def of_history(
        self, access: AdminAccess, orgs: Sequence[str], *, param: str = ORG.name, orgs_max: int = ORGS_MAX
    ) -> list[Organization]:
        """As `asked`, for questions about the past: who may see all organizations may also name retired ones."""
        known = self._organizations()
        gone = sorted(set(orgs) - known.keys()) if access.orgs is None else []
        retired = await self._labels.seen(gone, Dimension.ORG, frozenset(gone)) if gone else frozenset()
        if not retired:
            return self.asked(access, orgs, param=param, orgs_max=orgs_max)
        rest = [org for org in orgs if org not in retired]
        present = self.asked(access, rest, param=param, orgs_max=orgs_max) if rest else []
        return sorted([*present, *map(retired_organization, retired)], key=lambda organization: organization.id)

    def history(self, organizations: Sequence[Organization]) -> tuple[OrgScope, ...]:
        """The same for the ledger's queries, which leave out anything older than a plan's history."""
        now = self._now_ms()
        return tuple(OrgScope(org=found.id, visible_from_ms=visible_from_ms(found, now)) for found in organizations)

    def credential(self, organization: Organization, client_id: str, *, param: str = CREDENTIAL.name) -> Credential:
        """Find a credential that exists now. Raises ApiError 404."""
        found = next((credential for credential in organization.credentials if credential.id == client_id), None)
        if found is None:
            raise unknown_id(param, "credential")
        return found

    async def check_credentials(
        self, organizations: Sequence[Organization], ids: Sequence[str], *, param: str = CREDENTIAL.name
    ) -> None:
        """Raise ApiError 404 for a credential that these organizations neither have nor ever used."""
        if ids:
            known = {credential.id for organization in organizations for credential in organization.credentials}
            await self._check(organizations, Dimension.CREDENTIAL, frozenset(ids) - known, param)

    async def check_capabilities(self, organizations: Sequence[Organization], names: Sequence[str]) -> None:
        if names:
            await self._check(organizations, Dimension.CAPABILITY, frozenset(names) - self._capabilities(), CAPABILITY.name)

    async def _check(self, organizations: Sequence[Organization], dimension: Dimension, labels: frozenset[str], param: str) -> None:
        if labels and labels != await self._labels.seen([organization.id for organization in organizations], dimension, labels):
            raise unknown_id(param, dimension.value)


def filters(values: Mapping[str, object], named: Mapping[Parameter, Dimension]) -> dict[Dimension, frozenset[str]]:
    """The filters of a ledger query from the values of parameters that were given."""
    found: dict[Dimension, frozenset[str]] = {}
    for parameter, dimension in named.items():
        given = values[parameter.name]
        if isinstance(given, tuple) and given:
            found[dimension] = frozenset(map(str, given))
    return found
