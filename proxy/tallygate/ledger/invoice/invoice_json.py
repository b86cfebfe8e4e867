"""An invoice as JSON, for programs: the same lines and totals as the other documents."""

from typing import Any

import msgspec

from tallygate.domain.instants import millisecond_text
from tallygate.domain.money import usd_text
from tallygate.ledger.invoice.invoice import AMOUNT_NAMES, ROUNDING_RULE, Amounts, Invoice, Line, cents_text


def invoice_json(invoice: Invoice) -> bytes:
    """Indented JSON, keys in a fixed order. Money as integer nano-USD and as exact decimal text; only the total has rounded_usd."""
    total = invoice.total
    document = {
        "object": invoice.noun,
        "number": invoice.number,
        "organization": {"id": invoice.org, "name": invoice.name},
        invoice.period.kind.value: invoice.period.id,
        "time_zone": invoice.period.time_zone,
        "from": millisecond_text(invoice.period.start_ms),
        "to": millisecond_text(invoice.period.end_ms),
        "provisional": invoice.is_provisional,
        "last_entry_at": None if invoice.last_entry_ms is None else millisecond_text(invoice.last_entry_ms),
        "usage": [_line(line) for line in invoice.usage],
        "corrections": [_line(line) for line in invoice.corrections],
        "by_credential": _totals(invoice, "credential"),
        "by_capability": _totals(invoice, "capability"),
        "by_model": _totals(invoice, "model"),
        "total": {**_figures(total), "rounded_usd": cents_text(total.cost_nano_usd), "rounding": ROUNDING_RULE},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _line(line: Line) -> dict[str, Any]:
    labels: dict[str, Any] = {"credential": line.credential, "capability": line.capability, "model": line.model}
    if line.correction is not None:
        labels["correction"] = line.correction.value
    return {**labels, **_figures(line.amounts)}


def _totals(invoice: Invoice, label: str) -> list[dict[str, Any]]:
    totals = invoice.totals_by(lambda line: str(getattr(line, label)))
    return [{label: value, **_figures(amounts)} for value, amounts in totals]


def _figures(amounts: Amounts) -> dict[str, Any]:
    return {**{name: getattr(amounts, name) for name in AMOUNT_NAMES}, "cost_usd": usd_text(amounts.cost_nano_usd)}
