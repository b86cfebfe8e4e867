"""The label values of metrics: those that the configuration names. Anything that a caller could choose becomes `other`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from tallygate.config.model import GatewayConfig
from tallygate.domain.errors import ErrorCode
from tallygate.domain.organization import Organization
from tallygate.domain.rate_limit import FREE_REQUESTS
from tallygate.telemetry.metric import OTHER, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLabels:
    """The known values. credentials: (organization, credential) pairs; limits: the names of limits and the error codes."""

    organizations: frozenset[str]
    credentials: frozenset[tuple[str, str]]
    capabilities: frozenset[str]
    limits: frozenset[str]
    upstreams: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: GatewayConfig) -> Self:
        return cls(
            organizations=frozenset(org.id for org in config.organizations),
            credentials=frozenset(_credentials(config.organizations)),
            capabilities=config.capabilities,
            limits=frozenset(name for org in config.organizations for name in _limit_names(org)) | {*ErrorCode, FREE_REQUESTS.name},
            upstreams=frozenset(config.upstreams),
        )

    def followed(self, gone: Iterable[Organization], come: Iterable[Organization]) -> Self:
        """The labels after a change of the directory, without those that are gone and with new ones. Limits' names stay known."""
        gone, come = tuple(gone), tuple(come)
        return replace(
            self,
            organizations=self.organizations.difference(org.id for org in gone).union(org.id for org in come),
            credentials=self.credentials.difference(_credentials(gone)).union(_credentials(come)),
            limits=self.limits.union(name for org in come for name in _limit_names(org)),
        )

    def counted(self, metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The values to count under: each label's own if it is known or not a caller's choice, else `other`."""
        return tuple(
            value if value == OTHER or self._is_known(metric, label, value, labels) else OTHER
            for label, value in zip(metric.labels, labels, strict=True)
        )

    def _is_known(self, metric: Metric, label: str, value: str, labels: tuple[str, ...]) -> bool:
        match label:
            case "org":
                return value in self.organizations
            case "credential":  # meaningless without its organization, so it becomes `other` with it
                return (labels[metric.labels.index("org")], value) in self.credentials
            case "capability":
                return value in self.capabilities
            case "limit":
                return value in self.limits
            case "upstream":
                return value in self.upstreams
            case _:
                return not metric.values or value in metric.values


def _credentials(organizations: Iterable[Organization]) -> Iterator[tuple[str, str]]:
    return ((org.id, credential.id) for org in organizations for credential in org.credentials)


def _limit_names(org: Organization) -> Iterator[str]:
    for rate in (*org.plan.rate_limits, *(limit for credential in org.credentials for limit in credential.rate_limits)):
        yield rate.name
    for spend in (*org.plan.spend_limits, *(limit for credential in org.credentials for limit in credential.spend_limits)):
        yield spend.name
