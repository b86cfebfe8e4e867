"""The spend by what was paid for: exactly the cost of the entries, through whatever corrects them, and never falling."""

import random
from pathlib import Path
from typing import Any

import pytest
from ledger_values import START_MS, a_fact, an_entry, an_event_id, stream_fields
from old_rollups import put_back, upgrade
from prices import price_of, repriced
from sqlalchemy import Connection, func, select, update

from tallygate.config.catalogue import PriceCatalogue
from tallygate.domain.charge import charge_of
from tallygate.domain.organization import Organization, Plan
from tallygate.domain.unit_kind import KIND_COSTS
from tallygate.domain.usage import STANDARD, usage_of_totals
from tallygate.ledger.audit import lifetime_drifts
from tallygate.ledger.book import Book
from tallygate.ledger.corrections import Corrections, Figures
from tallygate.ledger.database import Database
from tallygate.ledger.directory.changes import Changes
from tallygate.ledger.entry import Entry, entry_of_stream
from tallygate.ledger.opening import open_database
from tallygate.ledger.reprice import RepriceQuery, Repricing
from tallygate.ledger.retention import Retention
from tallygate.ledger.schema import ENTRIES, LIFETIME_SPEND, LIFETIME_TOTALS
from tallygate.ledger.time_buckets import DAY_MS

PRICE = price_of(model="gpt-5", version="gpt-5@1", effective_ms=0, input=1_250_000, output=10_000_000, cached_input=125_001)
QUERY = RepriceQuery(model="gpt-5", from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))
USED = usage_of_totals(prompt=1_003, completion=77, cached=501)
SPLIT = {"input": 627_500, "cache_read": 62_626, "output": 770_000}  # 502 * 1,250 and 501 * 125.001 up to the next nano-USD
COST = 1_460_126


def charged(number: int = 1, *, fee: int = 0, **changed: Any) -> Entry:
    """An event of USED."""
    cost = charge_of(USED, STANDARD, PRICE, lambda _: None)
    fields: dict[str, Any] = {
        "request_model": "gpt-5",
        "response_model": "gpt-5",
        "price_version": PRICE.version,
        "prompt_tokens": 1_003,
        "completion_tokens": 77,
        "cached_tokens": 501,
        "reasoning_tokens": 0,
        "cost_nano_usd": cost.cost_nano_usd + fee,
        "fee_nano_usd": fee,
        **cost.by_kind,
    }
    return an_entry(number, **fields | changed)


async def spend(database: Database) -> dict[str, tuple[int, int]]:
    """(counted, credited) by kind."""
    columns = LIFETIME_SPEND.c
    sums = select(columns.kind, func.sum(columns.nano_usd), func.sum(columns.credited_nano_usd)).group_by(columns.kind)
    async with database.read() as connection:
        return {kind: (int(counted), int(credited)) for kind, counted, credited in await connection.execute(sums)}


async def net(database: Database) -> dict[str, int]:
    return {kind: counted - credited for kind, (counted, credited) in (await spend(database)).items() if counted != credited}


async def assert_exact(database: Database) -> None:
    """The kinds add up to the entries' cost and to the lifetime totals', and each of them to its own."""
    columns = LIFETIME_TOTALS.c
    async with database.read() as connection:
        of_entries = (await connection.execute(select(func.coalesce(func.sum(ENTRIES.c.cost_nano_usd), 0)))).scalar_one()
        total = select(func.sum(columns.cost_nano_usd - columns.credited_cost_nano_usd))
        of_totals = (await connection.execute(total)).scalar_one()
    assert sum((await net(database)).values()) == int(of_totals) == int(of_entries)
    assert await lifetime_drifts(database, "acme") == []


def corrections(database: Database, price: Any = PRICE) -> Corrections:
    async def woken() -> None:
        """Nobody follows."""

    return Corrections(database, PriceCatalogue([price]), Changes(database, now_ms=lambda: START_MS + 5, on_committed=woken))


async def test_every_kind_of_an_event_is_counted_and_its_fee(database: Database, book: Book) -> None:
    await book.record([charged(1, fee=2_000_000), charged(2), charged(1, fee=2_000_000)])

    assert await spend(database) == {kind: (2 * amount, 0) for kind, amount in SPLIT.items()} | {"fee": (2_000_000, 0)}
    assert sum(SPLIT.values()) == COST == charged().cost_nano_usd
    await assert_exact(database)


@pytest.mark.parametrize("together", [True, False])
async def test_what_expired_is_taken_back_kind_by_kind(database: Database, book: Book, together: bool) -> None:
    """A first word has no kinds yet, a checkpoint has some; the late settlement replaces either."""
    unseen = charged(1, kind="expired", cost_nano_usd=9_000_000, **dict.fromkeys(KIND_COSTS, 0))
    checkpoint = charged(2, kind="expired", output_nano_usd=800_000, cost_nano_usd=COST + 30_000)
    late = [charged(number, kind="late", settled_at_ms=START_MS + 60_000) for number in (1, 2)]
    for batch in [[unseen, checkpoint, *late]] if together else [[unseen, checkpoint], late, late]:
        await book.record(batch)

    assert await spend(database) == {
        "other": (9_000_000, 9_000_000),
        "input": (2 * SPLIT["input"], 0),
        "cache_read": (2 * SPLIT["cache_read"], 0),
        "output": (800_000 + SPLIT["output"], 30_000),
    }
    await assert_exact(database)


async def test_nothing_is_left_of_a_hold_that_is_withdrawn(database: Database, book: Book) -> None:
    fact = a_fact(1, cost_nano_usd=500, fee_nano_usd=100, input_nano_usd=400)
    words = stream_fields(fact) | {b"cost_nano_usd": b"0", b"posted_nano_usd": b"0"}
    await book.record([entry_of_stream(words[b"event"], words)])
    granted = stream_fields(a_fact(2, cost_nano_usd=500, input_nano_usd=500)) | {b"cost_nano_usd": b"300"}
    await book.record([entry_of_stream(granted[b"event"], granted)])

    assert await spend(database) == {"other": (300, 0)}, "the limiter counted less than the event: nobody knows of what"
    await assert_exact(database)


async def test_a_corrected_price_moves_what_it_changes(database: Database, book: Book) -> None:
    await book.record([charged(1, fee=100)])
    moved = repriced(PRICE, version="gpt-5@2", input=1_000_000, output=12_000_000)
    for _ in range(2):
        await Repricing(database, PriceCatalogue([moved])).page(QUERY, "", now_ms=START_MS, apply=True)

    assert await spend(database) == {
        "input": (SPLIT["input"], 125_500),  # 502 * 250
        "cache_read": (SPLIT["cache_read"], 0),
        "output": (SPLIT["output"] + 154_000, 0),
        "fee": (100, 0),
    }
    await assert_exact(database)


async def test_corrected_figures_move_what_they_change(database: Database, book: Book) -> None:
    await book.record([charged(1)])
    figures = Figures(event_id=an_event_id(1), prompt_tokens=1_003, completion_tokens=100, cached_tokens=1_003)
    for _ in range(2):
        await corrections(database).correct([figures], now_ms=START_MS, actor="cli")

    cached = 125_377  # 1,003 * 125.001 and up
    assert await spend(database) == {
        "input": (SPLIT["input"], SPLIT["input"]),
        "cache_read": (cached, 0),
        "output": (1_000_000, 0),
    }
    await assert_exact(database)


async def test_what_was_charged_before_kinds_were_kept_gets_them_with_its_correction(database: Database, book: Book) -> None:
    old = dict.fromkeys(KIND_COSTS, 0)
    await book.record([charged(1, **old), charged(2, **old)])
    same = Figures(event_id=an_event_id(1), prompt_tokens=1_003, completion_tokens=77, cached_tokens=501)
    (looked,) = await corrections(database).correct([same], now_ms=START_MS, actor="cli")
    assert looked.correction is None, "the figures and the cost are right"
    dearer = Figures(event_id=an_event_id(2), prompt_tokens=1_003, completion_tokens=78, cached_tokens=501)
    await corrections(database).correct([dearer], now_ms=START_MS, actor="cli")

    assert await spend(database) == {
        "input": (SPLIT["input"], 0),
        "cache_read": (SPLIT["cache_read"], 0),
        "output": (780_000, 0),
        "other": (2 * COST, COST),
    }
    await assert_exact(database)


@pytest.mark.parametrize("seed", range(2))
async def test_any_order_of_anything_comes_to_the_entries_and_nothing_falls(database: Database, book: Book, seed: int) -> None:
    chosen = random.Random(seed)
    told: list[Entry] = []
    for number in range(40):
        parts = {name: chosen.choice([0, chosen.randrange(1_000)]) for name in chosen.sample(KIND_COSTS, 3)}
        fee, other = chosen.choice([0, 7]), chosen.choice([0, 0, chosen.randrange(50)])
        values = {**dict.fromkeys(KIND_COSTS, 0), **parts}
        final = charged(
            number,
            kind=chosen.choice(["settled", "late", "released"]),
            credential=f"key-{number % 2}",
            **values | {"cost_nano_usd": sum(parts.values()) + fee + other, "fee_nano_usd": fee},
        )
        told += [final, final]
        if final.kind == "late":
            told.append(charged(number, kind="expired", credential=final.credential, settled_at_ms=START_MS - 1))
    chosen.shuffle(told)
    seen: dict[str, tuple[int, int]] = {}
    for start in range(0, len(told), 9):
        await book.record(told[start : start + 9])
        now = await spend(database)
        assert all(before[0] <= now[kind][0] and before[1] <= now[kind][1] for kind, before in seen.items())
        seen = now
        await assert_exact(database)


async def test_a_purge_changes_no_counter_and_the_audit_still_adds_up(database: Database, book: Book) -> None:
    old = START_MS - 40 * DAY_MS
    await book.record(
        [charged(n, fee=5, settled_at_ms=old if n % 2 else START_MS, credential=f"key-{n % 3}") for n in range(2, 14)]
    )
    unseen = charged(50, kind="expired", cost_nano_usd=900, settled_at_ms=old, **dict.fromkeys(KIND_COSTS, 0))
    await book.record([unseen, charged(50, kind="late", settled_at_ms=old + 60_000, expired_at_ms=old)])
    before = await spend(database)
    organization = Organization(id="acme", name="Acme", plan=Plan(id="p", history_days=30))
    for _ in range(2):
        await Retention(database, pause_seconds=0).purge([organization], START_MS)
        assert await lifetime_drifts(database, "acme") == []

    assert await spend(database) == before
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(ENTRIES))).scalar_one() == 6
        gone = await connection.execute(select(func.sum(LIFETIME_SPEND.c.purged_nano_usd)))
        assert gone.scalar_one() == 6 * (COST + 5) + COST


async def test_the_audit_finds_a_kind_that_is_wrong(database: Database, book: Book) -> None:
    await book.record([charged(1)])
    async with database.write() as connection:
        for kind, more in (("input", 7), ("output", -7)):
            changed = update(LIFETIME_SPEND).where(LIFETIME_SPEND.c.kind == kind)
            await connection.execute(changed.values(nano_usd=LIFETIME_SPEND.c.nano_usd + more))

    found = [(drift.what, drift.where, drift.expected, drift.found) for drift in await lifetime_drifts(database, "acme")]

    assert found == [
        ("lifetime_spend", "acme acme-prod chat input", SPLIT["input"], SPLIT["input"] + 7),
        ("lifetime_spend", "acme acme-prod chat output", SPLIT["output"], SPLIT["output"] - 7),
    ]


async def test_the_migration_counts_what_was_before_as_fees_and_other(database_url: str, tmp_path: Path) -> None:
    database = open_database(database_url, tmp_path)
    book = Book(database)
    old = START_MS - 200 * DAY_MS
    unseen = charged(1, kind="expired", cost_nano_usd=COST + 900)
    await book.record(
        [unseen, charged(1, kind="late"), *(charged(n, fee=5, settled_at_ms=old + n * DAY_MS * 20) for n in range(2, 9))]
    )
    organization = Organization(id="acme", name="Acme", plan=Plan(id="p", history_days=100))
    assert await Retention(database, pause_seconds=0).purge([organization], START_MS)
    await book.fold()

    def as_before(connection: Connection) -> None:
        put_back(connection)
        upgrade(connection, "0013", "head")

    async with database.write() as connection:
        await connection.run_sync(as_before)

    async with database.read() as connection:
        kept = (await connection.execute(select(func.count()).where(ENTRIES.c.fee_nano_usd > 0))).scalar_one()
    assert 0 < kept < 7, "some were purged"
    assert await spend(database) == {"fee": (5 * kept, 0), "other": (8 * COST + 900 + 5 * (7 - kept), 900)}
    assert await lifetime_drifts(database, "acme") == []
    await book.record([charged(20)])
    assert {kind: (await net(database))[kind] for kind in SPLIT} == SPLIT
    assert await lifetime_drifts(database, "acme") == []
    await database.close()
