"""The whole API served over a real ledger and directory, with a clock and a limiter that tests move."""

import itertools
import secrets
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import msgspec
from aiohttp import ClientSession, DummyCookieJar
from api_values import ACME, GLOBEX, INITECH, NOW_MS, ROUTES, TOKENS
from gateway_harness import TIMEOUTS
from prices import price_of

from tallygate.app.console_part import directory_routes
from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.load import load_config
from tallygate.config.model import GatewayConfig
from tallygate.config.shipped import shipped_directory
from tallygate.config.sign_in import OpenIdProvider
from tallygate.console.api_access import AdminAccess
from tallygate.console.api_document import DocumentApi
from tallygate.console.api_routes import Api, ApiRoute
from tallygate.console.api_session import session_routes
from tallygate.console.known_hosts import KnownHosts
from tallygate.console.openid import OpenIdSignIn
from tallygate.console.page_files import PageFiles
from tallygate.console.server import ConsoleServer
from tallygate.console.sessions import ConsoleSessions
from tallygate.console.spend_windows import WindowOutlook
from tallygate.console.usage_api import UsageSources, export_routes, scopes_over, usage_routes
from tallygate.console.wrong_tokens import WrongTokens
from tallygate.dialects.registry import dialects
from tallygate.domain.admission import LimitStates
from tallygate.domain.organization import Organization
from tallygate.domain.refused_request import RefusedRequest
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.directory.book import directory_book
from tallygate.ledger.entry import Entry
from tallygate.ledger.notices.notice import Notice
from tallygate.ledger.read_replica import ReadReplica
from tallygate.ledger.refused_requests import RefusedRequests
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.telemetry.refusal_file import Waiting


@cache
def shipped_config() -> GatewayConfig:
    return load_config(
        None,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="https://up.example",
    )


async def _announce_to_nobody() -> None:
    """No process has a copy."""


async def _wait_for_nothing(_seconds: float) -> None:
    """Wrong tokens are answered at once: how long they wait is asserted where that is tested."""


_numbers = itertools.count(1)  # no two worlds make the same key
_documents: list[DocumentApi] = []  # of the routes' shapes, which every world has: made once, which takes longer than most tests


class StaticTokens:
    """Admin tokens as a dict, which tests change."""

    def __init__(self) -> None:
        self.known: dict[str, AdminAccess] = {
            token: replace(access, name=access.actor, source=token) for token, access in TOKENS.items()
        }

    async def find(self, token: str) -> AdminAccess | None:
        return self.known.get(token)

    async def of_source(self, source: str) -> AdminAccess | None:
        return self.known.get(source)


class StaticWindows:
    """The limiter's windows as a test says they are: key to (spent, held, paused until, leaving)."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], tuple[int, int, int, Mapping[int, int]]] = {}
        self.error: Exception | None = None

    async def fetch(self, org: str, demands: Any) -> tuple[WindowOutlook, ...]:
        if self.error is not None:
            raise self.error
        return tuple(self._outlook(org, demand) for demand in demands)

    def _outlook(self, org: str, demand: Any) -> WindowOutlook:
        spent, held, paused, leaving = self.states.get((org, demand.key), (0, 0, 0, {}))
        return WindowOutlook(
            demand=demand, now_ms=NOW_MS, spent_nano_usd=spent, held_nano_usd=held, paused_until_ms=paused, leaving=leaving
        )


class World:
    """`get` answers (status, JSON). organizations: change them; now_ms: move it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.book = Book(database)
        self.now_ms = NOW_MS
        self.organizations: dict[str, Organization] = {org.id: org for org in (ACME, GLOBEX, INITECH)}
        self.tokens = StaticTokens()
        self.prices = PriceCatalogue((price_of("gpt-4o", input=2_500_000, output=10_000_000),))
        self.routes_in_force = ROUTES
        self.windows = StaticWindows()
        self.limiter = ReferenceLimiter(lambda: self.now_ms)
        self.routes: tuple[ApiRoute, ...] = ()
        self.wrong_tokens = WrongTokens(now_ms=lambda: self.now_ms, sleep=_wait_for_nothing)
        self.openid: OpenIdProvider | None = None
        self.session: ClientSession | None = None
        self.url = ""
        self.directory = directory_book(
            database,
            shipped_config,
            now_ms=lambda: self.now_ms,
            random_bytes=lambda size: next(_numbers).to_bytes(size),
            on_committed=_announce_to_nobody,
        )

    async def read_limits(self, *asked: Any) -> LimitStates:
        if self.windows.error is not None:
            raise self.windows.error
        return await self.limiter.read_limits(*asked)

    async def keep(self, *orgs: str) -> None:
        """Organizations of these ids in the database, each with a credential <id>-prod."""
        for org in orgs:
            await self.directory.organizations.create("test", {"id": org, "plan": "enterprise"})
            await self.directory.credentials.create("test", org, {"id": f"{org}-prod"})

    async def record(self, entries: Iterable[Entry]) -> None:
        await self.book.record(list(entries))

    async def notify(self, notices: Iterable[Notice], *endpoints: str) -> None:
        """endpoints: names of those that are to have them."""
        await Book(self.database, endpoints_of=lambda _notice: endpoints).record([], notices=list(notices), now_ms=self.now_ms)

    async def refuse(self, count: RefusalCount, at_ms: int) -> None:
        await self.book.add_refusals(f"test-{at_ms}", [count], at_ms=at_ms)

    async def note_refused(self, lines: Iterable[RefusedRequest]) -> None:
        """Lines of the log of refused requests, as a worker's file has them."""
        numbered = [(number, msgspec.json.encode(line)) for number, line in enumerate(lines)]
        source = f"test-{next(_numbers)}"
        await RefusedRequests(self.database).add(Waiting(Path(source), source, len(numbered), numbered))

    async def call(self, method: str, path: str, body: object = None, *, token: str = "platform") -> tuple[int, Any]:  # noqa: S107
        assert self.session is not None
        async with self.session.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"}) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())

    async def get(self, path: str, *, token: str | None = "platform", **query: Any) -> tuple[int, Any]:  # noqa: S107
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        params = [(name.rstrip("_"), str(item)) for name, value in query.items() for item in _items(value)]
        assert self.session is not None
        async with self.session.get(path, params=params, headers=headers) as answer:
            return answer.status, await answer.json()

    async def ok(self, path: str, **query: Any) -> Any:
        status, body = await self.get(path, **query)
        assert status == 200, body
        return body


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)


@asynccontextmanager
async def served(
    database: Database, *, url: str = "", metrics_sha256: bytes | None = None, replica: ReadReplica | None = None
) -> AsyncIterator[World]:
    """url: the console's public address. metrics_sha256: of the token that /metrics asks for. replica: with that one."""
    world, outgoing = World(database), ClientSession(cookie_jar=DummyCookieJar())
    sessions = ConsoleSessions(
        world.directory.sign_ins, world.tokens, hosts=KnownHosts(["usage.example"]), url=url, openid=lambda: world.openid
    )
    openid = OpenIdSignIn(
        sessions,
        outgoing,
        existing=world.directory.sign_ins.existing,
        now_ms=lambda: world.now_ms,
        monotonic_ms=lambda: world.now_ms,
        timeout_ms=5_000,
        random_bytes=secrets.token_bytes,
    )
    sources = UsageSources(
        database=database,
        history=database if replica is None else replica,
        as_of_ms=(lambda: world.now_ms) if replica is None else replica.as_of_ms,
        windows=world.windows,
        read_limits=world.read_limits,
        organizations=lambda: world.organizations,
        routes=lambda: world.routes_in_force,
        upstreams=lambda: shipped_config().upstreams,
        prices=lambda: world.prices,
        now_ms=lambda: world.now_ms,
    )
    exports = export_routes(scopes_over(sources), sources.history, now_ms=sources.now_ms, as_of_ms=sources.as_of_ms)
    routes = (
        *session_routes(world.tokens, sessions),
        *usage_routes(sources),
        *exports,
        *directory_routes(world.directory),
    )
    if not _documents:
        _documents.append(DocumentApi(routes, version="1"))
    world.routes = (*routes, *_documents[0].routes())
    server = ConsoleServer(
        timeouts=TIMEOUTS,
        scrape=cast("Any", None),
        readiness=cast("Any", None),
        token_sha256=metrics_sha256,
        api=Api(world.routes, world.tokens, sessions),
        tokens=world.tokens,
        page=PageFiles.of_package(),
        openid=openid,
        hosts=KnownHosts(["usage.example"]),
        wrong_tokens=world.wrong_tokens,
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        world.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        await server.start(listening)
        async with ClientSession(world.url) as session:
            world.session = session
            yield world
        await server.close()
    await outgoing.close()
