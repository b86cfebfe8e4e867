"""GET /api/invoices/{org}/{month}, /api/statements/{org}/{week}: an organization's usage, as a document."""

from collections.abc import Callable
from typing import Final

from aiohttp import hdrs, web

from tallygate.console.api_errors import ApiError, invalid_parameter
from tallygate.console.api_parameters import Place, choice, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import Scopes
from tallygate.console.export_slots import ExportSlots, check_plan
from tallygate.domain.billing import PeriodKind
from tallygate.domain.organization import Organization
from tallygate.ledger.invoice.billing_period import BillingPeriod
from tallygate.ledger.invoice.documents import DOCUMENTS, InvoiceFormat
from tallygate.ledger.invoice.read_invoice import BilledOrganization, InvoiceTooLargeError, read_invoice
from tallygate.ledger.readable import Readable

_ORG: Final = text("org", "Organization id.", place=Place.PATH, is_required=True)
_MONTH: Final = text(
    "month", "The month of the organization that begins in a calendar month such as 2026-11.", place=Place.PATH, is_required=True
)
_WEEK: Final = text(
    "week",
    "A week of the organization's time zone, such as 2026-W48, or the first of seven days, such as 2026-11-24.",
    place=Place.PATH,
    is_required=True,
)
_FORMAT: Final = choice("format", "html (to print), csv or json.", [*InvoiceFormat], default=InvoiceFormat.JSON.value)
# The page has no script and loads nothing; a text that escaped its escaping could do nothing either.
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"


class InvoicesApi:
    """Invoices and statements.

    now_ms     Unix time; a period that has not begun is refused
    as_of_ms   the instant of which what is read from then on has everything; a period that was not over then is provisional
    """

    def __init__(
        self,
        *,
        scopes: Scopes,
        database: Readable,
        slots: ExportSlots,
        now_ms: Callable[[], int],
        as_of_ms: Callable[[], int],
    ) -> None:
        self._scopes = scopes
        self._database = database
        self._slots = slots
        self._now_ms = now_ms
        self._as_of_ms = as_of_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/invoices/{org}/{month}",
                handler=self._month,
                summary="The invoice of a month: JSON, CSV, or a printable page",
                parameters=(_ORG, _MONTH, _FORMAT),
                media=tuple(found.content_type for found in DOCUMENTS.values()),
                tag="export",
            ),
            ApiRoute(
                method="GET",
                path="/api/statements/{org}/{week}",
                handler=self._week,
                summary="The statement of a week, for card billing: JSON, CSV, or a printable page",
                parameters=(_ORG, _WEEK, _FORMAT),
                media=tuple(found.content_type for found in DOCUMENTS.values()),
                tag="export",
            ),
        )

    async def _month(self, call: ApiCall) -> web.Response:
        [organization] = await self._scopes.of_history(call.access, [call.values["org"]], param=_ORG.name)
        check_plan(organization, PeriodKind.MONTH)
        try:
            month = BillingPeriod.month(call.values["month"], organization.time_zone, organization.billing_day)
        except ValueError as error:
            raise invalid_parameter(_MONTH.name, str(error)) from error
        return await self._document(call, organization, month)

    async def _week(self, call: ApiCall) -> web.Response:
        [organization] = await self._scopes.of_history(call.access, [call.values["org"]], param=_ORG.name)
        check_plan(organization, PeriodKind.WEEK)
        try:
            week = BillingPeriod.week(call.values["week"], organization.time_zone)
        except ValueError as error:
            raise invalid_parameter(_WEEK.name, str(error)) from error
        return await self._document(call, organization, week)

    async def _document(self, call: ApiCall, organization: Organization, period: BillingPeriod) -> web.Response:
        self._check_time(organization, period)
        billed = BilledOrganization(id=organization.id, name=organization.name)
        with self._slots.taken():
            try:
                invoice = await read_invoice(self._database, billed, period, as_of_ms=self._as_of_ms())
            except InvoiceTooLargeError as error:
                raise ApiError(status=400, code="invoice_too_large", message=str(error), param=period.kind.value) from error
        format_ = InvoiceFormat(call.values["format"])
        document = DOCUMENTS[format_]
        headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: document.content_type,
            hdrs.CONTENT_DISPOSITION: f'{document.disposition}; filename="{invoice.noun}-{invoice.number}.{format_}"',
        }
        if format_ is InvoiceFormat.HTML:
            headers["Content-Security-Policy"] = _PAGE_POLICY
        return web.Response(body=document.write(invoice), headers=headers)

    def _check_time(self, organization: Organization, period: BillingPeriod) -> None:
        """Raise ApiError for a future period, and for one that the plan's history does not cover in full."""
        if period.start_ms > self._now_ms():
            raise invalid_parameter(period.kind.value, "has not begun")
        [scope] = self._scopes.history([organization])
        if period.start_ms < scope.visible_from_ms:
            raise ApiError(
                status=403,
                code="beyond_history",
                message=f"the plan {organization.plan.id} keeps {organization.plan.history_days} days: not all of {period.id}",
                param=period.kind.value,
            )
