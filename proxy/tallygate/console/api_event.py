"""GET /api/events/{id}: one event, and how its cost came about."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.config.catalogue import PriceCatalogue
from tallygate.console.api_access import AdminAccess
from tallygate.console.api_errors import ApiError, unknown_id
from tallygate.console.api_events import EventLine, event_line
from tallygate.console.api_parameters import Place, text
from tallygate.console.api_prices import decimal_text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import Scopes
from tallygate.console.api_spend import Money, money
from tallygate.console.api_times import time_zone
from tallygate.domain.cost_lines import CostLine
from tallygate.domain.instants import instant_text
from tallygate.domain.money import rate_text
from tallygate.domain.organization import Organization
from tallygate.domain.price import UNDATED_MS
from tallygate.domain.unit_words import per_words, unit_words, units_per_rate
from tallygate.ledger.cost_breakdown import Basis, Breakdown, ChargedPrices, breakdown_of
from tallygate.ledger.entry import Entry, last_word, sums_of
from tallygate.ledger.recorded_prices import RecordedPrices
from tallygate.ledger.retention import visible_from_ms
from tallygate.ledger.usage_queries import UsageQueries

_ID: Final = text("id", "The event's id, which is the `x-request-id` of its answer.", place=Place.PATH, is_required=True)


class CostPart(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity and its rate.

    model        another one that took part in the exchange; null: the one that answered
    unit         as in prices.yaml; name: in words
    per          of what the rates are, in words: "million tokens"
    list_usd     the rate of the price row, for a prompt of this size; rate_usd: with conditions and markup
    cost_usd     quantity times rate, exact
    """

    model: str | None
    unit: str
    name: str
    quantity: int
    per: str
    list_usd: str
    rate_usd: str
    cost_usd: str


class CostAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a cost, in exact decimal text: the parts, rounding, stated, fee and unexplained make exactly `total`.

    basis               by what it was charged: price; stated (what the provider says that it costs); fee (nothing beside its
                        route's); released (nothing); unknown (a price whose rates are not known any more)
    price_version       as recorded, null where there was none; model, source, effective_from: of its row, null where that is
                        not known. source `recorded`: no file has it any more, and the ledger remembers it
    service_tier, speed, geography   the conditions that it was charged under; "" is what a request gets that asks for nothing
    markup_percent      on every rate
    rounding_usd        up, once, to the next nano-USD
    note                a sentence about what is not explained; "" where everything is
    """

    basis: Basis
    price_version: str | None
    model: str | None
    source: str | None
    effective_from: str | None
    service_tier: str
    speed: str
    geography: str
    markup_percent: str
    parts: list[CostPart]
    rounding_usd: str
    stated: Money
    fee: Money
    unexplained: Money
    total: Money
    note: str


class EventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """event: what it came to, with all corrections; entries: each by itself, in their order."""

    event: EventLine
    entries: list[EventLine]
    cost: CostAnswer


class EventApi:
    """The endpoint. prices: those in force. now_ms: Unix time."""

    def __init__(
        self,
        *,
        scopes: Scopes,
        queries: UsageQueries,
        recorded: RecordedPrices,
        prices: Callable[[], PriceCatalogue],
        now_ms: Callable[[], int],
    ) -> None:
        self._scopes = scopes
        self._queries = queries
        self._recorded = recorded
        self._prices = prices
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/events/{id}",
                handler=self._event,
                summary="One event, and how its cost came about",
                parameters=(_ID, time_zone()),
                answer=EventAnswer,
            ),
        )

    async def _event(self, call: ApiCall) -> EventAnswer:
        entries = await self._queries.event(call.values["id"])
        organization = await self._organization(call.access, entries)
        zone = call.values["time_zone"] or organization.time_zone
        prices = ChargedPrices(self._prices())
        found = breakdown_of(prices, entries)
        if found.basis is Basis.UNKNOWN and found.charged is None:
            prices = ChargedPrices(prices.prices, await self._recorded.find(found.price_version or ""))
            found = breakdown_of(prices, entries)
        whole = replace(last_word(entries), **sums_of(entries), price_version=entries[-1].price_version)
        return EventAnswer(
            event=event_line(whole, zone, prices),
            entries=[event_line(entry, zone, prices) for entry in entries],
            cost=_cost(found),
        )

    async def _organization(self, access: AdminAccess, entries: list[Entry]) -> Organization:
        """Whose event it is. Raises ApiError for none, and for one outside the token's scope or its organization's history."""
        if not entries:
            raise unknown_id(_ID.name, "event")
        try:
            [organization] = await self._scopes.of_history(access, [entries[0].org])
        except ApiError:
            raise unknown_id(_ID.name, "event") from None
        if entries[0].settled_at_ms < visible_from_ms(organization, self._now_ms()):
            raise unknown_id(_ID.name, "event")
        return organization


def _cost(found: Breakdown) -> CostAnswer:
    charged, conditions = found.charged, found.conditions
    row = None if charged is None else charged.price
    is_stated = found.basis is Basis.STATED
    return CostAnswer(
        basis=found.basis,
        price_version=found.price_version,
        model=None if row is None else row.model,
        source=None if charged is None else charged.source,
        effective_from=None if row is None or row.effective_ms == UNDATED_MS else instant_text(row.effective_ms),
        service_tier=conditions.service_tier,
        speed=conditions.speed,
        geography=conditions.geography,
        markup_percent=decimal_text(found.markup * 100),
        parts=[_part(line) for line in found.lines],
        rounding_usd=rate_text(found.rounding_pico_usd, 1),
        stated=money(found.priced_nano_usd if is_stated else 0),
        fee=money(found.fee_nano_usd),
        unexplained=money(found.unexplained_nano_usd),
        total=money(found.cost_nano_usd),
        note=found.note,
    )


def _part(line: CostLine) -> CostPart:
    per = units_per_rate(line.unit)
    return CostPart(
        model=line.model,
        unit=line.unit,
        name=unit_words(line.unit),
        quantity=line.quantity,
        per=per_words(line.unit),
        list_usd=rate_text(line.listed_pico_usd, per),
        rate_usd=rate_text(line.rate_pico_usd, per),
        cost_usd=rate_text(line.pico_usd, 1),
    )
