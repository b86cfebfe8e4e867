"""`tallygate invoice`: a month or a week of an organization as a document."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tallygate.commands.api_client import ApiClient, asked, local_options, quoted, remote_options, remote_url
from tallygate.commands.ledger_session import open_session, plain_errors
from tallygate.commands.output_file import output_file

if TYPE_CHECKING:
    from tallygate.domain.organization import Organization
    from tallygate.ledger.invoice.billing_period import BillingPeriod
    from tallygate.ledger.invoice.documents import InvoiceFormat

FORMATS: Final = ("html", "csv", "json")  # tallygate.ledger.invoice.documents.InvoiceFormat, without importing it for --help


@click.command(short_help="Write a month of an organization as an invoice, or a week as a statement.")
@click.argument("org")
@click.argument("month", metavar="[YYYY-MM]", required=False)
@click.option("--week", metavar="WEEK", help="Instead of a month: 2026-W48, or the first of seven days, such as 2026-11-24.")
@click.option("--format", "format_name", type=click.Choice(FORMATS), help="Default: by the suffix of --output, else csv.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File.  [default: standard output]")
@click.option("--ignore-plan", is_flag=True, help="Also for an organization whose plan has no such document.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--database-url", help="As of serve.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
@remote_options
def invoice(
    *,
    org: str,
    month: str | None,
    week: str | None,
    format_name: str | None,
    output: Path | None,
    ignore_plan: bool,
    **options: Any,
) -> None:
    """Write what the organization ORG used, in its time zone, as a document: a page to print, CSV, or JSON.

    Of a month it is an invoice: the one that begins in YYYY-MM on the organization's billing day. Of a week it is a statement, for
    those who pay by card each week. Its lines add up to the ledger to the nano-dollar. Equal ledgers give equal bytes.
    """
    from tallygate.ledger.invoice.documents import DOCUMENTS, InvoiceFormat
    from tallygate.ledger.invoice.read_invoice import BilledOrganization, InvoiceTooLargeError, read_invoice

    if (month is None) == (week is None):
        raise click.UsageError("give a month YYYY-MM, or --week, and not both")

    format_ = InvoiceFormat(format_name or _format_of(output))
    if remote_url(options["url"]) is not None:
        if ignore_plan:
            raise click.UsageError("--ignore-plan works where serve runs, not over a console")
        path = (
            f"/api/statements/{quoted(org)}/{quoted(week)}"
            if week is not None
            else f"/api/invoices/{quoted(org)}/{quoted(month or '')}"
        )
        _download(path, format_, output, options)
        return
    local = local_options(options)

    async def render() -> bytes:
        async with open_session(local) as session:
            found = await session.organization(org, needs_export=False)
            period = _period(found, month, week)
            if not ignore_plan and not found.plan.has_document(period.kind):
                await session.organization(org, needs_export=True)
            _check_time(found, period, session.now_ms)
            billed = BilledOrganization(id=found.id, name=found.name)
            document = await read_invoice(session.database, billed, period, as_of_ms=session.now_ms)
        return DOCUMENTS[format_].write(document)

    with plain_errors():
        try:
            document = asyncio.run(render())
        except InvoiceTooLargeError as error:
            raise click.ClickException(str(error)) from error
        with output_file(output) as file:
            file.write(document)


def _download(path: str, format_: "InvoiceFormat", output: Path | None, options: dict[str, Any]) -> None:
    """Write the document that a console elsewhere makes."""
    from tallygate.ledger.invoice.documents import DOCUMENTS

    media = DOCUMENTS[format_].content_type.partition(";")[0]

    async def fetch(client: ApiClient) -> None:
        with output_file(output) as file:
            await client.download(path, {"format": format_.value}, file, media=media)

    asked(fetch, options)


def _period(organization: "Organization", month: str | None, week: str | None) -> "BillingPeriod":
    from tallygate.ledger.invoice.billing_period import BillingPeriod

    try:
        if week is not None:
            return BillingPeriod.week(week, organization.time_zone)
        return BillingPeriod.month(month or "", organization.time_zone, organization.billing_day)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="YYYY-MM" if week is None else "--week") from error


def _check_time(organization: "Organization", period: "BillingPeriod", now_ms: int) -> None:
    """Refuse a future period, and warn about one whose first entries may be gone."""
    from tallygate.ledger.retention import visible_from_ms

    if period.start_ms > now_ms:
        raise click.ClickException(f"{period.id} has not begun: its first day is {period.days[0]}")
    if period.start_ms < visible_from_ms(organization, now_ms):
        days = organization.plan.history_days
        click.echo(f"warning: the plan {organization.plan.id} keeps {days} days: not all of {period.id}", err=True)


def _format_of(output: Path | None) -> str:
    suffix = "" if output is None else output.suffix.removeprefix(".").lower()
    return suffix if suffix in FORMATS else "csv"
