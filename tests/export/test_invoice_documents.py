"""The documents of an invoice, byte by byte: REWRITE_GOLDENS=1 writes them anew, to be read in the diff."""

import csv
import io
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from invoice_values import a_line, an_invoice

from tallygate.ledger.entry import Kind
from tallygate.ledger.invoice.billing_period import BillingPeriod
from tallygate.ledger.invoice.documents import DOCUMENTS, InvoiceFormat
from tallygate.ledger.invoice.invoice_html import invoice_html

GOLDENS = Path(__file__).parent / "goldens"
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Elements in order, cells of tables, and a check that every element is closed where it must be."""

    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.feed(document.decode())
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"th", "td"}:
            self.tables[-1][-1].append("")
        elif tag == "caption":
            self.captions.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
        elif "caption" in self.open:
            self.captions[-1] += data

    def table(self, caption):
        return self.tables[self.captions.index(caption)]


def nano_usd(cell):
    sign = -1 if cell.startswith("\u2212") else 1
    whole, fraction = cell.lstrip("\u2212").replace(",", "").split(".")
    assert len(fraction) == 9
    return sign * (int(whole) * 10**9 + int(fraction))


@pytest.mark.parametrize("format_", InvoiceFormat)
@pytest.mark.parametrize(
    ("name", "invoice"),
    [
        ("corrected", an_invoice()),
        ("billing-day", an_invoice(period=BillingPeriod.month("2026-12", "America/New_York", 15))),
        ("week", an_invoice(period=BillingPeriod.week("2026-12-28", "America/New_York"), is_provisional=True)),
        ("empty", an_invoice(usage=(), corrections=(), last_entry_ms=None, is_provisional=True)),
    ],
)
def test_documents_are_as_they_were(format_, name, invoice):
    golden = GOLDENS / f"invoice-{name}.{format_}"
    document = DOCUMENTS[format_].write(invoice)
    if os.environ.get("REWRITE_GOLDENS"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_bytes(document)

    assert document == golden.read_bytes()


@pytest.mark.parametrize("caption", ["By credential", "By capability", "By model"])
def test_each_summary_of_the_page_adds_up_to_the_exact_total(caption):
    rows = Page(invoice_html(an_invoice())).table(caption)[1:]

    assert sum(nano_usd(row[-1]) for row in rows) == an_invoice().total.cost_nano_usd


def test_the_lines_of_the_page_add_up_to_its_totals():
    page = Page(invoice_html(an_invoice()))
    total = 0
    for caption in ("Usage", "Corrections"):
        *lines, foot = page.table(caption)[1:]
        assert sum(nano_usd(line[-1]) for line in lines) == nano_usd(foot[-1])
        total += nano_usd(foot[-1])

    assert dict(page.table("Grand total in USD")) == {
        "Usage": "1,251.612021976",
        "Corrections": "\u221218.212688401",
        "Exact total": "1,233.399333575",
        "Total, rounded": "$1,233.40",
    }
    assert total == an_invoice().total.cost_nano_usd


def test_texts_of_the_ledger_stay_texts():
    evil = "<script>alert(1)</script>\"'&amp;<img src=x onerror=y>"
    line = a_line(credential=evil, capability=evil, model=evil, cost_nano_usd=1)
    document = invoice_html(an_invoice(org=evil, name=evil, usage=(line,), corrections=(replace(line, correction=Kind.LATE),)))

    page = Page(document)
    assert {tag for tag, _ in page.attributes}.isdisjoint({"script", "img"})
    assert evil in page.table("By credential")[1][0]


def test_the_page_needs_nothing_from_elsewhere():
    document = invoice_html(an_invoice()).decode()

    assert not re.search(r"https?://|url\(|@import|<(script|link|img|iframe|object)\b|\bon\w+=|(src|href|style)=", document)


def test_tables_can_be_read_aloud():
    page = Page(invoice_html(an_invoice()))

    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in page.attributes if tag == "th")
    assert len(page.captions) == len(page.tables)
    assert ("html", {"lang": "en"}) in page.attributes


def test_every_kind_of_correction_has_a_reason():
    for kind in Kind:
        document = invoice_html(an_invoice(corrections=(a_line(correction=kind, cost_nano_usd=-1),)))
        assert Page(document).table("Corrections")[1][3]


def test_a_negative_total_is_a_negative_total():
    document = invoice_html(an_invoice(usage=(), corrections=(a_line(correction=Kind.REPRICED, cost_nano_usd=-1_234_567_890_123),)))

    assert dict(Page(document).table("Grand total in USD"))["Total, rounded"] == "\u2212$1,234.57"


def test_json_and_csv_say_the_same():
    document = json.loads(DOCUMENTS[InvoiceFormat.JSON].write(an_invoice()))
    rows = list(csv.DictReader(io.StringIO(DOCUMENTS[InvoiceFormat.CSV].write(an_invoice()).decode(), newline="")))

    lines = [*document["usage"], *document["corrections"], document["total"]]
    assert [int(row["cost_nano_usd"]) for row in rows] == [line["cost_nano_usd"] for line in lines]
    assert [row["cost_usd"] for row in rows] == [line["cost_usd"] for line in lines]
    assert rows[-1]["rounded_usd"] == document["total"]["rounded_usd"] == "1233.40"
    assert rows[-2]["credential"] == "acme-prod"
    assert rows[4]["credential"] == "'" + document["usage"][4]["credential"]
