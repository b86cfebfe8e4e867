"""GET /api/prices: what models cost here, by unit and condition, and what routes add."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.model import Route, Upstream
from tallygate.config.price_row import days_text, hours_text
from tallygate.config.stated_price import Layer, StatedPrice, stated_prices
from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_parameters import integer, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import Scopes
from tallygate.console.api_spend import Money, money
from tallygate.console.api_usage import CURSOR
from tallygate.domain.instants import instant_text, optional_instant
from tallygate.domain.money import nano_usd_from_pico, rate_text
from tallygate.domain.organization import Plan
from tallygate.domain.price import UNDATED_MS, Price, Rates, Rule, Tier
from tallygate.domain.ratio import ONE
from tallygate.domain.unit_words import per_words, unit_words, units_per_rate

MODELS_DEFAULT: Final = 100
MODELS_MAX: Final = 1_000  # of one page
_MODEL: Final = text(
    "model", "A model: every row that may price it, best first. The start of names followed by *: those models' rows in force."
)
_ORG: Final = text("org", "An organization id: only the routes that its plan includes are in `routes`.")
_LIMIT: Final = integer("limit", "Models of a page.", least=1, most=MODELS_MAX, default=MODELS_DEFAULT)


class RateLine(msgspec.Struct, frozen=True, kw_only=True):
    """A rate.

    unit         as in prices.yaml; name: in words
    quantity     of the unit, which `usd` pays for; per: the same in words
    usd          exact; nano_usd: the same, rounded up
    from_tokens  of prompts from so many tokens on, for the whole request; 0 for all
    """

    unit: str
    name: str
    quantity: int
    per: str
    usd: str
    nano_usd: int
    from_tokens: int


class ConditionLine(msgspec.Struct, frozen=True, kw_only=True):
    """Rates under a condition: all of its members that are not null have to hold.

    times   a factor of the row's rates of tokens, as decimal text; null where `rates` stand in their place
    """

    service_tier: str | None
    speed: str | None
    geography: str | None
    utc_hours: str | None
    utc_days: str | None
    times: str | None
    rates: list[RateLine]


class PriceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One row.

    model            that it is stated for, which may be a plainer name than the one asked for
    layer            the source that states it
    applies          it prices a request that starts now
    version          as in usage events; effective_from: null if nobody dates it; effective_until: null for good
    max_input_tokens, max_output_tokens   null where nothing is stated
    """

    model: str
    layer: Layer
    applies: bool
    version: str
    effective_from: str | None
    effective_until: str | None
    rates: list[RateLine]
    conditions: list[ConditionLine]
    max_input_tokens: int | None
    max_output_tokens: int | None


class PricedModel(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    rows: list[PriceLine]


class RoutePrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a route adds: a flat fee for each request, and a markup on every rate, in percent as decimal text."""

    method: str
    path: str
    capability: str
    upstream: str
    fee: Money
    markup_percent: str


class PricesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Prices.

    reviewed_at   when the list prices were last compared with their sources; null if nobody says
    models        by name
    routes        those that add something
    """

    as_of: str
    reviewed_at: str | None
    models: list[PricedModel]
    routes: list[RoutePrice]
    next_cursor: str | None


class PricesApi:
    """The endpoint. prices, routes, upstreams: those in force. now_ms: Unix time."""

    def __init__(
        self,
        *,
        scopes: Scopes,
        prices: Callable[[], PriceCatalogue],
        routes: Callable[[], Iterable[Route]],
        upstreams: Callable[[], Mapping[str, Upstream]],
        now_ms: Callable[[], int],
    ) -> None:
        self._scopes = scopes
        self._prices = prices
        self._routes = routes
        self._upstreams = upstreams
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/prices",
                handler=self._answer,
                summary="What models cost here",
                parameters=(_MODEL, _ORG, _LIMIT, CURSOR),
                answer=PricesAnswer,
            ),
        )

    async def _answer(self, call: ApiCall) -> PricesAnswer:
        values, now_ms, prices = call.values, self._now_ms(), self._prices()
        org: str | None = values["org"]
        plan = None if org is None else self._scopes.organization(call.access, org).plan
        question = question_of("/api/prices", values)
        after = "" if values["cursor"] is None else unseal("cursor", values["cursor"], question)
        names = [name for name in _names(prices, values["model"]) if name > after][: values["limit"] + 1]
        page = names[: values["limit"]]
        is_one = values["model"] is not None and not values["model"].endswith("*")
        rows = {name: stated_prices(prices, name, now_ms) for name in page}
        return PricesAnswer(
            as_of=instant_text(now_ms),
            reviewed_at=optional_instant(prices.reviewed_ms),
            models=[
                PricedModel(model=name, rows=[_line(row) for row in stated if is_one or row.applies])
                for name, stated in rows.items()
                if stated
            ],
            routes=list(self._route_prices(plan)),
            next_cursor=seal(page[-1], question) if len(names) > len(page) else None,
        )

    def _route_prices(self, plan: Plan | None) -> Iterable[RoutePrice]:
        upstreams = self._upstreams()
        for route in self._routes():
            if plan is not None and plan.capabilities is not None and route.capability not in plan.capabilities:
                continue
            markup = upstreams[route.upstream].markup if route.markup is None else route.markup
            if route.enabled and (route.fee_nano_usd or markup):
                yield RoutePrice(
                    method=route.method,
                    path=route.endpoint,
                    capability=route.capability,
                    upstream=route.upstream,
                    fee=money(route.fee_nano_usd),
                    markup_percent=decimal_text(markup * 100),
                )


def _names(prices: PriceCatalogue, asked: str | None) -> list[str]:
    """The names that are answered for, in order."""
    if asked is not None and not asked.endswith("*"):
        return [asked]
    return sorted(name for name in prices.models() if asked is None or name.startswith(asked[:-1]))


def _line(stated: StatedPrice) -> PriceLine:
    price = stated.price
    return PriceLine(
        model=price.model,
        layer=stated.layer,
        applies=stated.applies,
        version=price.version,
        effective_from=None if price.effective_ms == UNDATED_MS else instant_text(price.effective_ms),
        effective_until=optional_instant(stated.until_ms),
        rates=_all_rates(price),
        conditions=[_condition(rule) for rule in price.rules],
        max_input_tokens=price.max_input_tokens,
        max_output_tokens=price.max_output_tokens,
    )


def _all_rates(row: Price | Rule) -> list[RateLine]:
    """The rates of a row or rule, and those of longer prompts."""
    return [line for tier in (Tier(0, row.rates), *row.tiers) for line in _rates(tier.rates, tier.from_tokens)]


def _rates(rates: Rates, from_tokens: int) -> list[RateLine]:
    return [
        RateLine(
            unit=unit,
            name=unit_words(unit),
            quantity=units_per_rate(unit),
            per=per_words(unit),
            usd=rate_text(pico_usd, units_per_rate(unit)),
            nano_usd=nano_usd_from_pico(pico_usd * units_per_rate(unit)),
            from_tokens=from_tokens,
        )
        for unit, pico_usd in rates.items()
    ]


def _condition(rule: Rule) -> ConditionLine:
    return ConditionLine(
        service_tier=rule.service_tier,
        speed=rule.speed,
        geography=rule.geography,
        utc_hours=None if rule.utc_minutes is None else hours_text(rule.utc_minutes),
        utc_days=None if rule.utc_days is None else days_text(rule.utc_days),
        times=None if rule.rates else decimal_text(rule.factor),
        rates=_all_rates(rule),
    )


def decimal_text(millionths: int) -> str:
    """Millionths as decimal text, without trailing zeros."""
    whole, fraction = divmod(millionths, ONE)
    return f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")
