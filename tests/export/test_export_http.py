"""Exports and invoices over HTTP: who may have them, and how a file that is not whole is told from one that is."""

import asyncio
import csv
import io
import itertools
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from export_values import START_MS, a_correction, an_entry

from tallygate.console import api_export
from tallygate.console.api_access import Access, AdminAccess
from tallygate.console.api_routes import Api
from tallygate.console.api_scope import Scopes
from tallygate.console.usage_api import ExportSettings, export_routes
from tallygate.domain.billing import PeriodKind
from tallygate.domain.organization import Organization, Plan
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.series import SeriesLabels

ENTERPRISE = Plan(id="enterprise", export=True)
PAY = Plan(id="pay_as_you_go", history_days=90)
CARD = Plan(id="card", history_days=90, billing=PeriodKind.WEEK)
PRO = Plan(id="pro", history_days=90, billing=PeriodKind.MONTH)
ORGANIZATIONS = {
    "acme": Organization(id="acme", name="Acme", plan=ENTERPRISE, time_zone="America/New_York"),
    "globex": Organization(id="globex", name="Globex", plan=ENTERPRISE),
    "initech": Organization(id="initech", name="Initech", plan=PAY),
    "hooli": Organization(id="hooli", name="Hooli", plan=CARD, time_zone="America/New_York"),
    "pied": Organization(id="pied", name="Pied Piper", plan=PRO, time_zone="America/New_York", billing_day=15),
    "short": Organization(id="short", name="Short", plan=replace(ENTERPRISE, id="month", history_days=30)),
}
EVERYTHING = "all"
TOKENS = {
    EVERYTHING: AdminAccess(actor="all", access=Access.READ),
    "acme": AdminAccess(actor="acme", access=Access.READ, orgs=frozenset({"acme"})),
    "initech": AdminAccess(actor="initech", access=Access.READ, orgs=frozenset({"initech"})),
}
NOW_MS = START_MS + 40 * 86_400_000  # 2026-12-11


class Tokens:
    async def find(self, token: str) -> AdminAccess | None:
        return TOKENS.get(token)


@dataclass
class World:
    session: aiohttp.ClientSession
    url: str
    database: "CountedDatabase"
    settings: dict = field(default_factory=dict)

    def get(self, path, *, token=EVERYTHING, **query):
        query = {name.rstrip("_"): value for name, value in query.items()}
        return self.session.get(self.url + path, params=query, headers={"Authorization": f"Bearer {token}"})

    async def export(self, *, token=EVERYTHING, **query):
        async with self.get("/api/export", token=token, **({"format": "csv", "from_": "2026-10-01"} | query)) as answer:
            return answer, list(csv.DictReader(io.StringIO((await answer.read()).decode(), newline="")))

    async def refused(self, path="/api/export", *, token=EVERYTHING, **query):
        async with self.get(path, token=token, **query) as answer:
            error = (await answer.json())["error"]
            return answer.status, error["code"], error["message"]


class CountedDatabase:
    """The ledger, which counts reads and fails from one of them on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.reads = 0
        self.fails_at = sys.maxsize
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def read(self):
        self.reads += 1
        await self.gate.wait()
        if self.reads >= self.fails_at:
            raise LedgerUnavailableError("away")
        async with self._database.read() as connection:
            yield connection

    async def ask(self, work):
        async with self.read() as connection:
            return await connection.run_sync(work)


@pytest.fixture
async def serve(sqlite):
    """Starts the console's routes with settings of the test's own."""
    servers, sessions = [], []

    async def start(**settings) -> World:
        database = CountedDatabase(sqlite)
        scopes = Scopes(
            organizations=lambda: ORGANIZATIONS,
            capabilities=lambda: frozenset({"chat"}),
            labels=SeriesLabels(sqlite),
            now_ms=lambda: NOW_MS,
        )
        now_ms = itertools.repeat(NOW_MS).__next__
        routes = export_routes(scopes, database, now_ms=now_ms, as_of_ms=now_ms, settings=ExportSettings(**settings))
        app = web.Application()
        Api(routes, Tokens()).add_to(app)
        servers.append(TestServer(app))
        await servers[-1].start_server()
        sessions.append(aiohttp.ClientSession())
        return World(session=sessions[-1], url=str(servers[-1].make_url("")).rstrip("/"), database=database)

    yield start
    for session in sessions:
        await session.close()
    for server in servers:
        await server.close()


@pytest.fixture
async def world(serve):
    return await serve()


async def fill(sqlite, count=3, **changed):
    await Book(sqlite).record([an_entry(number, **changed) for number in range(count)])


async def test_an_export_is_a_file_of_the_range(world, sqlite):
    await fill(sqlite)
    answer, rows = await world.export(org="acme")

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="acme_2026-10-01_2026-12-11.csv"'
    assert answer.headers["tallygate-export-as-of"] == datetime.fromtimestamp(NOW_MS / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert [row["event_id"] for row in rows] == [an_entry(number).event_id for number in range(3)]


@pytest.mark.parametrize(("format_", "start"), [("csv", b"event_id,"), ("jsonl", b'{"event_id":'), ("parquet", b"PAR1")])
async def test_every_format_is_streamed(world, sqlite, format_, start):
    await fill(sqlite)
    async with world.get("/api/export", format=format_, from_="2026-10-01", org="acme") as answer:
        data = await answer.read()

    assert data.startswith(start)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Content-Disposition"].endswith(f'.{format_}"')


async def test_dates_are_days_of_the_organizations_zone(world, sqlite):
    midnight = 1_793_505_600_000  # 2026-11-01T00:00 in New York, which is 04:00 UTC
    await Book(sqlite).record([an_entry(1, settled_at_ms=midnight - 1), an_entry(2, settled_at_ms=midnight)])
    _, rows = await world.export(org="acme", from_="2026-11-01", to="2026-11-02")

    assert [row["event_id"] for row in rows] == [an_entry(2).event_id]


async def test_a_plan_without_export_gets_a_clear_403(world):
    told = await world.refused(format="csv", from_="2026-11-01", org="initech")

    assert told == (403, "plan_without_export", "organization initech is on the plan pay_as_you_go, which does not include export")
    assert (await world.refused(token="initech", format="csv", from_="2026-11-01"))[:2] == (403, "plan_without_export")
    assert (await world.refused("/api/invoices/initech/2026-11"))[:2] == (403, "plan_without_export")


async def test_without_a_name_all_whose_plan_allows_it_are_exported(world, sqlite):
    for number, org in enumerate(("acme", "globex", "initech")):
        await Book(sqlite).record([an_entry(number, org=org)])

    assert [row["org"] for row in (await world.export())[1]] == ["acme", "globex"]
    assert [row["org"] for row in (await world.export(token="acme"))[1]] == ["acme"]


async def test_what_lies_outside_a_tokens_scope_is_not_there(world):
    assert (await world.refused(token="acme", format="csv", from_="2026-11-01", org="globex"))[:2] == (404, "unknown_organization")
    assert (await world.refused("/api/invoices/globex/2026-11", token="acme"))[:2] == (404, "unknown_organization")
    assert (await world.refused(token="nobody", format="csv", from_="2026-11-01"))[0] == 401


async def test_what_is_older_than_the_plans_history_is_left_out(world, sqlite):
    for number, org in enumerate(("short", "acme")):
        await Book(sqlite).record([an_entry(number, org=org)])

    assert [row["org"] for row in (await world.export())[1]] == ["acme"]
    assert (await world.refused("/api/invoices/short/2026-11"))[:2] == (403, "beyond_history")


async def test_filters_and_as_of_narrow_an_export(world, sqlite):
    first, second = an_entry(1), an_entry(2, status=429)
    book = Book(sqlite)
    await book.record([first, second])
    async with sqlite.write() as connection:
        book.committed(await book.correct(connection, [a_correction(first, -5)]))

    assert [row["kind"] for row in (await world.export(org="acme", status="200"))[1]] == ["settled", "repriced"]
    for none in ("0", "70", "999"):
        answer, rows = await world.export(org="acme", status=none)
        assert (answer.status, rows) == (200, []), none
    as_of = datetime.fromtimestamp(START_MS / 1000 + 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [row["kind"] for row in (await world.export(org="acme", as_of=as_of))[1]] == ["settled", "settled"]
    assert (await world.refused(format="csv", from_="2026-11-01", credential="unheard-of"))[:2] == (404, "unknown_credential")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"format": "xls", "from_": "2026-11-01"}, "format"),
        ({"from_": "2026-11-01"}, "format"),
        ({"format": "csv"}, "from"),
        ({"format": "csv", "from_": "yesterday"}, "from"),
        ({"format": "csv", "from_": "2026-11-02", "to": "2026-11-01"}, "to"),
        ({"format": "csv", "from_": "2024-11-02", "to": "2026-11-01"}, "to"),
        ({"format": "csv", "from_": "2026-11-01", "limit": "1"}, "limit"),
    ],
)
async def test_what_is_asked_wrongly_is_refused_by_name(world, query, param):
    async with world.get("/api/export", **query) as answer:
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)


async def test_an_export_that_is_too_large_is_refused_before_it_begins(serve, sqlite):
    world = await serve(rows_max=2)
    await fill(sqlite, 3)

    assert (await world.refused(format="csv", from_="2026-10-01"))[:2] == (400, "export_too_large")
    assert len((await world.export(to="2026-10-31"))[1]) == 0


async def test_parquet_without_its_library_is_refused_with_the_fix(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, code, message = await world.refused(format="parquet", from_="2026-11-01")

    assert (status, code) == (501, "format_unavailable")
    assert "pip install 'tallygate[parquet]'" in message


async def test_a_ledger_that_fails_on_the_way_leaves_a_visibly_cut_file(world, sqlite):
    await fill(sqlite, 1_200)
    world.database.fails_at = 3  # rows are counted, a page is read, the next is not

    with pytest.raises(aiohttp.ClientPayloadError):
        await world.export(org="acme")


async def test_a_ledger_that_is_away_from_the_start_is_a_503(world):
    world.database.fails_at = 1

    assert (await world.refused(format="csv", from_="2026-11-01"))[:2] == (503, "ledger_unavailable")


async def test_as_many_exports_run_as_may_at_once(serve, sqlite):
    world = await serve(at_once=1)
    await fill(sqlite)
    world.database.gate.clear()
    first = asyncio.ensure_future(world.export(org="acme"))
    while not world.database.reads:
        await asyncio.sleep(0)
    busy = await world.refused(format="csv", from_="2026-11-01", org="acme")
    invoice = await world.refused("/api/invoices/acme/2026-11")
    world.database.gate.set()

    assert busy[:2] == invoice[:2] == (503, "exports_busy")
    assert len((await first)[1]) == 3
    assert len((await world.export(org="acme"))[1]) == 3  # the place is free again


async def test_a_client_that_takes_nothing_holds_back_the_ledger_and_is_cut_off(serve, sqlite):
    """What the sockets and the server's buffer hold is read; then no page more, until the client's time is over."""
    world = await serve(write_seconds=0.2, at_once=1)
    text = "x" * 10_000

    async def is_busy() -> bool:
        async with world.get("/api/invoices/globex/2026-11") as other:
            return other.status == 503

    await fill(sqlite, 3_500, client_request_id=text, flags=text)
    async with world.get("/api/export", format="csv", from_="2026-10-01", org="acme") as answer:
        answer.content._protocol.pause_reading()
        assert await is_busy()
        while await is_busy():
            await asyncio.sleep(0.01)
        reads = world.database.reads
        answer.content._protocol.resume_reading()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()

    assert reads < 6  # of 8


async def test_an_invoice_is_given_in_each_format(world, sqlite):
    await fill(sqlite, 3, settled_at_ms=START_MS + 86_400_000)
    types = {}
    for format_ in ("html", "csv", "json"):
        async with world.get("/api/invoices/acme/2026-11", format=format_) as answer:
            types[format_] = answer.headers["Content-Type"].partition(";")[0]
            body = await answer.read()
            assert b"0.001500003" in body.replace(b'<span class="nano">', b"")
            assert f"invoice-acme-2026-11.{format_}" in answer.headers["Content-Disposition"]
            assert ("Content-Security-Policy" in answer.headers) == (format_ == "html")

    assert types == {"html": "text/html", "csv": "text/csv", "json": "application/json"}


async def test_an_invoice_of_a_month_that_runs_is_provisional_and_one_to_come_is_none(world):
    async with world.get("/api/invoices/acme/2026-12") as answer:
        assert (await answer.json())["provisional"] is True
    async with world.get("/api/invoices/acme/2026-11") as answer:
        assert (await answer.json())["provisional"] is False

    assert (await world.refused("/api/invoices/acme/2027-01"))[:2] == (400, "invalid_parameter")
    assert (await world.refused("/api/invoices/acme/2026-13"))[:2] == (400, "invalid_parameter")


async def test_a_plan_has_the_document_that_it_is_billed_by_and_no_other_without_export(world):
    async with world.get("/api/statements/hooli/2026-W48", format="html") as answer:
        page = (await answer.read()).decode()
        assert (answer.status, 'filename="statement-hooli-2026-W48.html"' in answer.headers["Content-Disposition"]) == (200, True)
    assert "Usage statement" in page
    assert "Week 48 of 2026" in page
    assert "23 to 29 November 2026" in page
    async with world.get("/api/invoices/pied/2026-10") as answer:
        invoice = await answer.json()
    assert (invoice["object"], invoice["month"], invoice["from"], invoice["to"]) == (
        "invoice",
        "2026-10-15",
        "2026-10-15T04:00:00.000Z",
        "2026-11-15T05:00:00.000Z",  # the clock was put back
    )
    refused = await world.refused("/api/invoices/hooli/2026-11")
    assert refused[:2] == (403, "plan_without_export")
    assert refused[2].endswith("which does not include export, only statements of weeks")
    assert (await world.refused("/api/statements/pied/2026-W48"))[:2] == (403, "plan_without_export")
    for path in ("/api/statements/acme/2026-W48", "/api/invoices/acme/2026-11"):
        async with world.get(path) as answer:
            assert answer.status == 200


async def test_a_week_that_runs_is_provisional_and_one_to_come_is_none(world):
    async with world.get("/api/statements/acme/2026-W50") as answer:
        statement = await answer.json()
    assert (statement["object"], statement["week"], statement["provisional"]) == ("statement", "2026-W50", True)
    async with world.get("/api/statements/acme/2026-12-01") as answer:
        assert ((statement := await answer.json())["week"], statement["provisional"]) == ("2026-12-01-7d", False)

    for week in ("2026-W51", "2026-W54", "2026-12", "week"):
        assert (await world.refused(f"/api/statements/acme/{week}"))[:2] == (400, "invalid_parameter")
    assert (await world.refused("/api/statements/globex/2026-W48", token="acme"))[:2] == (404, "unknown_organization")
    assert (await world.refused("/api/statements/short/2026-W40"))[:2] == (403, "beyond_history")


def test_bounds_are_what_the_documents_say():
    assert (api_export.ROWS_MAX, api_export.RANGE_DAYS_MAX, api_export.ORGS_MAX) == (5_000_000, 366, 1_000)
