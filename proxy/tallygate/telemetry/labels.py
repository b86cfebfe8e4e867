"""Which label values may appear in metrics: those that configuration names. Anything a caller could choose becomes `other`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from tallygate.config.model import GatewayConfig
from tallygate.domain.errors import ErrorCode
from tallygate.domain.organization import Organization
from tallygate.domain.rate_limit import FREE_REQUESTS
from tallygate.telemetry.metrics import OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLabels:
    """The finite sets. credentials holds (organization, credential) pairs; limits the names of limits and the error codes."""

    organizations: frozenset[str]
    credentials: frozenset[tuple[str, str]]
    capabilities: frozenset[str]
    limits: frozenset[str]

    @classmethod
    def of(cls, config: GatewayConfig) -> Self:
        return cls(
            organizations=frozenset(org.id for org in config.organizations),
            credentials=frozenset(_credentials(config.organizations)),
            capabilities=frozenset(route.capability for route in config.routes),
            limits=frozenset(name for org in config.organizations for name in _limit_names(org)) | {*ErrorCode, FREE_REQUESTS.name},
        )

    def followed(self, gone: Iterable[Organization], come: Iterable[Organization]) -> Self:
        """After a change of the directory: without what is gone, with what has come in its place. Limits' names stay known."""
        gone, come = tuple(gone), tuple(come)
        return replace(
            self,
            organizations=self.organizations.difference(org.id for org in gone).union(org.id for org in come),
            credentials=self.credentials.difference(_credentials(gone)).union(_credentials(come)),
            limits=self.limits.union(name for org in come for name in _limit_names(org)),
        )

    def exchange(self, org: str, credential: str, capability: str) -> tuple[str, str, str]:
        """The labels of one exchange. A credential without its organization says nothing, so it falls with it."""
        return (
            self.organization(org),
            credential if (org, credential) in self.credentials else OTHER,
            self.capability(capability),
        )

    def organization(self, org: str) -> str:
        return org if org in self.organizations else OTHER

    def capability(self, capability: str) -> str:
        return capability if capability in self.capabilities else OTHER

    def limit(self, limit: str) -> str:
        return limit if limit in self.limits else OTHER


def _credentials(organizations: Iterable[Organization]) -> Iterator[tuple[str, str]]:
    return ((org.id, credential.id) for org in organizations for credential in org.credentials)


def _limit_names(org: Organization) -> Iterator[str]:
    for rate in (*org.plan.rate_limits, *(limit for credential in org.credentials for limit in credential.rate_limits)):
        yield rate.name
    for spend in (*org.plan.spend_limits, *(limit for credential in org.credentials for limit in credential.spend_limits)):
        yield spend.name
