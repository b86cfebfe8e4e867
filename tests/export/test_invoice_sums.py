"""An invoice is the ledger's month: to the nano-dollar, in every zone, however the month begins and ends."""

import asyncio
import itertools
from collections import defaultdict
from datetime import date, datetime, timedelta
from operator import attrgetter
from zoneinfo import ZoneInfo

import pytest
from export_values import a_correction, an_entry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from new_ledger import new_ledger
from search import cases

from tallygate.domain.billing import PeriodKind
from tallygate.ledger.book import Book
from tallygate.ledger.entry import Kind
from tallygate.ledger.history import OrgScope, UsageQuery
from tallygate.ledger.invoice import read_invoice as module
from tallygate.ledger.invoice.billing_period import BillingPeriod
from tallygate.ledger.invoice.invoice import Amounts, cents_text, rounded_cents
from tallygate.ledger.invoice.invoice_csv import invoice_csv
from tallygate.ledger.invoice.read_invoice import BilledOrganization, InvoiceTooLargeError, read_invoice
from tallygate.ledger.time_buckets import Bucket
from tallygate.ledger.usage_queries import UsageQueries

# Midnights that are skipped or come twice, offsets by quarters of an hour, a day that did not exist, changes by half an hour.
ZONES = (
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "America/Havana",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Asia/Gaza",
    "America/St_Johns",
)
MONTHS = [f"{year}-{number:02d}" for year in (2011, 2012, 2018, 2026) for number in range(1, 13)]
_orgs = itertools.count()


@pytest.mark.parametrize("zone", ZONES)
def test_the_months_of_a_zone_leave_no_gap_and_begin_on_its_first(zone):
    months = [BillingPeriod.month(f"{year}-{number:02d}", zone) for year in range(2000, 2030) for number in range(1, 13)]

    for month, following in itertools.pairwise(months):
        assert month.end_ms == following.start_ms
    for month in months:
        first = datetime.fromtimestamp(month.start_ms / 1000, ZoneInfo(zone))
        before = datetime.fromtimestamp(month.start_ms / 1000 - 1, ZoneInfo(zone))
        assert (f"{first:%Y-%m}", first.day) == (month.id, 1)
        assert before.month != first.month


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-00", "2026-1", "1999-12", "2026-11-01", "", " 2026-11", "2026-11\n", "\uff12026-11"]
)
def test_what_is_no_month_is_refused(text):
    with pytest.raises(ValueError, match="such as 2026-11"):
        BillingPeriod.month(text, "UTC")


@pytest.mark.parametrize("zone", ZONES)
def test_the_weeks_of_a_zone_leave_no_gap_and_begin_on_mondays(zone):
    days = [date(2010, 12, 27) + timedelta(days=7 * number) for number in range(52 * 18)]
    weeks = [BillingPeriod.week(day.isoformat(), zone) for day in days]

    for day, week, following in zip(days, weeks, weeks[1:], strict=False):
        assert week.end_ms == following.start_ms
        assert week == BillingPeriod.week(f"{day:%G-W%V}", zone)
        assert (week.id, week.days[1] - week.days[0]) == (f"{day:%G-W%V}", timedelta(days=6))
    assert {"2015-W53", "2020-W53", "2026-W53"} < {week.id for week in weeks}
    assert "2021-W53" not in {week.id for week in weeks}


def test_seven_days_from_another_day_are_no_week_of_the_calendar():
    period = BillingPeriod.week("2026-11-24", "America/New_York")

    assert (period.id, period.kind, period.days) == ("2026-11-24-7d", PeriodKind.WEEK, (date(2026, 11, 24), date(2026, 11, 30)))
    assert BillingPeriod.week("2026-11-23", "America/New_York").id == "2026-W48"


@pytest.mark.parametrize(
    "text", ["2021-W53", "2026-W00", "2026-W1", "2026-w48", "2026-02-29", "2026-11", "", "1999-W10", "2026-W48\n"]
)
def test_what_is_no_week_is_refused(text):
    with pytest.raises(ValueError, match="such as 2026-W48"):
        BillingPeriod.week(text, "UTC")


def _draw_period(draw, zone):
    """A month from some billing day on, or a week, of the years in MONTHS; and its billing day."""
    month = draw(st.sampled_from(MONTHS))
    if draw(st.booleans()):
        return BillingPeriod.week(f"{month}-{draw(st.integers(1, 28)):02d}", zone), 1
    billing_day = draw(st.sampled_from([1, 15, 29, 30, 31]))
    return BillingPeriod.month(month, zone, billing_day), billing_day


@st.composite
def ledgers(draw):
    """A zone, a period of it, and entries in and around that period, some of them at its very edges, some corrected."""
    month, billing_day = _draw_period(draw, draw(st.sampled_from(ZONES)))
    edges = [edge + offset for edge in (month.start_ms, month.end_ms) for offset in (-900_000, -1, 0, 1, 899_999)]
    instants = st.one_of(st.sampled_from(edges), st.integers(month.start_ms - 86_400_000, month.end_ms + 86_400_000))
    entries = []
    for number in range(draw(st.integers(0, 12))):
        entry = an_entry(
            number,
            settled_at_ms=draw(instants),
            credential=draw(st.sampled_from(["acme-prod", "acme-dev"])),
            capability=draw(st.sampled_from(["chat", "embeddings"])),
            response_model=draw(st.sampled_from(["gpt-4o", "", None])),
            cost_nano_usd=draw(st.integers(0, 10**12)),
        )
        corrections = [
            a_correction(entry, draw(st.integers(-(10**12), 10**12)), sequence=sequence + 1, kind=kind)
            for sequence, kind in enumerate(draw(st.lists(st.sampled_from([Kind.REPRICED, Kind.REVERSED]), max_size=2)))
        ]
        entries.append((entry, corrections))
    return month, billing_day, entries


@given(ledgers())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=cases(short=20, steady=100, deep=300)
)  # each fills a ledger
def test_an_invoice_adds_up_to_the_ledger(tmp_path, ledger):
    month, billing_day, told = ledger

    async def check() -> None:
        database = await new_ledger(tmp_path)
        try:
            await check_in(database)
        finally:
            await database.close()

    async def check_in(database) -> None:
        org = f"org-{next(_orgs)}"
        book = Book(database)
        entries = [_of(org, entry) for entry, _ in told]
        await book.record(entries)
        corrections = [_of(org, correction) for _, some in told for correction in some]
        async with database.write() as connection:
            numbering = await book.correct(connection, corrections)
        book.committed(numbering)
        invoice = await read_invoice(database, BilledOrganization(id=org, name=org), month, as_of_ms=0)

        expected = defaultdict(int)
        for entry in (*entries, *corrections):
            if month.start_ms <= entry.settled_at_ms < month.end_ms:
                expected[entry.credential, entry.capability, entry.model, entry.sequence > 0] += entry.cost_nano_usd
        found = defaultdict(int)
        for line in invoice.lines:
            found[line.credential, line.capability, line.model, line.correction is not None] += line.amounts.cost_nano_usd
        assert found == expected
        total = invoice.total
        assert total.cost_nano_usd == sum(expected.values())
        for label in ("credential", "capability", "model"):
            totals = invoice.totals_by(attrgetter(label))
            assert sum((amounts for _, amounts in totals), Amounts()) == total
        # The usage API's month is the same month, from the sums that are kept.
        question = UsageQuery(
            scopes=(OrgScope(org=org),),
            from_ms=month.start_ms,
            to_ms=month.end_ms,
            bucket=Bucket.MONTH if month.kind is PeriodKind.MONTH else None,
            time_zone=month.time_zone,
            billing_day=billing_day,
        )
        rows = await UsageQueries(database).usage(question)
        assert len(rows) <= 1
        assert sum(row.usage.cost_nano_usd for row in rows) == total.cost_nano_usd
        assert sum(row.usage.requests for row in rows) == total.requests

    asyncio.run(check())


def _of(org, entry):
    return structs.replace(entry, org=org, event_id=f"{org}-{entry.event_id}")


async def test_both_databases_give_the_same_invoice(database, book):
    month = BillingPeriod.month("2026-11", "America/New_York")
    entries = [
        an_entry(n, settled_at_ms=month.start_ms + n * 86_000_000, credential=f"c-{n % 3}", response_model=None if n % 4 else "m")
        for n in range(40)
    ]
    await book.record(entries)
    async with database.write() as connection:
        book.committed(await book.correct(connection, [a_correction(entries[n], -n) for n in (3, 4, 5)]))

    invoice = await read_invoice(database, BilledOrganization(id="acme", name="Acme"), month, as_of_ms=month.end_ms)

    in_month = [entry for entry in entries if entry.settled_at_ms < month.end_ms]
    assert 0 < len(in_month) < len(entries)
    assert invoice.total.requests == len(in_month)
    assert invoice.total.cost_nano_usd == sum(entry.cost_nano_usd for entry in in_month) - 12
    assert [line.amounts.cost_nano_usd for line in invoice.corrections] == [-3, -4, -5]
    assert {line.model for line in invoice.usage} == {"m", "gpt-4o"}
    assert invoice.last_entry_ms == max(entry.entered_at_ms for entry in (*in_month, a_correction(entries[5], 0)))
    assert not invoice.is_provisional


async def test_a_correction_after_the_month_belongs_to_the_month_it_corrects(database, book):
    november, december = (BillingPeriod.month(text, "UTC") for text in ("2026-11", "2026-12"))
    billed = BilledOrganization(id="acme", name="Acme")
    late = an_entry(1, settled_at_ms=november.end_ms - 1, cost_nano_usd=1_000)
    await book.record([late])
    async with database.write() as connection:
        book.committed(await book.correct(connection, [a_correction(late, -400)]))

    costs = [(await read_invoice(database, billed, month, as_of_ms=0)).total.cost_nano_usd for month in (november, december)]
    assert costs == [600, 0]


async def test_statements_of_the_days_of_a_month_add_up_to_its_invoice(sqlite):
    """Four statements of seven days and those of the days that are left, from a billing day on, over a change of the clock."""
    zone, billed = "America/New_York", BilledOrganization(id="acme", name="Acme")
    month = BillingPeriod.month("2026-02", zone, 15)
    book = Book(sqlite)
    entries = [
        an_entry(n, settled_at_ms=month.start_ms + n * 3_600_000 * 5 - 1, credential=f"c-{n % 2}", cost_nano_usd=10**9 + n)
        for n in range(150)
    ]
    await book.record(entries)
    async with sqlite.write() as connection:
        book.committed(await book.correct(connection, [a_correction(entries[n], -7 * n) for n in (0, 1, 40, 80, 134, 149)]))

    firsts = [month.days[0] + timedelta(days=7 * number) for number in range(4)]
    weeks = [BillingPeriod.week(first.isoformat(), zone) for first in firsts]
    statements = [await read_invoice(sqlite, billed, week, as_of_ms=month.end_ms) for week in weeks]
    invoice = await read_invoice(sqlite, billed, month, as_of_ms=month.end_ms)

    assert (weeks[0].start_ms, weeks[-1].end_ms) == (month.start_ms, month.end_ms)  # 28 days
    assert sum((statement.total for statement in statements), Amounts()) == invoice.total
    assert sum(len(statement.corrections) for statement in statements) >= 4
    in_month = [(n, entry) for n, entry in enumerate(entries) if month.start_ms <= entry.settled_at_ms < month.end_ms]
    corrected = sum(-7 * n for n, _ in in_month if n in {0, 1, 40, 80, 134, 149})
    assert invoice.total.cost_nano_usd == sum(entry.cost_nano_usd for _, entry in in_month) + corrected


async def test_a_week_is_provisional_until_it_is_over(sqlite):
    week = BillingPeriod.week("2026-W48", "America/New_York")

    open_, over = [
        await read_invoice(sqlite, BilledOrganization(id="acme", name="Acme"), week, as_of_ms=now_ms)
        for now_ms in (week.end_ms - 1, week.end_ms)
    ]

    assert (open_.is_provisional, over.is_provisional) == (True, False)
    assert open_.number == over.number == "acme-2026-W48"


async def test_an_invoice_of_too_many_lines_is_refused(sqlite, monkeypatch):
    monkeypatch.setattr(module, "LINES_MAX", 3)
    month = BillingPeriod.month("2026-11", "UTC")
    await Book(sqlite).record([an_entry(n, credential=f"c-{n}") for n in range(4)])

    with pytest.raises(InvoiceTooLargeError, match="more than 3 lines"):
        await read_invoice(sqlite, BilledOrganization(id="acme", name="Acme"), month, as_of_ms=0)


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "0.00"),
        (4_999_999, "0.00"),
        (5_000_000, "0.01"),
        (14_999_999, "0.01"),
        (15_000_000, "0.02"),
        (1_005_000_000, "1.01"),
        (-4_999_999, "0.00"),
        (-5_000_000, "-0.01"),
        (-1_005_000_000, "-1.01"),
        (123_456_789_999_999_999, "123456790.00"),
    ],
)
def test_the_grand_total_is_rounded_half_up_to_the_cent(nano_usd, text):
    assert cents_text(nano_usd) == text


@given(st.integers(-(2**60), 2**60))
def test_rounding_moves_a_total_by_half_a_cent_at_most_and_a_credit_as_its_charge(nano_usd):
    assert abs(rounded_cents(nano_usd) * 10_000_000 - nano_usd) <= 5_000_000
    assert rounded_cents(-nano_usd) == -rounded_cents(nano_usd)


async def test_the_csv_adds_up_to_its_total(sqlite):
    month = BillingPeriod.month("2026-11", "UTC")
    await Book(sqlite).record([an_entry(n, credential=f"c-{n}", cost_nano_usd=n * 10**7 + 1) for n in range(9)])
    document = invoice_csv(await read_invoice(sqlite, BilledOrganization(id="acme", name="A"), month, as_of_ms=0))

    header, *rows = [line.split(",") for line in document.decode().split("\r\n")[:-1]]
    cost, line, rounded = (header.index(name) for name in ("cost_nano_usd", "line", "rounded_usd"))
    assert [row[line] for row in rows] == ["usage"] * 9 + ["total"]
    assert sum(int(row[cost]) for row in rows[:-1]) == int(rows[-1][cost]) == 360_000_009
    assert [row[rounded] for row in rows] == [""] * 9 + ["0.36"]
