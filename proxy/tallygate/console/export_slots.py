"""Permission to export, and the number of exports at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import hdrs

from tallygate.console.api_errors import ApiError
from tallygate.domain.billing import PeriodKind
from tallygate.domain.organization import Organization

EXPORTS_AT_ONCE: Final = 3  # one of the database's few readers always stays free for other queries
RETRY_SECONDS: Final = 10


def check_plan(organization: Organization, document: PeriodKind | None = None) -> None:
    """Raise ApiError 403 if the organization's plan includes neither export nor the requested kind of document."""
    plan = organization.plan
    if not (plan.export if document is None else plan.has_document(document)):
        raise ApiError(
            status=403,
            code="plan_without_export",
            message=f"organization {organization.id} is on the plan {plan.id}, which {plan.lacks_export}",
            param="org",
        )


class ExportSlots:
    """Slots for the exports and invoices that this process is making."""

    def __init__(self, at_once: int = EXPORTS_AT_ONCE) -> None:
        self._free = at_once

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a slot. Raises ApiError 503 if all are taken."""
        if not self._free:
            raise ApiError(
                status=503,
                code="exports_busy",
                message="as many exports are running as may at once: try again shortly",
                headers={hdrs.RETRY_AFTER: str(RETRY_SECONDS)},
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
