"""GET /api/events: the ledger's entries one by one, page after page."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, get_type_hints

import msgspec

from tallygate.config.catalogue import PriceCatalogue
from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_errors import invalid_parameter
from tallygate.console.api_history import Dated, dated
from tallygate.console.api_parameters import choice, integer, texts
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import Scopes, filters
from tallygate.console.api_times import (
    RANGE_DAYS_MAX,
    TIME_MIN_MS,
    at_ms,
    check_range,
    instant,
    read_position,
    time_zone,
)
from tallygate.console.api_usage import CURSOR, FILTERS, TO, zone_of
from tallygate.domain.calendar_months import day_start_ms, local_date
from tallygate.domain.instants import instant_text
from tallygate.domain.money import rate_text, usd_text
from tallygate.domain.unit_words import units_per_rate
from tallygate.ledger.cost_breakdown import ChargedPrices, rates_of_entry
from tallygate.ledger.entry import Entry, Kind
from tallygate.ledger.history import EntriesPage, EntriesQuery, UsageHistory

EVENTS_DEFAULT: Final = 100
EVENTS_MAX: Final = 1_000  # of one page
EVENT_ORGS_MAX: Final = 200  # of one query: each is read by itself
DAYS_DEFAULT: Final = 7
_FROM: Final = instant(
    "from", f"Beginning of the range, inclusive. Default: {DAYS_DEFAULT} days before `to`; the whole history, where ids are given."
)
_EVENT_ID: Final = texts("event_id", "Ids of events.")
_REQUEST_ID: Final = texts("request_id", "The `x-request-id` of answers, which is the id of their event.")
CLIENT_REQUEST_ID: Final = texts("client_request_id", "The `x-request-id` that clients sent.")
_ORDER: Final = choice("order", "newest or oldest first, by the time of settlement.", ["desc", "asc"], default="desc")
_LIMIT: Final = integer("limit", "Events of a page.", least=1, most=EVENTS_MAX, default=EVENTS_DEFAULT)


_LEFT_OUT: Final = {"posted_at_ms", "posted_nano_usd", "entered_at_ms", "started_at_ms"}
_MADE: Final = {  # beside, or in place of, what an entry has
    "kind": Kind,
    "settled_at": str,
    "started_at": str,
    "model": str,
    "total_tokens": int,
    "cost_usd": str,
    "rates": dict[str, str] | None,
    "flags": list[str],
}
_SAME: Final = {name: hint for name, hint in get_type_hints(Entry).items() if name not in _LEFT_OUT and name not in _MADE}
EventLine: Any = msgspec.defstruct(
    "EventLine",
    [*_SAME.items(), *_MADE.items()],
    frozen=True,
    kw_only=True,
    namespace={
        "__doc__": "One entry. Amounts of entries of one event add up: `reversed`, `repriced` and `corrected` are differences. "
        "rates: of `price_version`, for what was used, in USD of as much as prices.yaml states them of; null where nobody has it."
    },
)


class EventsAnswer(Dated, frozen=True, kw_only=True):
    events: list[EventLine]
    next_cursor: str | None


class EventsApi:
    """The endpoint. prices: those in force. now_ms: Unix time. as_of_ms: of which what is read from then on has everything."""

    def __init__(
        self,
        *,
        scopes: Scopes,
        history: UsageHistory,
        prices: Callable[[], PriceCatalogue],
        now_ms: Callable[[], int],
        as_of_ms: Callable[[], int],
    ) -> None:
        self._scopes = scopes
        self._history = history
        self._prices = prices
        self._now_ms = now_ms
        self._as_of_ms = as_of_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/events",
                handler=self._events,
                summary="Usage events, one by one",
                parameters=(_FROM, TO, time_zone(), *FILTERS, _EVENT_ID, _REQUEST_ID, CLIENT_REQUEST_ID, _ORDER, _LIMIT, CURSOR),
                answer=EventsAnswer,
            ),
        )

    async def _events(self, call: ApiCall) -> EventsAnswer:
        values, as_of_ms = call.values, self._as_of_ms()
        organizations = await self._scopes.of_history(call.access, values["org"], orgs_max=EVENT_ORGS_MAX)
        await self._scopes.check_credentials(organizations, values["credential"])
        await self._scopes.check_capabilities(organizations, values["capability"])
        zone = zone_of(values, organizations)
        question = question_of("/api/events", values)
        event_ids, client_ids = _event_ids(values), values["client_request_id"]
        if values["cursor"] is None:
            end = at_ms("to", values["to"], zone, default=self._now_ms() + 1)
            days = DAYS_DEFAULT if event_ids is None and not client_ids else RANGE_DAYS_MAX - 1
            first_day = local_date(end, zone) - timedelta(days=days)
            earliest = max(day_start_ms(first_day, zone), TIME_MIN_MS)
            start, cursor = at_ms("from", values["from"], zone, default=earliest), ""
            check_range(start, end, zone)
        else:
            start, end, cursor = _position(unseal("cursor", values["cursor"], question))
        query = EntriesQuery(
            scopes=self._scopes.history(organizations),
            from_ms=start,
            to_ms=end,
            filters=filters(values, FILTERS),
            event_ids=event_ids,
            client_request_ids=frozenset(client_ids) if client_ids else None,
            cursor=cursor,
            limit=values["limit"],
            newest_first=values["order"] == "desc",
        )
        page, prices = await self._page(query), ChargedPrices(self._prices())
        return EventsAnswer(
            **dated(organizations, query.scopes, start, as_of_ms=as_of_ms, zone=zone),
            events=[event_line(entry, zone, prices) for entry in page.entries],
            next_cursor=seal(f"{start} {end} {page.cursor}", question) if page.cursor else None,
        )

    async def _page(self, query: EntriesQuery) -> EntriesPage:
        try:
            return await self._history.entries_page(query)
        except (ValueError, OverflowError) as error:  # numbers in a cursor that exceed the database's
            raise invalid_parameter("cursor", "is not a cursor that an earlier page gave") from error


def _event_ids(values: Mapping[str, Any]) -> frozenset[str] | None:
    """The events that are named; both ways where two are given."""
    named = [frozenset(values[parameter.name]) for parameter in (_EVENT_ID, _REQUEST_ID) if values[parameter.name]]
    return frozenset.intersection(*named) if named else None


def _position(position: str) -> tuple[int, int, str]:
    """The range and the ledger's own cursor. Raises ApiError."""
    start, _, rest = position.partition(" ")
    end, _, cursor = rest.partition(" ")
    _, start_ms, end_ms = read_position("cursor", f"{start} {start} {end}", grain_ms=1)
    return start_ms, end_ms, cursor


def event_line(entry: Entry, zone: str, prices: ChargedPrices) -> Any:
    """An entry as it is shown, with the rates of its price as far as `prices` has it."""
    rates = rates_of_entry(prices.of(entry), entry)
    return EventLine(
        **{name: getattr(entry, name) for name in _SAME},
        kind=entry.kind,
        settled_at=instant_text(entry.settled_at_ms, zone),
        started_at=instant_text(entry.started_at_ms, zone),
        model=entry.model,
        total_tokens=entry.prompt_tokens + entry.completion_tokens,
        cost_usd=usd_text(entry.cost_nano_usd),
        rates=None if rates is None else {unit: rate_text(rate, units_per_rate(unit)) for unit, rate in rates.items()},
        flags=[flag for flag in entry.flags.split(",") if flag],
    )
