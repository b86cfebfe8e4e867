"""prices.yaml: what models cost, their other names, and the models within reach of a provider's own routing."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.routing import Families, Routing
from tallygate.config.section import Section, show
from tallygate.domain.money import pico_usd_per_token
from tallygate.domain.price import Price

USD_PER_MILLION_MAX: Final = 100_000  # above it the number is a typing error, and would lock every caller out
CONTEXT_TOKENS_MAX: Final = 100_000_000
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)
_REACHED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/@+-]{0,127}\*?", re.ASCII)  # names of families have spaces
_LONG: Final = re.compile(r"(input|output)_above_([1-9]\d{0,4})k", re.ASCII)

_RATES: Final = {
    "input": "input",
    "output": "output",
    "cached_input": "cached_input",
    "cache_write_5m": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
    "input_audio": "audio_input",
    "output_audio": "audio_output",
    "reasoning_output": "reasoning",
}


def read_prices(document: Section, *, shipped_families: Families | None = None) -> PriceCatalogue:
    """Parse prices. shipped_families: families that are not the operator's own; None: treat all as shipped."""
    document.require("prices")
    prices: list[Price] = []
    first_lines: dict[tuple[str, int], int] = {}
    for item in document.sections("prices", items_max=100_000):
        price = _read_price(item)
        item.close()
        if price is None:
            continue
        key = (price.model, price.effective_ms)
        if key in first_lines:
            item.place.problem(f"prices {price.model!r} from the same instant as line {first_lines[key]}")
        else:
            first_lines[key] = item.place.line
            prices.append(price)
    models = {price.model for price in prices}
    aliases = _read_aliases(document, models)
    routing = _read_routing(document, shipped_families)
    document.close()
    return PriceCatalogue(prices, aliases, routing=routing)


def _read_price(item: Section) -> Price | None:
    reasons = item.boolean("reasons", default=True)
    complete = item.require("model", "effective", "input", "output")
    model = item.parsed("model", model_name)
    effective_ms = item.instant_ms("effective")
    rates = {name: item.money(key, rate) for key, name in _RATES.items()}
    long = _read_long_context(item)
    max_output, max_input = (
        item.integer(key, 0, minimum=1, maximum=CONTEXT_TOKENS_MAX) or None for key in ("max_output_tokens", "max_input_tokens")
    )
    if not complete or model is None or effective_ms is None or rates["input"] is None or rates["output"] is None:
        return None
    values = {**rates, **long, "max_output_tokens": max_output, "max_input_tokens": max_input}
    version = price_version(model, effective_ms, values)
    return Price(model=model, version=version, effective_ms=effective_ms, reasons=reasons, **values)  # type: ignore[arg-type]  # input and output were checked above


def price_version(model: str, effective_ms: int, values: Mapping[str, int | None]) -> str:
    """`model@date.digest`: the digest distinguishes a corrected row from the row that it replaces at the same date."""
    text = ",".join(f"{name}={value}" for name, value in sorted(values.items()) if value is not None)
    date = datetime.fromtimestamp(effective_ms / 1000, UTC).date()
    return f"{model}@{date}.{hashlib.sha256(f'{effective_ms},{text}'.encode()).hexdigest()[:8]}"


def _read_long_context(item: Section) -> Mapping[str, int | None]:
    """Parse `input_above_200k` with `output_above_200k`: the rates of requests with longer prompts."""
    found = {}
    thresholds = set()
    for key in list(item.keys()):
        match = _LONG.fullmatch(key)
        if match is not None:
            found[f"long_{match[1]}"] = item.money(key, rate)
            thresholds.add(int(match[2]) * 1000)
    if not found:
        return {}
    if len(found) != 2 or len(thresholds) != 1:
        item.place.problem("needs input_above_<n>k and output_above_<n>k together, with one n")
    return {"long_context_tokens": thresholds.pop(), **found}


def _read_aliases(document: Section, models: set[str]) -> Mapping[str, str]:
    section = document.section("aliases")
    if section is None:
        return {}
    found = {}
    for name in list(section.keys()):
        target = section.text(name)
        if name in models:
            section.place_of(name).problem("has a price of its own, which wins: remove the alias")
        elif _MODEL.fullmatch(name) is None:
            section.place_of(name).problem("is not a model name")
        elif target and target not in models:
            section.place_of(name).problem(f"names the model {show(target)}, which has no price")
        elif target:
            found[name] = target
    return found


def _read_routing(document: Section, shipped_families: Families | None) -> Routing:
    families = _read_families(document)
    routing = Routing(families=families, are_families_own=shipped_families is not None and families != shipped_families)
    section = document.section("auto_routing")
    if section is None:
        return routing
    reaches = section.scalars("reaches", may_be_empty=False) or []
    for place, text in reaches:
        if _REACHED.fullmatch(text) is None:
            place.problem(f"must be a family, a model name, or the start of one followed by *, got {show(text)}")
    most = section.integer("max_output_tokens", minimum=1, maximum=CONTEXT_TOKENS_MAX) or None
    section.close()
    return replace(routing, reaches=tuple(text for _, text in reaches), max_output_tokens=most)


def _read_families(document: Section) -> Families:
    """Parse model names, or prefixes ending in `*`, by family."""
    section = document.section("families")
    if section is None:
        return {}
    found = {}
    for name in list(section.keys()):
        patterns = section.scalars(name) or []
        for place, text in patterns:
            if _MODEL.fullmatch(text.removesuffix("*")) is None:
                place.problem(f"must be a model name, or the start of one followed by *, got {show(text)}")
        found[name.lower()] = tuple(text for _, text in patterns)
    return found


def model_name(text: str) -> str:
    if _MODEL.fullmatch(text) is None:
        raise ValueError(f"must be a model name of at most 128 characters, got {show(text)}")
    return text


def rate(text: str) -> int:
    """Convert USD per million tokens to pico-USD per token. Raises ValueError outside 0 to USD_PER_MILLION_MAX."""
    return bounded_rate(pico_usd_per_token(text))


def bounded_rate(pico_usd: int) -> int:
    if pico_usd > USD_PER_MILLION_MAX * 10**6:
        raise ValueError(f"must be at most {USD_PER_MILLION_MAX} USD per million tokens, got {pico_usd // 10**6}")
    return pico_usd
