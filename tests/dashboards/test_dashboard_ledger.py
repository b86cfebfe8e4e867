"""The dashboard Invoice on a real PostgreSQL: every statement runs for a reader who may do nothing else, and is the invoice."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from dashboard_files import panel_query, queries, variables
from grafana_words import Chosen, sql
from postgres_process import PostgresProcess

from grafana.generator.ledger_sql import BILLED_MONTH, RENAMED
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry, Kind
from tallygate.ledger.invoice.billing_period import BillingPeriod
from tallygate.ledger.invoice.invoice import Amounts, Invoice
from tallygate.ledger.invoice.read_invoice import BilledOrganization, read_invoice
from tallygate.ledger.opening import open_database
from tallygate.ledger.schema import ENTRIES

pytestmark = pytest.mark.asyncio(loop_scope="module")
READER_SQL = Path(__file__).parents[2] / "grafana" / "provisioning" / "reader.sql"
MONTH = "2026-11"  # in Havana its first midnight comes twice
ZONES = {"acme": "America/Havana", "globex": "Asia/Kathmandu"}
NANO = 10**9
# Midnights that are skipped or come twice, quarters of an hour, a day that did not exist.
BILLING_DAYS = {"acme": 1, "globex": 31}
ODD_ZONES = ("UTC", "America/New_York", "America/Havana", "America/Sao_Paulo", "Asia/Kathmandu", "Asia/Gaza", "Pacific/Apia")
ODD_ZONES += (
    *RENAMED.values(),
    "Africa/Cairo",
    "America/St_Johns",
    "Asia/Beirut",
    "America/Asuncion",
    "Australia/Lord_Howe",
    "Asia/Amman",
)


def an_entry(org: str, number: int, settled_at_ms: int, **changed: Any) -> Entry:
    fields: dict[str, Any] = {column.name: 0 for column in ENTRIES.columns}
    fields |= dict.fromkeys(("posted_at_ms", "entered_at_ms", "started_at_ms"), settled_at_ms)
    fields |= {
        "event_id": f"{settled_at_ms:012x}{org}{number:08x}",
        "kind": Kind.SETTLED,
        "settled_at_ms": settled_at_ms,
        "org": org,
    }
    fields |= {
        "credential": f"{org}-{number % 3}",
        "capability": ("chat", "embeddings")[number % 2],
        "endpoint": "/v1",
        "method": "POST",
    }
    fields |= {
        "request_model": "gpt-4o",
        "response_model": ("gpt-4o-2024", "", None)[number % 3],
        "upstream": "default",
        "status": 200,
    }
    fields |= {"outcome": "success", "stream": False, "first_byte_ms": None, "requests": 1, "usage_source": "upstream", "flags": ""}
    fields |= {"price_version": None, "client_request_id": None, "billed": None}
    fields |= {"prompt_tokens": 100 + number, "completion_tokens": number * 7}
    fields |= {"cached_tokens": number % 50, "reasoning_tokens": number % 5, "cost_nano_usd": 1 + number * 123_456_789}
    return Entry(**fields | changed)


def entries(org: str) -> list[Entry]:
    """At the edges of the month, on its days, and in the months beside it."""
    month = BillingPeriod.month(MONTH, ZONES[org], BILLING_DAYS[org])
    edges = [edge + offset for edge in (month.start_ms, month.end_ms) for offset in (-900_000, -1, 0, 1, 3_599_999, 3_600_000)]
    days = range(month.start_ms - 40 * 86_400_000, month.end_ms + 3 * 86_400_000, 19 * 3_600_000 + 77_777)
    return [an_entry(org, number, at_ms) for number, at_ms in enumerate([*edges, *days])]


def corrections(told: list[Entry]) -> list[Entry]:
    return [
        an_entry(
            entry.org,
            number,
            entry.settled_at_ms,
            event_id=entry.event_id,
            sequence=1,
            kind=(Kind.REPRICED, Kind.REVERSED)[number % 2],
            entered_at_ms=entry.settled_at_ms + 5_000_000,
            requests=0,
            prompt_tokens=0,
            completion_tokens=0,
            cached_tokens=0,
            reasoning_tokens=0,
            cost_nano_usd=-number * 1_000_003,
            credential=entry.credential,
            capability=entry.capability,
            response_model=entry.response_model,
        )
        for number, entry in enumerate(told)
        if number % 4 == 1
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(postgres_server: PostgresProcess) -> AsyncIterator[Database]:
    """Two organizations' months, made by the product's own code; and the reader's role."""
    owner = await asyncpg.connect(postgres_server.url())
    await owner.execute("DROP DATABASE IF EXISTS ledger WITH (FORCE)")
    await owner.execute("CREATE DATABASE ledger")
    await owner.close()
    database = open_database(postgres_server.url("ledger"), Path())
    await database.migrate()
    book = Book(database)
    for org in ZONES:
        told = entries(org)
        await book.record(told)
        async with database.write() as connection:
            numbering = await book.correct(connection, corrections(told))
        book.committed(numbering)
    owner = await asyncpg.connect(postgres_server.url("ledger"))
    await owner.execute(READER_SQL.read_text(encoding="utf-8"))
    await owner.execute(
        "INSERT INTO organizations (id, name, plan, time_zone, limits, created_at_ms, changed_at_ms) "
        "VALUES ('acme', 'Acme', 'enterprise', 'America/Havana', '{}', 0, 0)"
    )
    await owner.close()
    yield database
    await database.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(ledger: Database, postgres_server: PostgresProcess) -> AsyncIterator[asyncpg.Connection]:
    """As Grafana connects."""
    connection = await asyncpg.connect(postgres_server.url("ledger").replace("tallygate@", "tallygate_reader@"))
    yield connection
    await connection.close()


def chosen(org: str, month: str = MONTH) -> dict[str, Chosen]:
    return {
        "organization": Chosen(values=(org,)),
        "month": Chosen(values=(month,)),
        "time_zone": Chosen(values=(ZONES[org],)),
        "billing_day": Chosen(values=(str(BILLING_DAYS[org]),)),
    }


async def rows(reader: asyncpg.Connection, title: str, org: str, month: str = MONTH) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await reader.fetch(sql(panel_query("invoice", title).text, chosen(org, month)))
    return found


async def invoice_of(ledger: Database, org: str, month: str = MONTH) -> Invoice:
    billed = BilledOrganization(id=org, name=org)
    return await read_invoice(ledger, billed, BillingPeriod.month(month, ZONES[org], BILLING_DAYS[org]), as_of_ms=0)


def nano(usd: Decimal | str) -> int:
    exact = Decimal(usd) * NANO
    assert exact == int(exact)
    return int(exact)


@pytest.mark.parametrize("org", ZONES)
async def test_every_statement_runs_for_the_reader_and_finds_something(reader: asyncpg.Connection, org: str) -> None:
    for query in queries("invoice"):
        assert await reader.fetch(sql(query.text, chosen(org))), query.where


@pytest.mark.parametrize("org", ZONES)
async def test_the_figures_are_the_invoices_own(reader: asyncpg.Connection, ledger: Database, org: str) -> None:
    invoice = await invoice_of(ledger, org)
    assert invoice.total.cost_nano_usd > 0
    assert nano((await rows(reader, "Total", org))[0]["value"]) == invoice.total.cost_nano_usd
    assert nano((await rows(reader, "Corrections in it", org))[0]["value"]) == sum(
        line.amounts.cost_nano_usd for line in invoice.corrections
    )
    for title, name in {"Requests": "requests", "Prompt tokens": "prompt_tokens", "Completion tokens": "completion_tokens"}.items():
        assert (await rows(reader, title, org))[0]["value"] == getattr(invoice.total, name)


@pytest.mark.parametrize("org", ZONES)
@pytest.mark.parametrize("label", ["credential", "capability", "model"])
async def test_what_it_is_broken_down_by_is_the_invoices_own(
    reader: asyncpg.Connection, ledger: Database, org: str, label: str
) -> None:
    expected = dict((await invoice_of(ledger, org)).totals_by(attrgetter(label)))
    found = {row[0]: _amounts(row) for row in await rows(reader, f"By {label}", org)}
    assert found == {name: _shown(amounts) for name, amounts in expected.items()}


@pytest.mark.parametrize("org", ZONES)
async def test_credentials_by_model_are_the_invoices_own(reader: asyncpg.Connection, ledger: Database, org: str) -> None:
    expected = dict((await invoice_of(ledger, org)).totals_by(attrgetter("credential", "model")))
    found = {(row[0], row[1]): _amounts(row) for row in await rows(reader, "By credential and model", org)}
    assert found == {name: _shown(amounts) for name, amounts in expected.items()}


@pytest.mark.parametrize("org", ZONES)
async def test_the_lines_are_the_invoices_own_in_its_order(reader: asyncpg.Connection, ledger: Database, org: str) -> None:
    invoice = await invoice_of(ledger, org)
    lines = [(line.credential, line.capability, line.model, _shown(line.amounts)) for line in invoice.usage]
    assert [(row[0], row[1], row[2], _amounts(row)) for row in await rows(reader, "Lines", org)] == lines
    corrected = [
        (line.credential, line.capability, line.model, line.correction, _shown(line.amounts)) for line in invoice.corrections
    ]
    assert [(row[0], row[1], row[2], row[3], _amounts(row)) for row in await rows(reader, "Corrections", org)] == corrected


@pytest.mark.parametrize("org", ZONES)
async def test_days_and_months_add_up_to_the_invoices(reader: asyncpg.Connection, ledger: Database, org: str) -> None:
    days = await rows(reader, "Cost by day", org)
    first, last = BillingPeriod.month(MONTH, ZONES[org], BILLING_DAYS[org]).days
    assert [row["Day"] for row in days] == [f"{first + timedelta(days=day)}" for day in range((last - first).days + 1)]
    assert sum(nano(row["Cost"]) for row in days) == (await invoice_of(ledger, org)).total.cost_nano_usd
    months = await rows(reader, "Months", org)
    assert len(months) == 13
    for row in months[:3]:
        assert nano(row["Cost, exact"]) == (await invoice_of(ledger, org, row["Month"])).total.cost_nano_usd, row
        assert nano(row["Cost"]) == nano(row["Cost, exact"])


async def test_a_month_without_anything_is_zero(reader: asyncpg.Connection) -> None:
    assert (await rows(reader, "Total", "acme", "2031-02"))[0]["value"] == 0
    assert not await rows(reader, "Lines", "acme", "2031-02")
    assert (await rows(reader, "The month", "acme", "2031-02"))[0]["value"] == "provisional: not over yet"
    assert (await rows(reader, "The month", "acme", "2021-02"))[0]["value"] == "complete"


async def test_the_choices_are_what_the_ledger_knows(reader: asyncpg.Connection) -> None:
    statements = {variable["name"]: variable["query"] for variable in variables("invoice") if variable["type"] == "query"}

    async def offered(name: str, org: str) -> list[str]:
        return [row[0] for row in await reader.fetch(sql(statements[name], chosen(org)))]

    assert await offered("organization", "acme") == ["acme", "globex"]
    assert await offered("time_zone", "acme") == ["America/Havana"]  # as the directory has it
    zones = await offered("time_zone", "globex")  # of a file, which no database knows
    assert zones[0] == "UTC"
    assert {"Asia/Kathmandu", "America/New_York"} <= {*zones}
    assert await offered("billing_day", "acme") == ["1"]
    assert await offered("billing_day", "globex") == [str(day) for day in range(1, 32)]
    months = await offered("month", "acme")
    assert months == sorted(months, reverse=True)
    assert len(months) == 120


async def test_what_a_user_could_put_into_an_address_is_quoted(reader: asyncpg.Connection) -> None:
    hostile = chosen("acme") | {"organization": Chosen(values=("acme' OR '1'='1",))}
    assert (await reader.fetch(sql(panel_query("invoice", "Requests").text, hostile)))[0]["value"] == 0


async def test_the_reader_can_do_nothing_else(reader: asyncpg.Connection) -> None:
    for forbidden in ("SELECT key_sha256 FROM credentials", "SELECT limits FROM organizations", "SELECT * FROM admin_tokens"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(forbidden)
    with pytest.raises(asyncpg.PostgresError):
        await reader.execute("DELETE FROM entries")


@pytest.mark.parametrize("zone", ODD_ZONES)
@pytest.mark.parametrize("billing_day", [1, 15, 29, 31])
async def test_months_begin_where_invoices_begin_them(reader: asyncpg.Connection, zone: str, billing_day: int) -> None:
    """Also where midnight comes twice, or not at all, and where a month has no such day."""
    months = [f"{year}-{month:02d}" for year in range(2005, 2030) for month in range(1, 13)]
    body = (
        re.sub(r"^billed AS \(|\)$", "", BILLED_MONTH)
        .replace("${month:sqlstring}", "month")
        .replace("${time_zone:sqlstring}", "$2")
        .replace("${billing_day:sqlstring}", "$3")
    )
    statement = "SELECT month, edges.* FROM unnest($1::text[]) AS month, LATERAL (BODY) AS edges".replace("BODY", body)
    found = await reader.fetch(statement, months, zone, billing_day)
    expected = [BillingPeriod.month(month, zone, billing_day) for month in months]
    assert [(row["month"], row["start_ms"], row["end_ms"]) for row in found] == [
        (month.id[:7], month.start_ms, month.end_ms) for month in expected
    ]


async def test_zones_that_postgresql_takes_for_abbreviations_have_equals_with_another_name() -> None:
    months = [f"{year}-{month:02d}" for year in range(2000, 2038) for month in range(1, 13)]
    for name, zone in RENAMED.items():
        assert [BillingPeriod.month(month, name).start_ms for month in months] == [
            BillingPeriod.month(month, zone).start_ms for month in months
        ]


async def test_such_a_zone_is_offered_by_its_other_name(reader: asyncpg.Connection, postgres_server: PostgresProcess) -> None:
    owner = await asyncpg.connect(postgres_server.url("ledger"))
    await owner.execute("UPDATE organizations SET time_zone = 'CET'")
    try:
        statement = next(variable["query"] for variable in variables("invoice") if variable["name"] == "time_zone")
        assert [row[0] for row in await reader.fetch(sql(statement, chosen("acme")))] == ["Europe/Brussels"]
    finally:
        await owner.execute("UPDATE organizations SET time_zone = 'America/Havana'")
        await owner.close()


def _shown(amounts: Amounts) -> tuple[int, ...]:
    names = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cost_nano_usd")
    return tuple(getattr(amounts, name) for name in names)


def _amounts(row: asyncpg.Record) -> tuple[int, ...]:
    names = ("Requests", "Prompt tokens", "of them cached", "Completion tokens", "of them reasoning")
    assert nano(row["Cost"]) == nano(row["Cost, exact"])
    return (*(row[name] for name in names), nano(row["Cost, exact"]))
