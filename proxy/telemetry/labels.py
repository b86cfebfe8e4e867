"""Which label values may appear in metrics: those that configuration names. Anything a caller could choose becomes `other`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from proxy.config.model import GatewayConfig
from proxy.domain.errors import ErrorCode
from proxy.domain.organization import Organization
from proxy.telemetry.metrics import OTHER


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
            credentials=frozenset((org.id, credential.id) for org in config.organizations for credential in org.credentials),
            capabilities=frozenset(route.capability for route in config.routes),
            limits=frozenset(name for org in config.organizations for name in _limit_names(org)) | frozenset(ErrorCode),
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


def _limit_names(org: Organization) -> Iterator[str]:
    for rate in (*org.plan.rate_limits, *(limit for credential in org.credentials for limit in credential.rate_limits)):
        yield rate.name
    for spend in (*org.plan.spend_limits, *(limit for credential in org.credentials for limit in credential.spend_limits)):
        yield spend.name
