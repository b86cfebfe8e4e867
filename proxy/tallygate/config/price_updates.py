"""`listed_prices.yaml`: rows that `tallygate prices update` writes over the shipped list, below an operator's own prices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from tallygate.config.catalogue import PriceCatalogue, Series
from tallygate.config.declared import read_field
from tallygate.config.document import read_document
from tallygate.config.kinds import declare
from tallygate.config.price_differences import NOT_LISTED, Difference, Reviewed, differences
from tallygate.config.price_row import PRICES_MAX, days_text, minutes_of_day, read_price
from tallygate.config.price_source import Row, SourceModel
from tallygate.config.problems import Problems
from tallygate.config.section import Section, instant_ms
from tallygate.domain.declared import Instant
from tallygate.domain.errors import ConfigError
from tallygate.domain.price import UNDATED_MS, Price
from tallygate.domain.unit import Unit

REVIEWED: Final = declare("reviewed", Instant("When the rows were compared with their source."), None, is_required=True)
UPDATES_FILE: Final = "listed_prices.yaml"
# Who sells models by names of their own, which the shipped list has. Of a name that several have, the first one decides.
PROVIDERS: Final = (
    *("openai", "anthropic", "google", "x-ai", "mistral", "deepseek"),
    *("groq", "cerebras", "moonshotai", "zai", "cohere", "voyageai", "perplexity", "together", "fireworks"),
)
_HEAD: Final = """# Written by `tallygate prices update` from {source}: list prices that differ from the shipped ones.
# Rows of your own belong in prices.yaml, which overrides these. Remove this file to return to the shipped list.
reviewed: {reviewed}

prices:
"""


@dataclass(frozen=True, slots=True)
class Update:
    """The rows of one model, and what they change."""

    model: str
    rows: tuple[Row, ...]
    changes: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class LayerChanges:
    """Models whose rows differ between two contents of the file."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def with_updates(listed: PriceCatalogue, document: Section) -> PriceCatalogue:
    """The list with the rows of an update in place of those for the same names."""
    reviewed_ms, prices = _layer(document)
    return listed.updated(prices, reviewed_ms)


def read_updates(text: bytes) -> tuple[Price, ...]:
    """The rows of such a file; none of an empty one. Raises ConfigError if it is not valid."""
    if not text:
        return ()
    problems = Problems()
    document = read_document(UPDATES_FILE, text, problems)
    prices = () if document is None else _layer(document)[1]
    if problems:
        raise ConfigError(problems.texts())
    return prices


def changes_of(before: Sequence[Price], after: Sequence[Price]) -> LayerChanges:
    old, new = _by_model(before), _by_model(after)
    return LayerChanges(
        added=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(model for model in new.keys() & old.keys() if new[model] != old[model])),
        removed=tuple(sorted(old.keys() - new.keys())),
    )


def _by_model(prices: Sequence[Price]) -> dict[str, set[str]]:
    """Versions, each of a price and the instant from which it applies, by model."""
    found: dict[str, set[str]] = {}
    for price in prices:
        found.setdefault(price.model, set()).add(f"{price.effective_ms} {price.version}")
    return found


def _layer(document: Section) -> tuple[int | None, tuple[Price, ...]]:
    """When the rows of the file were reviewed, and the rows."""
    reviewed_ms: int | None = read_field(document, REVIEWED)
    document.require("prices")
    prices: dict[tuple[str, int], Price] = {}
    for item in document.sections("prices", items_max=PRICES_MAX):
        for price in read_price(item):
            key = (price.model, price.effective_ms)
            if key in prices:
                item.place.problem(f"prices {price.model!r} twice from the same instant")
            prices[key] = price
    document.close()
    return reviewed_ms, tuple(prices.values())


def updates_of(
    listed: PriceCatalogue, models: Sequence[SourceModel], reviewed: Iterable[Reviewed], *, now_ms: int
) -> tuple[Update, ...]:
    """What the source states now, or announces, otherwise than the list does; a reviewed difference is left as it is."""
    meant = tuple(reviewed)
    found: dict[str, Update] = {}
    for model in models:
        starts = [instant_ms(row["effective"]) for row in model.rows if "effective" in row]
        instants = {now_ms, *[start for start in starts if start > now_ms]}
        changes: dict[str, dict[Difference, None]] = {}
        for at_ms in sorted(instants):
            for each in differences(listed, (model,), at_ms):
                if (each.there or each.what == NOT_LISTED) and not any(entry.covers(each) for entry in meant):
                    changes.setdefault(each.model, {})[each] = None
        for name, different in changes.items():
            if name not in found and not any(_is_free(row) for row in model.rows):
                series = listed.rows_of(name)
                days = _days_of_hours(series)
                dated = [_with_days(row, days) for row in _dated(model.rows, series, now_ms)]
                rows = tuple(_completed(row, listed.row(name, now_ms)) for row in dated)
                found[name] = Update(name, rows, tuple(different))
    return tuple(found.values())


def _is_free(row: Row) -> bool:
    """Whether tokens cost nothing by this row: nobody decided so, as with models that are billed by the second."""
    return not Decimal(row[Unit.INPUT]) and not Decimal(row[Unit.OUTPUT])


def _dated(rows: tuple[Row, ...], listed: Series | None, now_ms: int) -> tuple[Row, ...]:
    """The rows; a first one without a date takes that of the list's price beside which it was seen, so that older ones stay."""
    first, later = rows[0], rows[1:]
    end_ms = instant_ms(later[0]["effective"]) if later else now_ms + 1
    begun = [price.effective_ms for price in listed.prices if price.effective_ms < end_ms] if listed is not None else []
    if "effective" in first or not begun or begun[-1] == UNDATED_MS:
        return rows
    return ({"effective": datetime.fromtimestamp(begun[-1] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **first}, *later)


def _days_of_hours(listed: Series | None) -> dict[tuple[int, int], str]:
    """The days of the week to which the list's latest price restricts hours, which the source does not know."""
    rules = listed.prices[-1].rules if listed is not None else ()
    return {rule.utc_minutes: days_text(rule.utc_days) for rule in rules if rule.utc_minutes and rule.utc_days}


def _with_days(row: Row, days: Mapping[tuple[int, int], str]) -> Row:
    when = [
        {**rule, "utc_days": days[minutes]} if (minutes := minutes_of_day(rule.get("utc_hours", "00:00-00:01"))) in days else rule
        for rule in row.get("when", ())
    ]
    return {**row, "when": when} if when and days else row


def _completed(row: Row, listed: Price | None) -> Row:
    """A row with what the list knows of the model and the source does not: sizes, other rates in proportion, other conditions."""
    if listed is None:
        return row
    completed = dict(row)
    base, now = Decimal(listed.rates[Unit.INPUT]), Decimal(row[Unit.INPUT])
    for unit in (Unit.CACHE_WRITE_12H,):
        if unit in listed.rates and unit not in row and base:
            completed[unit.value] = f"{(now * listed.rates[unit] / base).quantize(Decimal('0.000001')).normalize():f}"
    stated = {tuple(rule.get(name) for name in ("service_tier", "speed", "geography")) for rule in row.get("when", ())}
    kept = [
        {**members, "times": f"{Decimal(rule.factor) / 1_000_000:f}"}
        for rule in listed.rules
        if not rule.rates
        and not rule.is_timed
        and (rule.service_tier, rule.speed, rule.geography) not in stated
        and (members := {name: value for name in ("service_tier", "speed", "geography") if (value := getattr(rule, name))})
    ]
    sizes = {"max_input_tokens": listed.max_input_tokens, "max_output_tokens": listed.max_output_tokens}
    completed |= {name: size for name, size in sizes.items() if size is not None}
    completed |= {} if listed.reasons else {"reasons": False}
    if when := [*completed.pop("when", ()), *kept]:
        completed["when"] = when
    return completed


def file_text(updates: Iterable[Update], *, source: str, reviewed: str) -> str:
    """The file: a row a line, names at one price together."""
    together: dict[str, list[str]] = {}
    rows_of: dict[str, tuple[Row, ...]] = {}
    for update in updates:
        key = repr(update.rows)
        together.setdefault(key, []).append(update.model)
        rows_of[key] = update.rows
    lines = []
    for key, names in together.items():
        for row in rows_of[key]:
            also = f", also: [{', '.join(_quoted(name) for name in names[1:])}]" if len(names) > 1 else ""
            lines.append(f"  - {{model: {_quoted(names[0])}{also}, {_flow(row)}}}\n")
    head = _HEAD.format(source=source, reviewed=reviewed)
    return head + "".join(lines) if lines else head.replace("prices:\n", "prices: []\n")


def _flow(row: Mapping[str, object]) -> str:
    return ", ".join(f"{_key(key)}: {_value(key, value)}" for key, value in row.items())


def _key(key: str) -> str:
    return _quoted(key) if ":" in key else key


def _value(key: str, value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join('{' + _flow(each) + '}' for each in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) or key == "effective" else _quoted(str(value))


def _quoted(text: str) -> str:
    return f'"{text}"'
