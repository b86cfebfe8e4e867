"""GET /api/usage/values: the labels that usage in a range has, to choose filters from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from tallygate.console.api_errors import ApiError
from tallygate.console.api_parameters import integer
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import Scopes, filters
from tallygate.console.api_times import time_zone
from tallygate.console.api_usage import FROM, TO, USAGE_FILTERS, range_of, zone_of
from tallygate.console.usage_pages import UsagePages
from tallygate.domain.instants import instant_text
from tallygate.domain.organization import Organization
from tallygate.ledger.history import Dimension, QueryTooLargeError, UsageQuery

VALUES_DEFAULT: Final = 1_000
VALUES_MAX: Final = 5_000
_OF_KINDS: Final = (
    Dimension.CAPABILITY,
    Dimension.MODEL,
    Dimension.ENDPOINT,
    Dimension.STATUS,
    Dimension.OUTCOME,
    Dimension.REFUSED_BY,
)
_LIMIT: Final = integer(
    "limit",
    "The most values of each dimension; `cut` names those that have more.",
    least=1,
    most=VALUES_MAX,
    default=VALUES_DEFAULT,
)


class CredentialValue(msgspec.Struct, frozen=True, kw_only=True):
    """credential is the Client ID. name: null for one that the directory does not have any more, or never had."""

    credential: str
    org: str
    name: str | None


class ValuesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every list is in order, and has each value once. cut: dimensions of which the last values are left out."""

    start: str
    end: str
    time_zone: str
    credential: list[CredentialValue]
    capability: list[str]
    model: list[str]
    endpoint: list[str]
    status: list[int]
    outcome: list[str]
    refused_by: list[str]
    cut: list[str]


class UsageValuesApi:
    """now_ms: Unix time, the default end of a range."""

    def __init__(self, *, scopes: Scopes, pages: UsagePages, now_ms: Callable[[], int]) -> None:
        self._scopes = scopes
        self._pages = pages
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/usage/values",
                handler=self._values,
                summary="Values that usage can be filtered by",
                parameters=(FROM, TO, time_zone(), *USAGE_FILTERS, _LIMIT),
                answer=ValuesAnswer,
            ),
        )

    async def _values(self, call: ApiCall) -> ValuesAnswer:
        values = call.values
        organizations = await self._scopes.of_history(call.access, values["org"])
        await self._scopes.check_credentials(organizations, values["credential"])
        await self._scopes.check_capabilities(organizations, values["capability"])
        zone = zone_of(values, organizations)
        start, end = range_of(values, zone, self._now_ms())
        query = UsageQuery(
            scopes=self._scopes.history(organizations),
            from_ms=start,
            to_ms=end,
            time_zone=zone,
            filters=filters(values, USAGE_FILTERS),
            group_by=(Dimension.CREDENTIAL, Dimension.ORG),
        )
        try:
            credentials = await self._pages.groups(query)
            kinds = await self._pages.groups(replace(query, group_by=_OF_KINDS))
        except QueryTooLargeError as error:
            raise ApiError(status=400, code="answer_too_large", message=str(error), param="from") from error
        found: dict[str, Sequence[Any]] = {
            name.value: _distinct(row.group[index] for row in kinds) for index, name in enumerate(_OF_KINDS)
        }
        found[Dimension.STATUS] = sorted(map(int, found[Dimension.STATUS]))
        found[Dimension.CREDENTIAL] = _credentials([row.group for row in credentials], organizations)
        return ValuesAnswer(
            start=instant_text(start, zone),
            end=instant_text(end, zone),
            time_zone=zone,
            cut=[name for name, some in found.items() if len(some) > values["limit"]],
            **{name: list(some[: values["limit"]]) for name, some in found.items()},
        )


def _distinct(labels: Iterable[str]) -> list[str]:
    """Without the empty label of requests that have none: refused ones have no model, served ones nothing that refused them."""
    return sorted({label for label in labels if label})


def _credentials(groups: Sequence[tuple[str, ...]], organizations: Sequence[Organization]) -> list[CredentialValue]:
    names: Mapping[tuple[str, str], str] = {
        (credential.id, organization.id): credential.name
        for organization in organizations
        for credential in organization.credentials
    }
    return [
        CredentialValue(credential=credential, org=org, name=names.get((credential, org))) for credential, org in sorted(groups)
    ]
