"""`tallygate invoice`: a month of an organization as a document."""

import asyncio
from pathlib import Path
from typing import Final

import click

from tallygate.commands.ledger_session import open_session, plain_errors
from tallygate.commands.output_file import output_file

FORMATS: Final = ("html", "csv", "json")  # tallygate.ledger.invoice.documents.InvoiceFormat, without importing it for --help


@click.command(short_help="Write a month of an organization as an invoice.")
@click.argument("org")
@click.argument("month", metavar="YYYY-MM")
@click.option("--format", "format_name", type=click.Choice(FORMATS), help="Default: by the suffix of --output, else csv.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File.  [default: standard output]")
@click.option("--ignore-plan", is_flag=True, help="Also for an organization whose plan does not include export.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--database-url", help="As of serve.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
def invoice(
    *,
    org: str,
    month: str,
    format_name: str | None,
    output: Path | None,
    ignore_plan: bool,
    **flags: str | Path | None,
) -> None:
    """Write the month YYYY-MM of the organization ORG, in its time zone, as an invoice: a page to print, CSV, or JSON.

    Its lines add up to the ledger to the nano-dollar. Equal ledgers give equal bytes.
    """
    from tallygate.ledger.invoice.billing_month import BillingMonth
    from tallygate.ledger.invoice.documents import DOCUMENTS, InvoiceFormat
    from tallygate.ledger.invoice.read_invoice import BilledOrganization, InvoiceTooLargeError, read_invoice

    async def read() -> bytes:
        async with open_session(flags) as session:
            found = session.organization(org, needs_export=not ignore_plan)
            try:
                billing_month = BillingMonth.of(month, found.time_zone)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="YYYY-MM") from error
            billed = BilledOrganization(id=found.id, name=found.name, time_zone=found.time_zone)
            document = await read_invoice(session.database, billed, billing_month, now_ms=session.now_ms)
        return DOCUMENTS[InvoiceFormat(format_name or _format_of(output))].write(document)

    with plain_errors():
        try:
            document = asyncio.run(read())
        except InvoiceTooLargeError as error:
            raise click.ClickException(str(error)) from error
        with output_file(output) as file:
            file.write(document)


def _format_of(output: Path | None) -> str:
    suffix = "" if output is None else output.suffix.removeprefix(".").lower()
    return suffix if suffix in FORMATS else "csv"
