"""Lifetime totals: what the entries came to, whatever is told, corrected or purged, and never less than before."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from ledger_values import START_MS, an_entry, sums
from old_rollups import put_back, upgrade
from sqlalchemy import Connection, func, select, update

from tallygate.domain.organization import Organization, Plan
from tallygate.ledger.audit import lifetime_drifts
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import Entry, Kind
from tallygate.ledger.lifetime import TotalKey, charged_model
from tallygate.ledger.migrations.versions import v0004_lifetime_totals
from tallygate.ledger.opening import open_database
from tallygate.ledger.retention import Retention
from tallygate.ledger.schema import AMOUNTS, LIFETIME_AMOUNTS, LIFETIME_SUMS, LIFETIME_TOTALS
from tallygate.ledger.time_buckets import DAY_MS

CHAT = ("acme", "acme-prod", "chat", "gpt-4o")
GPT, MINI = "gpt-4o@2024-08-06.1f2e3d4c", "gpt-4o-mini@2024-07-18.00000000"


async def totals(database: Database) -> dict[TotalKey, dict[str, int]]:
    """Amounts that are not 0, of each row."""
    async with database.read() as connection:
        rows = (await connection.execute(select(LIFETIME_TOTALS))).mappings().all()
    return {
        TotalKey(**{name: row[name] for name in TotalKey._fields}): {name: row[name] for name in LIFETIME_AMOUNTS if row[name]}
        for row in rows
    }


async def net(database: Database) -> tuple[int, ...]:
    """What the totals of served requests come to, in the order of AMOUNTS but for cache writes, which no counter shows."""
    columns = LIFETIME_TOTALS.c
    wanted = [func.coalesce(func.sum(columns[name] - columns[f"credited_{name}"]), 0) for name in LIFETIME_SUMS]
    async with database.read() as connection:
        row = await connection.execute(
            select(func.coalesce(func.sum(columns.requests), 0), *wanted).where(columns.outcome != "refused")
        )
        return tuple(map(int, row.one()))


async def assert_totals_equal_entries(database: Database) -> None:
    of_entries = dict(zip(AMOUNTS, (await sums(database))["entries"], strict=True))
    assert await net(database) == tuple(of_entries[name] for name in ("requests", *LIFETIME_SUMS))


def refused(requests: int, org: str = "acme", refused_by: str = "requests_1m") -> RefusalCount:
    credential = "acme-prod" if org == "acme" else "other"
    return RefusalCount(org=org, credential=credential, capability="chat", refused_by=refused_by, status=429, requests=requests)


async def test_totals_stand_beside_the_entries_under_every_label_of_a_counter(database: Database, book: Book) -> None:
    await book.record([an_entry(1), an_entry(2), an_entry(3, outcome="truncated", usage_source="counted", price_version=None)])

    assert await totals(database) == {
        TotalKey(*CHAT, "success", "upstream"): {
            "requests": 2,
            "prompt_tokens": 200,
            "completion_tokens": 40,
            "cached_tokens": 80,
            "reasoning_tokens": 10,
            "cost_nano_usd": 1_000_000,
        },
        TotalKey("acme", "acme-prod", "chat", "other", "truncated", "counted"): {
            "requests": 1,
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "cached_tokens": 40,
            "reasoning_tokens": 5,
            "cost_nano_usd": 500_000,
        },
    }


@pytest.mark.parametrize(
    ("version", "model"),
    [
        (GPT, "gpt-4o"),
        ("mistral@eu@2025-01-01.aaaaaaaa", "mistral@eu"),
        ("dearest.gpt-4o@2024-08-06.1f2e3d4c", "other"),
        (None, "other"),
        ("odd", "other"),
        ("", "other"),
    ],
)
def test_a_model_is_the_priced_name_that_was_charged(version: str | None, model: str) -> None:
    assert charged_model(version) == model


def _expired_then_late(final_nano_usd: int, late_version: str = GPT) -> tuple[Entry, Entry]:
    checkpoint = an_entry(
        kind="expired",
        outcome="expired",
        usage_source="checkpoint",
        cost_nano_usd=300,
        prompt_tokens=120,
        completion_tokens=7,
        cached_tokens=50,
        reasoning_tokens=0,
        price_version=GPT,
    )
    final = an_entry(
        kind="late",
        cost_nano_usd=final_nano_usd,
        posted=final_nano_usd - 300,
        settled_at_ms=START_MS + 60_000,
        price_version=late_version,
    )
    return checkpoint, final


@pytest.mark.parametrize("together", [True, False])
async def test_what_a_late_word_takes_back_is_credited_and_its_request_counts_once(
    database: Database, book: Book, together: bool
) -> None:
    checkpoint, final = _expired_then_late(100)
    for batch in [[checkpoint, final]] if together else [[checkpoint], [final], [final]]:
        await book.record(batch)

    assert await totals(database) == {
        TotalKey(*CHAT, "expired", "checkpoint"): {
            "requests": 1,
            "prompt_tokens": 120,
            "completion_tokens": 7,
            "cached_tokens": 50,
            "cost_nano_usd": 300,
            "expired_holds": 1,
        },
        TotalKey(*CHAT, "success", "upstream"): {
            "completion_tokens": 13,
            "reasoning_tokens": 5,
            "credited_prompt_tokens": 20,
            "credited_cached_tokens": 10,
            "credited_cost_nano_usd": 200,
            "late_settlements": 1,
        },
    }
    await assert_totals_equal_entries(database)


async def test_a_late_word_of_another_model_moves_everything_to_it(database: Database, book: Book) -> None:
    await book.record(list(_expired_then_late(100, MINI)))

    found = await totals(database)
    assert found[TotalKey(*CHAT, "expired", "checkpoint")]["credited_cost_nano_usd"] == 300
    assert found[TotalKey(*CHAT[:3], "gpt-4o-mini", "success", "upstream")]["cost_nano_usd"] == 100
    await assert_totals_equal_entries(database)


async def test_a_late_word_that_came_before_its_expiry_is_the_one_that_counts(database: Database, book: Book) -> None:
    checkpoint, final = _expired_then_late(100)
    for batch in ([final], [checkpoint], [final, checkpoint]):
        await book.record(batch)

    found = await totals(database)
    assert found[TotalKey(*CHAT, "success", "upstream")]["requests"] == 1
    assert found[TotalKey(*CHAT, "expired", "checkpoint")] == {"expired_holds": 1}
    await assert_totals_equal_entries(database)


@pytest.mark.parametrize(
    ("kind", "flags", "odd"),
    [
        ("settled", ("overrun",), {"overruns": 1}),
        ("late", ("unpriced", "overrun"), {"overruns": 1, "late_settlements": 1}),
        ("unheld", ("overrun",), {"unheld_settlements": 1}),
        ("expired", ("overrun",), {"expired_holds": 1}),
        ("released", (), {}),
    ],
)
async def test_odd_settlements_are_counted(
    database: Database, book: Book, kind: str, flags: tuple[str, ...], odd: dict[str, int]
) -> None:
    await book.record([an_entry(kind=kind, flags=flags)])

    [row] = (await totals(database)).values()
    names = ("overruns", "late_settlements", "unheld_settlements", "expired_holds")
    assert {name: row[name] for name in names if name in row} == odd


async def test_a_settlement_taken_twice_counts_once(database: Database, book: Book) -> None:
    await book.record([an_entry()])
    before = await totals(database)
    await book.record([an_entry(kind="unheld", settled_at_ms=START_MS + 90_000_000), an_entry()])

    assert await totals(database) == before


async def test_a_correction_goes_to_the_model_that_was_charged(database: Database, book: Book) -> None:
    await book.record([an_entry()])
    nothing = dict.fromkeys(("requests", *LIFETIME_SUMS), 0)
    for sequence, difference in ((1, 7), (2, -90)):
        correction = an_entry(price_version=MINI)
        values = {name: getattr(correction, name) for name in Entry.__struct_fields__}
        values |= {**nothing, "sequence": sequence, "kind": Kind.REPRICED, "cost_nano_usd": difference, "cache_write_tokens": 0}
        entry = Entry(**values)
        async with database.write() as connection:
            numbering = await book.correct(connection, [entry], charged_as={entry.event_id: "gpt-4o"})
        book.committed(numbering)

    [row] = (await totals(database)).values()
    assert (row["cost_nano_usd"], row["credited_cost_nano_usd"]) == (500_007, 90)
    await assert_totals_equal_entries(database)


async def test_refusals_are_requests_and_those_of_nobody_are_no_usage(database: Database, book: Book) -> None:
    for requests in (3, 3, 5):
        await book.add_refusals("worker-0", [refused(requests), refused(1, refused_by="spend_7d"), refused(2, "other")], at_ms=1)

    assert await totals(database) == {
        TotalKey("acme", "acme-prod", "chat", "", "refused", ""): {"requests": 6},
        TotalKey("other", "other", "chat", "", "refused", ""): {"requests": 2},
    }


async def test_two_consoles_that_take_the_same_refusals_count_them_once(open_another: Callable[[], Database]) -> None:
    databases = [open_another() for _ in range(3)]
    books = [Book(database) for database in databases]
    for requests in range(1, 15):
        await asyncio.gather(*(book.add_refusals("worker-0", [refused(requests)], at_ms=START_MS) for book in books))

    assert await totals(databases[0]) == {TotalKey("acme", "acme-prod", "chat", "", "refused", ""): {"requests": 14}}


async def _record_at_last(book: Book, batch: list[Entry]) -> None:
    """As the writer does: what another one was in the way of is told again."""
    for _ in range(100):
        try:
            await book.record(batch)
        except LedgerUnavailableError:
            await asyncio.sleep(0)
        else:
            return
    pytest.fail("the batch was never taken")


@pytest.mark.parametrize("seed", range(3))
async def test_many_writers_and_any_order_come_to_what_the_entries_say(open_another: Callable[[], Database], seed: int) -> None:
    """Told twice, in batches of any cut, checkpoints before or after their final word; no total ever falls."""
    chosen = random.Random(seed)
    told: list[Entry] = []
    for number in range(60):
        org, version = f"org-{number % 3}", chosen.choice([GPT, MINI, None])
        amounts = {"cost_nano_usd": chosen.randrange(1000), "prompt_tokens": chosen.randrange(100), "cached_tokens": 0}
        final = an_entry(number, kind=chosen.choice(["settled", "late", "unheld", "released"]), org=org, **amounts)
        told += [final, final]
        if final.kind is Kind.LATE:
            told.append(
                an_entry(number, kind="expired", outcome="expired", org=org, price_version=version, settled_at_ms=START_MS - 1)
            )
    databases = [open_another() for _ in range(3)]
    seen: dict[TotalKey, dict[str, int]] = {}

    async def write(database: Database, mine: list[Entry]) -> None:
        book = Book(database)
        for start in range(0, len(mine), 17):
            await _record_at_last(book, mine[start : start + 17])
            for key, row in (await totals(database)).items():
                before = seen.setdefault(key, {})
                if database is databases[0]:
                    assert all(row.get(name, 0) >= amount for name, amount in before.items())
                    before.update(row)

    await asyncio.gather(*(write(database, chosen.sample(told, len(told))) for database in databases))

    assert (await net(databases[0]))[0] == 60
    await assert_totals_equal_entries(databases[0])


async def test_the_migration_fills_totals_from_what_is_there(database_url: str, tmp_path: Path) -> None:
    database = open_database(database_url, tmp_path)
    book = Book(database)
    checkpoint, final = _expired_then_late(100)
    others = [
        an_entry(n, org=f"org-{n % 2}", settled_at_ms=START_MS + n * 86_400_000 * 20, flags=("overrun",)) for n in range(2, 9)
    ]
    await book.record([checkpoint, final, *others])
    await book.add_refusals("worker-0", [refused(5)], at_ms=START_MS)
    await book.fold()
    moved = await totals(database)

    def fill_again(connection: Connection) -> None:
        put_back(connection)
        LIFETIME_TOTALS.drop(connection)
        with Operations.context(MigrationContext.configure(connection)):
            v0004_lifetime_totals.upgrade()
        upgrade(connection, "0013", "head")

    async with database.write() as connection:
        await connection.run_sync(fill_again)

    filled = await totals(database)
    late = TotalKey(*CHAT, "success", "upstream")
    whole = {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 40, "reasoning_tokens": 5, "cost_nano_usd": 100}
    assert filled.pop(late) == {**whole, "late_settlements": 1}, "what was taken back before is not told apart"
    assert filled.pop(TotalKey(*CHAT, "expired", "checkpoint")) == {"requests": 1, "expired_holds": 1}
    assert filled == {key: row for key, row in moved.items() if key in filled}
    assert len(filled) == 3
    await assert_totals_equal_entries(database)
    await database.close()


async def test_an_audit_finds_the_totals_right_before_and_after_a_purge(database: Database, book: Book) -> None:
    old, new = START_MS - 40 * DAY_MS, START_MS
    await book.record([an_entry(n, settled_at_ms=old if n % 2 else new, credential=f"key-{n % 3}") for n in range(2, 14)])
    await book.record(list(_expired_then_late(100)))
    await book.add_refusals("worker-0", [refused(3)], at_ms=old)
    await book.add_refusals("worker-0", [refused(8), refused(2, "other")], at_ms=new)
    before = await totals(database)
    assert await lifetime_drifts(database, "acme") == []

    organization = Organization(id="acme", name="Acme", plan=Plan(id="p", history_days=30))
    for _ in range(2):
        await Retention(database, pause_seconds=0).purge([organization], START_MS)
        assert await lifetime_drifts(database, "acme") == []
    late_again = an_entry(50, settled_at_ms=old)
    await book.record([late_again])
    await Retention(database, pause_seconds=0).purge([organization], START_MS)

    assert await lifetime_drifts(database, "acme") == []
    assert (await sums(database))["rollups.series.1440m"][0] == 7, "something was purged"
    after = await totals(database)
    assert {key: after[key] for key in before if key.credential.startswith("key-")} == {
        key: row for key, row in before.items() if key.credential.startswith("key-")
    }


async def test_an_audit_finds_a_total_that_is_wrong(database: Database, book: Book) -> None:
    await book.record([an_entry()])
    await book.add_refusals("worker-0", [refused(3)], at_ms=START_MS)
    async with database.write() as connection:
        amounts = {"cost_nano_usd": LIFETIME_TOTALS.c.cost_nano_usd + 7, "requests": LIFETIME_TOTALS.c.requests + 1}
        await connection.execute(update(LIFETIME_TOTALS).values(amounts))

    drifts = {drift.amount: (drift.expected, drift.found) for drift in await lifetime_drifts(database, "acme")}

    assert drifts == {"requests": (1, 2), "cost_nano_usd": (500_000, 500_014), "refused": (3, 4)}
