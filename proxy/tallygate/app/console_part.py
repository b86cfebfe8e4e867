"""The console: usage API, admin API, their OpenAPI document, and the metrics that are the same at every console."""

import os
import secrets
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aiohttp import DummyCookieJar

from tallygate.app.access import keep_started_link, known_hosts, metrics_token, platform_token
from tallygate.app.clocks import monotonic_ms, now_ms
from tallygate.app.configuration import process_way_out
from tallygate.app.part import Part
from tallygate.app.product import product_version
from tallygate.app.resources import Resources
from tallygate.config.model import GatewayConfig
from tallygate.config.settings import Settings
from tallygate.console.api_apply import apply_routes
from tallygate.console.api_audit import audit_routes
from tallygate.console.api_credentials import credential_routes
from tallygate.console.api_document import DocumentApi
from tallygate.console.api_objects import object_routes
from tallygate.console.api_organizations import organization_routes
from tallygate.console.api_plans import plan_routes
from tallygate.console.api_routes import Api, ApiRoute
from tallygate.console.api_session import session_routes
from tallygate.console.api_tokens import token_routes
from tallygate.console.directory_access import DirectoryTokens
from tallygate.console.ledger_totals import LedgerTotals
from tallygate.console.limiter_store import LimiterStore
from tallygate.console.openid import OpenIdSignIn
from tallygate.console.sessions import ConsoleSessions
from tallygate.console.spend_windows import LimiterSpendWindows
from tallygate.console.usage_api import UsageSources, export_routes, scopes_over, usage_routes
from tallygate.domain.made_object import MadeObject
from tallygate.domain.organization import Organization
from tallygate.gateway.catalogue_refresh import CatalogueRefresh
from tallygate.ledger.database import Database
from tallygate.ledger.directory.book import DirectoryBook, directory_book
from tallygate.ledger.directory.objects import no_marks
from tallygate.ledger.directory.sign_ins import purge_forever
from tallygate.limiter.address import parse_address
from tallygate.limiter.directory_channel import announce_change
from tallygate.limiter.object_marks import drop_marks
from tallygate.limiter.opening import store_connection
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.outbound.session import open_session


def console_part(resources: Resources, store: LimiterStore) -> Part:
    settings = resources.settings
    book = open_directory(settings, resources.database, lambda: resources.holder.current)
    tokens = admin_tokens(settings, book)
    sessions = ConsoleSessions(
        book.sign_ins,
        tokens,
        hosts=known_hosts(settings),
        url=settings.console_url,
        openid=lambda: resources.holder.current.openid,
    )
    session = open_session(process_way_out(settings, os.environ), cookie_jar=DummyCookieJar())
    openid = OpenIdSignIn(
        sessions,
        session,
        existing=book.sign_ins.existing,
        now_ms=now_ms,
        monotonic_ms=monotonic_ms,
        timeout_ms=settings.oauth_timeout_ms,
        random_bytes=secrets.token_bytes,
    )
    # Each process reads upstreams' price catalogues by itself, as workers do: what they cost is shown, too.
    catalogues = CatalogueRefresh(resources.holder, session, now_ms=monotonic_ms, on_change=lambda: None)
    replica = resources.replica
    return Part(
        store=store,
        totals=LedgerTotals(resources.database),  # counters of a replica would fall back whenever it takes over
        api=build_api(book, usage_sources(resources), tokens, sessions),
        openid=openid,
        opening=(partial(keep_started_link, settings, book.sign_ins),),
        samples=() if replica is None else (replica.samples,),
        beside=(
            partial(purge_forever, book.sign_ins),
            catalogues.refresh_forever,
            *(() if replica is None else (replica.watch_forever,)),
        ),
        closing=(session.close,),
    )


def build_api(book: DirectoryBook, sources: UsageSources, tokens: DirectoryTokens, sessions: ConsoleSessions) -> Api:
    """Build every route of the API, and the document that describes them."""
    routes = (*session_routes(tokens, sessions), *resource_routes(book, sources))
    described = DocumentApi(routes, version=product_version()).routes()
    return Api((*routes, *described), tokens, sessions)


def resource_routes(book: DirectoryBook, sources: UsageSources) -> tuple[ApiRoute, ...]:
    """Every route of the API that is about organizations, their usage and the plans, whoever asks."""
    exports = export_routes(scopes_over(sources), sources.history, now_ms=sources.now_ms, as_of_ms=sources.as_of_ms)
    return (*usage_routes(sources), *exports, *directory_routes(book))


def admin_tokens(settings: Settings, book: DirectoryBook) -> DirectoryTokens:
    """Every token that the console's port accepts."""
    return DirectoryTokens(platform_token(settings), book.tokens, metrics=metrics_token(settings))


def directory_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    return (
        *organization_routes(book),
        *credential_routes(book),
        *plan_routes(book),
        *token_routes(book),
        *object_routes(book),
        *audit_routes(book),
        *apply_routes(book),
    )


def usage_sources(resources: Resources) -> UsageSources:
    """The sources of the usage API: the ledger, the limiter, and the organizations and routes in force."""
    holder, directory, link, scripts = resources.holder, resources.directory, resources.link, load_scripts()

    def organizations() -> Mapping[str, Organization]:
        in_file = {organization.id: organization for organization in holder.current.organizations}
        return ChainMap(in_file, directory.organizations)  # the file's takes precedence

    limiter = RedisLimiter(link, scripts)
    return UsageSources(
        database=resources.database,
        history=resources.database if resources.replica is None else resources.replica,
        as_of_ms=now_ms if resources.replica is None else resources.replica.as_of_ms,
        windows=LimiterSpendWindows(link, scripts, limiter),
        read_limits=limiter.read_limits,
        organizations=organizations,
        routes=lambda: holder.current.routes,
        upstreams=lambda: holder.current.upstreams,
        prices=lambda: holder.current.prices,
        now_ms=now_ms,
    )


def open_directory(settings: Settings, database: Database, config: Callable[[], GatewayConfig]) -> DirectoryBook:
    """Open the directory, which changes organizations, credentials and admin tokens, and announces it to running processes."""
    url = settings.redis_url.get_secret_value()
    return directory_book(
        database,
        config,
        now_ms=now_ms,
        random_bytes=secrets.token_bytes,
        on_committed=partial(announce_change, url) if url else _announce_to_nobody,
        unmark=partial(_unmark, url) if url else no_marks,
    )


async def _unmark(url: str, org: str, objects: Sequence[MadeObject]) -> None:
    """Remove marks, over a connection of its own, since this is rare."""
    store = store_connection(parse_address(url))
    await store.open()
    try:
        await drop_marks(store.command, org, objects)
    finally:
        await store.close()


async def _announce_to_nobody() -> None:
    """Announce nothing: without a store, processes find the change at their next poll."""
