"""An invoice as CSV: one row a line, and one for the total, distinguished by the column `line`."""

from collections.abc import Iterator
from typing import Final

from tallygate.domain.money import usd_text
from tallygate.ledger.export.csv_rows import csv_lines, safe_text
from tallygate.ledger.invoice.invoice import AMOUNT_NAMES, Amounts, Invoice, Line, cents_text

_LABELS: Final = ("credential", "capability", "model", "correction")


def csv_header(invoice: Invoice) -> tuple[str, ...]:
    """The header. The kinds of document and period name their columns: for example `invoice` and `month`."""
    about = (invoice.noun, "organization", invoice.period.kind.value, "time_zone")
    return ("line", *about, *_LABELS, *AMOUNT_NAMES, "cost_usd", "rounded_usd")


def invoice_csv(invoice: Invoice) -> bytes:
    """RFC 4180, safe to open in a spreadsheet. Rows of `usage` and `correction` add up to the `total`, the last row.

    Only the total has rounded_usd.
    """
    return csv_lines([csv_header(invoice), *_rows(invoice)])


def _rows(invoice: Invoice) -> Iterator[tuple[str, ...]]:
    about = (
        safe_text(invoice.number),
        safe_text(invoice.org),
        invoice.period.id,
        invoice.period.time_zone,
    )
    for line in invoice.lines:
        yield ("correction" if line.correction else "usage", *about, *_labels(line), *_figures(line.amounts), "")
    total = invoice.total
    yield ("total", *about, "", "", "", "", *_figures(total), cents_text(total.cost_nano_usd))


def _labels(line: Line) -> tuple[str, str, str, str]:
    return safe_text(line.credential), safe_text(line.capability), safe_text(line.model), line.correction or ""


def _figures(amounts: Amounts) -> tuple[str, ...]:
    return (*(str(getattr(amounts, name)) for name in AMOUNT_NAMES), usd_text(amounts.cost_nano_usd))
