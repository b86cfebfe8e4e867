"""The usage API: every route that reads, over one ledger, one limiter and the organizations in force."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.model import Route, Upstream
from tallygate.console.api_directory import DirectoryApi
from tallygate.console.api_event import EventApi
from tallygate.console.api_events import EventsApi
from tallygate.console.api_export import ROWS_MAX, WRITE_SECONDS, ExportApi
from tallygate.console.api_invoices import InvoicesApi
from tallygate.console.api_limits import LimitsApi, ReadLimits
from tallygate.console.api_notices import NoticesApi
from tallygate.console.api_openai_costs import OpenAiCostsApi
from tallygate.console.api_openai_projects import OpenAiProjectsApi
from tallygate.console.api_openai_usage import OpenAiUsageApi
from tallygate.console.api_prices import PricesApi
from tallygate.console.api_refusals import RefusalsApi
from tallygate.console.api_retired import RetiredApi
from tallygate.console.api_routes import ApiRoute
from tallygate.console.api_scope import Scopes
from tallygate.console.api_spend import SpendApi
from tallygate.console.api_usage import UsageApi
from tallygate.console.api_usage_values import UsageValuesApi
from tallygate.console.export_slots import EXPORTS_AT_ONCE, ExportSlots
from tallygate.console.spend_windows import SpendWindows
from tallygate.console.usage_pages import UsagePages
from tallygate.domain.organization import Organization
from tallygate.ledger.database import Database
from tallygate.ledger.jobs import held_by_jobs
from tallygate.ledger.minute_queries import MinuteQueries
from tallygate.ledger.notices.deliveries import Deliveries
from tallygate.ledger.notices.pages import NoticePages
from tallygate.ledger.readable import Readable
from tallygate.ledger.recorded_prices import RecordedPrices
from tallygate.ledger.refused_requests import RefusedRequests
from tallygate.ledger.series import SeriesLabels
from tallygate.ledger.usage_queries import UsageQueries


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSources:
    """The sources of the answers.

    database        for what must not be a moment old: what pauses now, one event that somebody looks for
    history         for questions about the past, which may be a few seconds old
    as_of_ms        the instant of which answers of `history` have everything, if they are asked for after it
    organizations   those in force, by id; asked on every call
    routes, upstreams, prices   those in force
    now_ms          Unix time
    """

    database: Database
    history: Readable
    as_of_ms: Callable[[], int]
    windows: SpendWindows
    read_limits: ReadLimits
    organizations: Callable[[], Mapping[str, Organization]]
    routes: Callable[[], Iterable[Route]]
    upstreams: Callable[[], Mapping[str, Upstream]]
    prices: Callable[[], PriceCatalogue]
    now_ms: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """Bounds of exports.

    rows_max: of one export. write_seconds: a client that reads nothing for this long is cut off.
    """

    at_once: int = EXPORTS_AT_ONCE
    rows_max: int = ROWS_MAX
    write_seconds: float = WRITE_SECONDS


def scopes_over(sources: UsageSources) -> Scopes:
    """The scopes of calls, for every API over the same organizations."""
    return Scopes(
        organizations=sources.organizations,
        capabilities=lambda: frozenset(route.capability for route in sources.routes()),
        labels=SeriesLabels(sources.history),
        now_ms=sources.now_ms,
    )


def usage_routes(sources: UsageSources) -> tuple[ApiRoute, ...]:
    """Every route of the usage API."""
    scopes, now_ms = scopes_over(sources), sources.now_ms
    as_of_ms, history, current = sources.as_of_ms, UsageQueries(sources.history), UsageQueries(sources.database)
    pages = UsagePages(history)
    minutes = MinuteQueries(sources.history)
    return (
        *OpenAiUsageApi(scopes=scopes, pages=pages, minutes=minutes, routes_in_force=sources.routes, now_ms=now_ms).routes(),
        *OpenAiCostsApi(scopes=scopes, pages=pages, now_ms=now_ms).routes(),
        *OpenAiProjectsApi(scopes=scopes).routes(),
        *UsageApi(scopes=scopes, pages=pages, now_ms=now_ms, as_of_ms=as_of_ms).routes(),
        *UsageValuesApi(scopes=scopes, pages=pages, now_ms=now_ms).routes(),
        *SpendApi(
            scopes=scopes, queries=current, windows=sources.windows, jobs=partial(held_by_jobs, sources.database), now_ms=now_ms
        ).routes(),
        *LimitsApi(scopes=scopes, read_limits=sources.read_limits).routes(),
        *EventsApi(scopes=scopes, history=history, prices=sources.prices, now_ms=now_ms, as_of_ms=as_of_ms).routes(),
        *EventApi(
            scopes=scopes, queries=current, recorded=RecordedPrices(sources.database), prices=sources.prices, now_ms=now_ms
        ).routes(),
        *RefusalsApi(scopes=scopes, log=RefusedRequests(sources.database), now_ms=now_ms).routes(),
        *NoticesApi(
            scopes=scopes, pages=NoticePages(sources.database), deliveries=Deliveries(sources.database), now_ms=now_ms
        ).routes(),
        *PricesApi(
            scopes=scopes, prices=sources.prices, routes=sources.routes, upstreams=sources.upstreams, now_ms=now_ms
        ).routes(),
        *DirectoryApi(scopes=scopes, routes_in_force=sources.routes).routes(),
        *RetiredApi(scopes=scopes, orgs_besides=SeriesLabels(sources.history).orgs_besides).routes(),
    )


def export_routes(
    scopes: Scopes,
    history: Readable,
    *,
    now_ms: Callable[[], int],
    as_of_ms: Callable[[], int],
    settings: ExportSettings | None = None,
) -> tuple[ApiRoute, ...]:
    """Every route of exports and invoices, which share one bound on their number at once. The rest: as in UsageSources."""
    chosen = settings or ExportSettings()
    slots = ExportSlots(chosen.at_once)
    exports = ExportApi(
        scopes=scopes,
        database=history,
        slots=slots,
        now_ms=now_ms,
        as_of_ms=as_of_ms,
        rows_max=chosen.rows_max,
        write_seconds=chosen.write_seconds,
    )
    invoices = InvoicesApi(scopes=scopes, database=history, slots=slots, now_ms=now_ms, as_of_ms=as_of_ms)
    return (*exports.routes(), *invoices.routes())
