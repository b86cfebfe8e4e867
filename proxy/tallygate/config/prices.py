"""prices.yaml: what models cost, their other names, and the models within reach of a provider's own routing."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tallygate.config.call_rates import read_call_rates
from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.declared import read_declared
from tallygate.config.kinds import Words, declare
from tallygate.config.price_row import CONTEXT_TOKENS_MAX, PRICES_MAX, is_model_name, read_price
from tallygate.config.routing import Families, Routing
from tallygate.config.section import Section, show
from tallygate.config.surcharges import read_surcharges
from tallygate.domain.declared import Flag, Instant, WholeNumber
from tallygate.domain.price import Price

_REACHED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/@+-]{0,127}\*?", re.ASCII)  # names of families have spaces


def read_prices(document: Section, *, listed: PriceCatalogue | None = None) -> PriceCatalogue:
    """Read a file of prices.

    listed   list prices, before which an operator's rows, aliases and families come, unless the file says `with_listed: false`;
             None: the file is itself a list
    """
    values = read_declared(document, DOCUMENT_FIELDS)
    is_alone, reviewed_ms = not values["with_listed"], values["reviewed"]
    document.require("prices")
    prices: list[Price] = []
    first_lines: dict[tuple[str, int], int] = {}
    for item in document.sections("prices", items_max=PRICES_MAX):
        for price in read_price(item):
            key = (price.model, price.effective_ms)
            if key in first_lines:
                item.place.problem(f"prices {price.model!r} from the same instant as line {first_lines[key]}")
            else:
                first_lines[key] = item.place.line
                prices.append(price)
    models = {price.model for price in prices}
    below = PriceCatalogue(()) if listed is not None and is_alone else listed
    aliases = _read_aliases(document, models, below)
    calls = read_call_rates(document)
    surcharges = read_surcharges(document)
    routing = _read_routing(document, listed, is_alone=is_alone)
    document.close()
    return PriceCatalogue(
        prices, aliases, routing=routing, calls=calls, surcharges=surcharges, reviewed_ms=reviewed_ms, listed=below
    )


def _read_aliases(document: Section, models: set[str], listed: PriceCatalogue | None) -> Mapping[str, str]:
    section = document.section("aliases")
    if section is None:
        return {}
    found = {}
    for name in list(section.keys()):
        target = section.text(name)
        if name in models:
            section.place_of(name).problem("has a price of its own, which wins: remove the alias")
        elif not is_model_name(name):
            section.place_of(name).problem("is not a model name")
        elif target and target not in models and (listed is None or listed.rows_of(target) is None):
            section.place_of(name).problem(f"names the model {show(target)}, which has no price")
        elif target:
            found[name] = target
    return found


def _read_routing(document: Section, listed: PriceCatalogue | None, *, is_alone: bool) -> Routing:
    families = _read_families(document)
    if listed is None:
        routing = Routing(families=families)
    elif "families" in document:
        routing = Routing(families=families, are_families_own=families != listed.routing.families)
    else:
        routing = Routing(families={} if is_alone else listed.routing.families)
    section = document.section("auto_routing")
    if section is None:
        return routing
    reached = read_declared(section, ROUTING_FIELDS)
    section.close()
    return replace(routing, reaches=reached["reaches"], max_output_tokens=reached["max_output_tokens"])


def _read_families(document: Section) -> Families:
    """Parse model names, or prefixes ending in `*`, by family."""
    section = document.section("families")
    if section is None:
        return {}
    found = {}
    for name in list(section.keys()):
        patterns = section.scalars(name) or []
        for place, text in patterns:
            if not is_model_name(text.removesuffix("*")):
                place.problem(f"must be a model name, or the start of one followed by *, got {show(text)}")
        found[name.lower()] = tuple(text for _, text in patterns)
    return found


def _reached(text: str) -> str:
    if _REACHED.fullmatch(text) is None:
        raise ValueError(f"must be a family, a model name, or the start of one followed by *, got {show(text)}")
    return text


DOCUMENT_FIELDS: Final = (
    declare("with_listed", Flag("Add these rows to the list prices that come with tallygate; false: replace them."), default=True),
    declare("reviewed", Instant("When the rows were last compared with their sources."), None),
)
ROUTING_FIELDS: Final = (
    declare(
        "reaches",
        Words(
            "Families, models, or beginnings of names followed by *, that a provider's own routing may choose.",
            parse=_reached,
            pattern=f"^{_REACHED.pattern}$",
        ),
        (),
    ),
    declare("max_output_tokens", WholeNumber("The most that it lets a model generate unless asked.", 1, CONTEXT_TOKENS_MAX), None),
)
