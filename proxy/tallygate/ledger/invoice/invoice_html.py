"""An invoice as one printable HTML page: no script, no external resource, every text of the ledger escaped.

Equal ledgers give equal bytes: the page has no time of printing, only the time of the latest entry.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final

from tallygate.domain.billing import PeriodKind
from tallygate.domain.money import NANO_PER_USD
from tallygate.ledger.entry import Kind
from tallygate.ledger.invoice.billing_period import BillingPeriod
from tallygate.ledger.invoice.invoice import ROUNDING_RULE, Amounts, Invoice, Line, cents_text, summed
from tallygate.ledger.invoice.invoice_style import STYLE

_CORRECTIONS: Final[Mapping[Kind, str]] = {
    Kind.REVERSED: "Taken back",
    Kind.LATE: "Final count after an interruption",
    Kind.EXPIRED: "Interrupted",
    Kind.REPRICED: "Price corrected",
    Kind.CORRECTED: "Usage corrected",
    Kind.UNHELD: "Final count after a loss of the limiter's store",
    Kind.SETTLED: "Settled again",
    Kind.RELEASED: "Released",
}
_MONTHS: Final = (  # the calendar module's names depend on the process's locale
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_MINUS: Final = "\u2212"  # as wide as a digit, and read as a minus
_HEAD_CLASSES: Final = {"Capability": ' class="text"', "Model": ' class="text model"', "Reason": ' class="text"'}
_AMOUNT_HEADS: Final = ("Requests", "Prompt tokens", "of which cached", "Completion tokens", "Cost, USD")


def invoice_html(invoice: Invoice) -> bytes:
    title = f"{invoice.noun.capitalize()} {invoice.number}"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="robots" content="noindex">\n',
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        _heading(invoice),
        _due(invoice),
        '<section class="summaries" aria-label="Totals">\n',
        "<div>\n",
        _summary("By credential", "Credential", invoice.totals_by(lambda line: line.credential)),
        _summary("By capability", "Capability", invoice.totals_by(lambda line: line.capability)),
        "</div>\n",
        _summary("By model", "Model", invoice.totals_by(lambda line: line.model)),
        "</section>\n",
        _lines_table("Usage", invoice.usage),
        _lines_table("Corrections", invoice.corrections, has_reason=True) if invoice.corrections else "",
        _grand_total(invoice),
        _notes(invoice),
        "</main>\n</body>\n</html>\n",
    ]
    return "".join(parts).encode()


def _heading(invoice: Invoice) -> str:
    period, noun = invoice.period, invoice.noun
    facts = [
        (noun.capitalize(), escape(invoice.number)),
        ("Organization", escape(invoice.org)),
        ("Billing period", _days(period)),
        ("Time zone", escape(period.time_zone)),
        ("Currency", "US dollar (USD)"),
    ]
    badge = f'<p class="badge">Provisional: the {period.kind} is not over</p>\n' if invoice.is_provisional else ""
    rows = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>\n" for name, text in facts)
    return (
        f'<header>\n<div>\n<p class="kind">Usage {noun}</p>\n<h1>{escape(invoice.name)}</h1>\n'
        f'<p class="period">{_period_name(period)}</p>\n{badge}</div>\n'
        f"<dl>\n{rows}</dl>\n</header>\n"
    )


def _due(invoice: Invoice) -> str:
    total = invoice.total
    return (
        '<section class="due" aria-label="Grand total">\n'
        f'<div><p class="label">Total</p><p class="amount">{_grouped(cents_text(total.cost_nano_usd), symbol="$")}</p></div>\n'
        f"<dl>\n<div><dt>Exact</dt><dd>{_usd(total.cost_nano_usd)} USD</dd></div>\n"
        f"<div><dt>Requests</dt><dd>{total.requests:,}</dd></div>\n"
        f"<div><dt>Prompt tokens</dt><dd>{total.prompt_tokens:,}</dd></div>\n"
        f"<div><dt>Completion tokens</dt><dd>{total.completion_tokens:,}</dd></div>\n</dl>\n</section>\n"
    )


def _summary(caption: str, head: str, totals: Sequence[tuple[str, Amounts]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_label(label)}</th><td>{amounts.requests:,}</td><td>{_usd(amounts.cost_nano_usd)}</td></tr>\n'
        for label, amounts in totals
    )
    return (
        f'<table>\n<caption>{caption}</caption>\n<thead><tr><th scope="col">{head}</th><th scope="col">Requests</th>'
        f'<th scope="col">Cost, USD</th></tr></thead>\n<tbody>\n{rows or _nothing(3)}</tbody>\n</table>\n'
    )


def _lines_table(caption: str, lines: Sequence[Line], *, has_reason: bool = False) -> str:
    heads = ("Credential", "Capability", "Model", *(("Reason",) if has_reason else ()))
    columns = "".join(f'<th scope="col"{_HEAD_CLASSES.get(name, "")}>{name}</th>' for name in (*heads, *_AMOUNT_HEADS))
    body = "".join(_line(line) for line in lines) or _nothing(len(heads) + len(_AMOUNT_HEADS))
    foot = f'<tr><th scope="row" colspan="{len(heads)}">Total of {caption.lower()}</th>{_cells(summed(lines))}</tr>'
    return (
        f'<table class="lines">\n<caption>{caption}</caption>\n<thead><tr>{columns}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n<tfoot>{foot}</tfoot>\n</table>\n"
    )


def _line(line: Line) -> str:
    reason = "" if line.correction is None else f'<td class="text">{_CORRECTIONS[line.correction]}</td>'
    return (
        f'<tr><th scope="row">{_label(line.credential)}</th><td class="text">{_label(line.capability)}</td>'
        f'<td class="text">{_label(line.model)}</td>{reason}{_cells(line.amounts)}</tr>\n'
    )


def _cells(amounts: Amounts) -> str:
    counts = (amounts.requests, amounts.prompt_tokens, amounts.cached_tokens, amounts.completion_tokens)
    return "".join(f"<td>{_count(count)}</td>" for count in counts) + f"<td>{_usd(amounts.cost_nano_usd)}</td>"


def _grand_total(invoice: Invoice) -> str:
    exact = invoice.total.cost_nano_usd
    rows: Iterable[tuple[str, str, str]] = (
        *([("Usage", _usd(summed(invoice.usage).cost_nano_usd), "")] if invoice.corrections else []),
        *([("Corrections", _usd(summed(invoice.corrections).cost_nano_usd), "")] if invoice.corrections else []),
        ("Exact total", _usd(exact), ""),
        ("Total, rounded", _grouped(cents_text(exact), symbol="$"), ' class="grand"'),
    )
    body = "".join(f'<tr{attribute}><th scope="row">{name}</th><td>{text}</td></tr>\n' for name, text, attribute in rows)
    return f'<table class="totals">\n<caption class="unseen">Grand total in USD</caption>\n<tbody>\n{body}</tbody>\n</table>\n'


def _notes(invoice: Invoice) -> str:
    period = invoice.period
    latest = "" if invoice.last_entry_ms is None else f" The latest entry was made at {_instant(invoice.last_entry_ms)}."
    notes = [
        ROUNDING_RULE,
        (
            f"The period is every request settled from {_instant(period.start_ms)} to before {_instant(period.end_ms)}: "
            f"the {'calendar month' if period.is_calendar_month else period.kind} in {escape(period.time_zone)}."
        ),
        (
            "Prompt tokens include cached and cache-writing ones, completion tokens include reasoning. "
            "The model is the one that answered, else the one asked for."
        ),
        f"The lines above are all entries of the period in the ledger; their sum is the exact total.{latest}",
    ]
    if invoice.corrections:
        notes.append(
            f"Corrections were entered after the original entry, and stand in the {period.kind} of the request that they correct."
        )
    items = "".join(f"<li>{note}</li>\n" for note in notes)
    return f'<footer>\n<ul class="notes">\n{items}</ul>\n</footer>\n'


def _label(text: str) -> str:
    return escape(text) if text else '<span class="none">none</span>'


def _nothing(columns: int) -> str:
    return f'<tr><td class="text none" colspan="{columns}">Nothing was used.</td></tr>\n'


def _count(number: int) -> str:
    return f"{number:,}".replace("-", _MINUS)


def _usd(nano_usd: int) -> str:
    """All nine decimals, so that columns of figures align; those beyond the cent are dimmed."""
    whole, fraction = divmod(abs(nano_usd), NANO_PER_USD)
    decimals = f"{fraction:09d}"
    sign = _MINUS if nano_usd < 0 else ""
    return f'<span class="usd">{sign}{whole:,}.{decimals[:2]}<span class="nano">{decimals[2:]}</span></span>'


def _grouped(decimal: str, *, symbol: str) -> str:
    """A decimal text with thousands grouped: "-1234.50" is "-$1,234.50", with a minus sign."""
    whole, _, fraction = decimal.lstrip("-").partition(".")
    return f"{_MINUS if decimal.startswith('-') else ''}{symbol}{int(whole):,}.{fraction}"


def _period_name(period: BillingPeriod) -> str:
    """A calendar month and an ISO week by their names, other periods by their days."""
    first = period.days[0]
    if period.is_calendar_month:
        return f"{_MONTHS[first.month - 1]} {first.year}"
    year, week, weekday = first.isocalendar()
    return f"Week {week} of {year}" if period.kind is PeriodKind.WEEK and weekday == 1 else _days(period)


def _days(period: BillingPeriod) -> str:
    """A range of days as "1 to 30 November 2026", with the first day's month and year if they differ from the last day's."""
    first, last = period.days
    year = f" {first.year}" if first.year != last.year else ""
    month = f" {_MONTHS[first.month - 1]}" if first.month != last.month else ""
    return f"{first.day}{month}{year} to {last.day} {_MONTHS[last.month - 1]} {last.year}"


def _instant(at_ms: int) -> str:
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms)
    return f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{at:%Y-%m-%d %H:%M:%S} UTC</time>'
