"""An upstream's own price catalogue, as Gloo serves it: GET /platform/v2/models."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from tallygate.config.cache_ratios import FamilyRatios, ratios_of
from tallygate.config.price_row import CONTEXT_TOKENS_MAX, bounded_rate, model_name, rate_of, versioned
from tallygate.config.section import show
from tallygate.domain.money import nano_usd_from_usd
from tallygate.domain.price import Price
from tallygate.domain.unit import Unit

ROWS_MAX: Final = 10_000
ALIASES_MAX: Final = 32  # of one row; further ones are ignored
PROBLEMS_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamCatalogue:
    """The readable part of a catalogue.

    prices     one for each id and alias, in force from the beginning of time: a catalogue has current prices without dates
    families   priced ids by lower-case family, including deprecated ones, which the provider's routing may still pick; without
               models whose output has no text, which only Responses can request, by name (Gloo's "Responses API")
    problems   rows that cannot be priced, one line each; such models count as unknown
    """

    prices: tuple[Price, ...]
    families: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...] = ()


def read_upstream_catalogue(body: bytes, ratios: FamilyRatios = ()) -> UpstreamCatalogue:
    """Parse a catalogue leniently: an odd row is left out and reported, the others count.

    Rates are decimal strings, per million tokens or else per thousand, for input and output. A row's own `cache_read`
    (undocumented, but seen) prices cached tokens; otherwise `ratios` do, and without a ratio the input rate.
    A row with only an output price (image models) has free input. A row with only an input price (embeddings) prices requests
    without output, and routing does not pick it. Raises ValueError if the body is no catalogue, or has no
    row that can be priced: the last good one is then better than none.
    """
    try:
        rows = msgspec.json.decode(body, type=dict[str, Any]).get("data")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"is not a model catalogue: {str(error)[:200]}") from error
    if not isinstance(rows, list) or not 1 <= len(rows) <= ROWS_MAX:
        raise ValueError(f"is not a model catalogue: `data` must be a list of 1 to {ROWS_MAX} rows")
    prices: dict[str, Price] = {}
    aliases: dict[str, Price] = {}
    families: dict[str, list[str]] = {}
    problems = []
    for index, row in enumerate(rows):
        try:
            price = _read_row(row, ratios)
        except ValueError as error:
            problems.append(f"data[{index}]: {error}")
            continue
        prices.setdefault(price.model, price)
        for alias in _read_aliases(row):
            aliases.setdefault(alias, replace(price, model=alias))
        family = _family(row)
        if family and price.generates and _generates_text(row):
            families.setdefault(family, []).append(price.model)
    if not prices:
        raise ValueError(f"is not a model catalogue: none of its {len(rows)} rows can be priced, the first because {problems[0]}")
    return UpstreamCatalogue(
        prices=tuple({**aliases, **prices}.values()),  # an id takes precedence over another row's alias
        families={family: tuple(models) for family, models in families.items()},
        problems=tuple(problems[:PROBLEMS_MAX]),
    )


def _read_row(row: Any, ratios: FamilyRatios) -> Price:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise ValueError("has no `id`")  # noqa: TRY004  # a value of the body, not of our code
    model = model_name(row["id"])
    pricing = row.get("pricing")
    if not isinstance(pricing, dict):
        raise ValueError(f"{model} has no `pricing`")  # noqa: TRY004  # as above
    output, input_rate = (_read_rate(pricing, side, model) for side in ("output", "input"))
    if output is None and input_rate is None:
        raise ValueError(f"{model} has no price of its input or output")
    if not input_rate and not output:
        raise ValueError(f"{model} is listed as free: give it a row in prices.yaml if that is right")
    cached = _read_rate(pricing, "cache_read", model)
    rates: dict[str, int] = {
        Unit.INPUT: input_rate or 0,
        Unit.OUTPUT: output or 0,
        **ratios_of(_family(row), ratios).rates(input_rate or 0),
    }
    if cached is not None:
        rates[Unit.CACHED_INPUT] = cached
    return versioned(
        Price(
            model=model,
            version="",
            effective_ms=0,
            rates=rates,
            max_output_tokens=_read_tokens(row, "max_output_tokens"),
            max_input_tokens=_read_tokens(row, "context_window"),
            generates=output is not None,
        )
    )


def _family(row: Mapping[str, Any]) -> str:
    """The family's name in lower case; "" if there is none."""
    family = row.get("family")
    return family.lower() if isinstance(family, str) else ""


def _generates_text(row: Mapping[str, Any]) -> bool:
    """Return whether the model generates text; True if its output is not described."""
    modalities = row.get("output_modalities")
    return not isinstance(modalities, list) or not modalities or "text" in modalities


def _read_rate(pricing: Mapping[str, Any], side: str, model: str) -> int | None:
    """Parse one side's rate in pico-USD per token; None if it has no price."""
    rates = pricing.get(side)
    if rates is None:
        return None
    if not isinstance(rates, dict):
        raise ValueError(f"{model} {side} price must be an object, got {show(str(rates))}")  # noqa: TRY004  # as above
    per_million, per_thousand = rates.get("rate_per_1m_tokens"), rates.get("rate_per_1k_tokens")
    try:
        if isinstance(per_million, str):
            return rate_of(Unit.INPUT, per_million)
        if isinstance(per_thousand, str):
            return bounded_rate(nano_usd_from_usd(per_thousand))  # nano-USD per thousand tokens: as many pico-USD per token
    except ValueError as error:
        raise ValueError(f"{model} {side} price {error}") from None
    if per_million is None and per_thousand is None:
        if side == "output":
            return None  # as if the side were absent: requests with output are refused, never free
        raise ValueError(f"{model} {side} price has no rate")
    raise ValueError(f"{model} {side} price must be text, got {show(str(per_million or per_thousand))}")


def _read_tokens(row: Mapping[str, Any], key: str) -> int | None:
    value = row.get(key)
    return value if type(value) is int and 1 <= value <= CONTEXT_TOKENS_MAX else None


def _read_aliases(row: Mapping[str, Any]) -> list[str]:
    aliases = row.get("aliases")
    found = []
    for alias in aliases[:ALIASES_MAX] if isinstance(aliases, list) else ():
        try:
            found.append(model_name(alias))
        except (TypeError, ValueError):
            continue  # only a name that no request could use
    return found
