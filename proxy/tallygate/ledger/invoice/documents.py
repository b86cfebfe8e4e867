"""The document formats of an invoice."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tallygate.ledger.invoice.invoice import Invoice
from tallygate.ledger.invoice.invoice_csv import invoice_csv
from tallygate.ledger.invoice.invoice_html import invoice_html
from tallygate.ledger.invoice.invoice_json import invoice_json


class InvoiceFormat(StrEnum):
    """The format of a document; also its file's suffix."""

    HTML = "html"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document. disposition: whether a browser shows it or stores it."""

    write: Callable[[Invoice], bytes]
    content_type: str
    disposition: str


DOCUMENTS: Final[Mapping[InvoiceFormat, Document]] = {
    InvoiceFormat.HTML: Document(write=invoice_html, content_type="text/html; charset=utf-8", disposition="inline"),
    InvoiceFormat.CSV: Document(
        write=invoice_csv, content_type="text/csv; charset=utf-8; header=present", disposition="attachment"
    ),
    InvoiceFormat.JSON: Document(write=invoice_json, content_type="application/json", disposition="inline"),
}
