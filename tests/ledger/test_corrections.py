"""A provider's own figures, put in later for events whose usage was assumed."""

from typing import Any

import pytest
from ledger_values import START_MS, an_entry, an_event_id, assert_no_drift, sums
from prices import price_of, repriced
from sqlalchemy import func, select

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.section import instant_ms
from tallygate.config.shipped import shipped_directory, shipped_tables
from tallygate.domain.billed import StatedCost, billed_of
from tallygate.domain.markup import marked_up
from tallygate.domain.usage import UsageSource, usage_of_totals
from tallygate.ledger.book import Book
from tallygate.ledger.corrections import Corrections, Figures, UnknownEventError
from tallygate.ledger.database import Database
from tallygate.ledger.directory.changes import Changes, read_audit_log
from tallygate.ledger.entry import Entry, Kind
from tallygate.ledger.reprice import RepriceQuery, Repricing
from tallygate.ledger.schema import AMOUNTS, ENTRIES

PRICE = price_of(model="gpt-5", version="gpt-5@1", effective_ms=0, input=1_250_000, output=10_000_000, cached_input=125_000)
ASSUMED = usage_of_totals(prompt=100, completion=30_000)
TRUE = usage_of_totals(prompt=90, completion=20_004, reasoning=20_000)
ALL: dict[str, Any] = {"from_ms": 0, "to_ms": 2**42, "orgs": frozenset({"acme"}), "after": ""}
EVENT = an_event_id(1)
FIGURES = Figures(event_id=EVENT, prompt_tokens=90, completion_tokens=20_004, reasoning_tokens=20_000)


def an_assumed(number: int = 1, **changed: Any) -> Entry:
    fields: dict[str, Any] = {
        "request_model": "gpt-5",
        "response_model": "gpt-5",
        "prompt_tokens": 100,
        "completion_tokens": 30_000,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "usage_source": UsageSource.ASSUMED,
        "flags": ("assumed",),
        "price_version": PRICE.version,
        "cost_nano_usd": PRICE.cost_nano_usd(ASSUMED),
    }
    return an_entry(number, **fields | changed)


@pytest.fixture
def corrections(database: Database) -> Corrections:
    async def woken() -> None:
        """Nobody follows."""

    changes = Changes(database, now_ms=lambda: START_MS + 5, on_committed=woken)
    return Corrections(database, PriceCatalogue([PRICE]), changes)


async def sums_by_name(database: Database) -> dict[str, int]:
    return dict(zip(AMOUNTS, await assert_no_drift(database), strict=True))


async def test_the_difference_is_entered_and_every_sum_follows(database: Database, book: Book, corrections: Corrections) -> None:
    original = an_assumed()
    await book.record([original, an_assumed(2)])
    before = await sums(database)

    (looked,) = await corrections.correct([FIGURES], now_ms=START_MS + 5, actor=None)
    assert (looked.before_nano_usd, looked.after_nano_usd) == (300_125_000, PRICE.cost_nano_usd(TRUE)) == (300_125_000, 200_152_500)
    assert await sums(database) == before, "it only looked"

    (entered,) = await corrections.correct([FIGURES], now_ms=START_MS + 5, actor="cli:ann")
    assert entered.correction is not None
    assert (entered.correction.kind, entered.correction.sequence, entered.correction.requests) == (Kind.CORRECTED, 1, 0)
    kept_sums = await sums_by_name(database)
    assert (kept_sums["requests"], kept_sums["prompt_tokens"]) == (2, 190)
    assert kept_sums["cost_nano_usd"] == 300_125_000 + 200_152_500
    assert (await sums(database))["entries.posted"] == before["entries.posted"], "the limiter's windows keep what they took"
    async with database.read() as connection:
        columns = ENTRIES.c
        kept = await connection.execute(select(columns.cost_nano_usd).where(columns.event_id == EVENT, columns.sequence == 0))
        assert kept.scalar_one() == original.cost_nano_usd

    (again,) = await corrections.correct([FIGURES], now_ms=START_MS + 9, actor="cli:ann")
    assert again.correction is None
    (logged,) = await read_audit_log(database)
    assert (logged.actor, logged.action, logged.subject, logged.org) == ("cli:ann", "usage.correct", EVENT, "acme")
    assert logged.before is not None
    assert logged.after is not None
    assert (logged.before["completion_tokens"], logged.after["completion_tokens"]) == (30_000, 20_004)
    assert (logged.before["cost_nano_usd"], logged.after["cost_nano_usd"]) == (300_125_000, 200_152_500)


async def test_events_that_are_assumed_are_listed_until_they_are_corrected(book: Book, corrections: Corrections) -> None:
    expired = an_assumed(3, kind="expired", usage_source=UsageSource.CHECKPOINT)
    told_late = an_entry(3, kind="late", settled_at_ms=START_MS + 1)
    await book.record([an_assumed(1), an_entry(2), expired, an_assumed(4), an_assumed(5, org="globex")])

    found, cursor = await corrections.assumed(**ALL)
    assert ([entry.event_id for entry in found], cursor) == ([an_event_id(number) for number in (1, 3, 4)], "")
    await corrections.correct([FIGURES], now_ms=START_MS, actor="cli")
    await book.record([told_late])  # its worker had only been slow: the exact usage is there now

    found, _ = await corrections.assumed(**ALL)
    assert [entry.event_id for entry in found] == [an_event_id(4)]


async def test_a_corrected_price_later_charges_the_corrected_figures(
    database: Database, book: Book, corrections: Corrections
) -> None:
    await book.record([an_assumed()])
    await corrections.correct([FIGURES], now_ms=START_MS, actor="cli")
    dearer = repriced(PRICE, version="gpt-5@2", output=20_000_000)
    query = RepriceQuery(model="gpt-5", from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))
    page = await Repricing(database, PriceCatalogue([dearer])).page(query, "", now_ms=START_MS, apply=True)

    assert sum(entry.cost_nano_usd for entry in page.corrections) == dearer.cost_nano_usd(TRUE) - PRICE.cost_nano_usd(TRUE)
    assert (await sums_by_name(database))["cost_nano_usd"] == dearer.cost_nano_usd(TRUE)


@pytest.mark.parametrize(
    ("day", "nano_usd"),  # of a thousand tokens in and a thousand out
    [
        ("2026-07-31", 1_400_000),  # 0.2 and 1.2 USD a million
        ("2026-07-29", 7_000_000),  # 1 and 6
        ("2026-07-01", 7_000_000),  # before the model came out: a preview
    ],
)
async def test_a_past_event_is_priced_anew_at_what_its_model_cost_then(
    database: Database, book: Book, day: str, nano_usd: int
) -> None:
    model, started_at_ms = "gpt-5.6-luna", instant_ms(day)
    counts = {"prompt_tokens": 1_000, "completion_tokens": 1_000, "cost_nano_usd": 0, "price_version": f"{model}@2020-01-01.0"}
    named = {"request_model": model, "response_model": model, "event_id": f"{started_at_ms:012x}{1:020x}"}
    await book.record([an_assumed(**counts, **named, started_at_ms=started_at_ms)])
    listed = shipped_tables(shipped_directory(), {}).list_prices
    assert listed is not None
    assert listed.begins_ms(model) == 0
    query = RepriceQuery(model=model, from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))

    (correction,) = (await Repricing(database, listed).page(query, "", now_ms=START_MS, apply=True)).corrections

    assert correction.cost_nano_usd == nano_usd


@pytest.mark.parametrize(
    ("figures", "problem"),
    [
        ({"event_id": "nobody"}, "there is no event nobody"),
        ({"reasoning_tokens": 30_000}, "parts exceed the completion"),
        ({"completion_tokens": -1}, "cannot be negative"),
        ({"completion_tokens": 10**9 + 1}, "cannot be above"),
    ],
)
async def test_figures_that_cannot_be_change_nothing(
    database: Database, book: Book, corrections: Corrections, figures: dict[str, Any], problem: str
) -> None:
    await book.record([an_assumed(), an_assumed(2)])
    before = await sums(database)
    good = Figures(event_id=an_event_id(2), prompt_tokens=1, completion_tokens=1)
    bad = Figures(**{"event_id": EVENT, "prompt_tokens": 90, "completion_tokens": 20_004} | figures)
    with pytest.raises((UnknownEventError, ValueError), match=problem):
        await corrections.correct([good, bad], now_ms=START_MS, actor="cli")

    assert await sums(database) == before
    assert not await read_audit_log(database)


async def test_figures_and_corrected_prices_keep_the_markup_that_an_event_was_charged_with(
    database: Database, book: Book, corrections: Corrections
) -> None:
    marked = marked_up(PRICE, 65_000)
    await book.record([an_assumed(price_version=marked.version, cost_nano_usd=marked.cost_nano_usd(ASSUMED))])
    query = RepriceQuery(model="gpt-5", from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))

    page = await Repricing(database, PriceCatalogue([PRICE])).page(query, "", now_ms=START_MS + 5, apply=False)
    assert (page.looked_at, page.corrections, page.odd) == (1, (), 0)
    (looked,) = await corrections.correct([FIGURES], now_ms=START_MS + 5, actor=None)
    assert looked.after_nano_usd == marked.cost_nano_usd(TRUE) > PRICE.cost_nano_usd(TRUE)

    dearer = repriced(PRICE, version="gpt-5@2", output=20_000_000)
    page = await Repricing(database, PriceCatalogue([dearer])).page(query, "", now_ms=START_MS + 5, apply=True)
    (correction,) = page.corrections
    assert correction.price_version == "gpt-5@2+6.5%"
    assert correction.cost_nano_usd == 30_000 * 10_650


async def test_what_an_upstreams_catalogue_charged_is_not_charged_anew_by_a_plainer_names_price(
    database: Database, book: Book, corrections: Corrections
) -> None:
    name = "gloo-openai-gpt-5"
    await book.record([an_assumed(request_model=name, response_model=name, price_version=f"{name}@1970-01-01.0f1e2d3c+6.5%")])
    query = RepriceQuery(model="gpt-5", from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))

    page = await Repricing(database, PriceCatalogue([PRICE])).page(query, "", now_ms=START_MS, apply=False)
    assert page.corrections == ()
    with pytest.raises(UnknownEventError, match="give it a row for gloo-openai-gpt-5 with the rates"):
        await corrections.correct([FIGURES], now_ms=START_MS, actor=None)

    own = repriced(PRICE, model=name, version=f"{name}@2026-01-01.1", output=20_000_000)
    query = RepriceQuery(model=name, from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))
    (correction,) = (await Repricing(database, PriceCatalogue([own])).page(query, "", now_ms=START_MS, apply=True)).corrections
    assert correction.price_version == f"{name}@2026-01-01.1+6.5%"


async def test_no_price_changes_what_was_charged_as_the_provider_stated_it(
    database: Database, book: Book, corrections: Corrections
) -> None:
    stated = billed_of(ASSUMED, stated_cost=StatedCost(nano_usd=77, is_charged=True))
    beside = billed_of(ASSUMED, stated_cost=StatedCost(nano_usd=77))
    await book.record([an_assumed(billed=stated, cost_nano_usd=77), an_assumed(2, billed=beside)])
    dearer = repriced(PRICE, version="gpt-5@2", output=20_000_000)
    query = RepriceQuery(model="gpt-5", from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))

    page = await Repricing(database, PriceCatalogue([dearer])).page(query, "", now_ms=START_MS, apply=False)
    assert [(entry.event_id, entry.cost_nano_usd) for entry in page.corrections] == [(an_event_id(2), 30_000 * 10_000)]
    (corrected,) = await corrections.correct([FIGURES], now_ms=START_MS, actor="cli")
    assert (corrected.before_nano_usd, corrected.after_nano_usd) == (77, 77)
    assert corrected.correction is not None
    assert (corrected.correction.prompt_tokens, corrected.correction.cost_nano_usd) == (-10, 0)


async def test_figures_and_corrected_prices_leave_the_fee_as_it_was(
    database: Database, book: Book, corrections: Corrections
) -> None:
    fee = 2_000_000
    await book.record([an_assumed(cost_nano_usd=PRICE.cost_nano_usd(ASSUMED) + fee, fee_nano_usd=fee)])
    await corrections.correct([FIGURES], now_ms=START_MS, actor="cli")
    assert (await sums_by_name(database))["cost_nano_usd"] == PRICE.cost_nano_usd(TRUE) + fee

    dearer = repriced(PRICE, version="gpt-5@2", output=20_000_000)
    query = RepriceQuery(model="gpt-5", from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))
    repricing = Repricing(database, PriceCatalogue([dearer]))
    page = await repricing.page(query, "", now_ms=START_MS, apply=True)

    assert sum(entry.cost_nano_usd for entry in page.corrections) == dearer.cost_nano_usd(TRUE) - PRICE.cost_nano_usd(TRUE)
    assert (await sums_by_name(database))["cost_nano_usd"] == dearer.cost_nano_usd(TRUE) + fee
    assert not (await repricing.page(query, "", now_ms=START_MS, apply=True)).corrections
    async with database.read() as connection:
        assert (await connection.execute(select(func.sum(ENTRIES.c.fee_nano_usd)))).scalar_one() == fee


async def test_the_final_word_replaces_the_fee_of_an_expiry(database: Database, book: Book) -> None:
    fee = 2_000_000
    await book.record([an_entry(1, kind="expired", cost_nano_usd=fee, fee_nano_usd=fee)])
    await book.record([an_entry(1, kind="late", cost_nano_usd=0, settled_at_ms=START_MS + 1)])

    assert (await sums_by_name(database))["cost_nano_usd"] == 0
    async with database.read() as connection:
        rows = await connection.execute(select(ENTRIES.c.fee_nano_usd).order_by(ENTRIES.c.sequence))
        assert list(rows.scalars()) == [fee, -fee, 0]
