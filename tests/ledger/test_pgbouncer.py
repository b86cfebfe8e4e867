"""The ledger through a pgbouncer with its settings as they come: transactions of many clients take turns in few sessions."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ledger_values import START_MS, an_entry, assert_no_drift
from new_ledger import postgres_ledger
from pgbouncer_process import running_pgbouncer
from postgres_process import PostgresProcess
from sqlalchemy import text

from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.opening import open_database

pytestmark = pytest.mark.process

_CLIENTS = 6
_BATCHES = 12
_EVENTS = 5  # of a batch
_SESSIONS = 2


@pytest.fixture(params=["transaction", "session"])
async def databases(
    request: pytest.FixtureRequest, postgres_server: PostgresProcess, tmp_path: Path
) -> AsyncIterator[list[Database]]:
    """The same ledger, opened as by several processes, behind one pgbouncer."""
    mode = request.param
    sessions = _SESSIONS if mode == "transaction" else 2 * _CLIENTS * 4  # a session of its own for each connection
    async with postgres_ledger(postgres_server) as url:
        with running_pgbouncer(postgres_server, mode, sessions=sessions) as pooler:
            opened = [open_database(pooler.url(url.rpartition("/")[2]), tmp_path) for _ in range(_CLIENTS)]
            yield opened
            for database in opened:
                await database.close()


async def test_writers_and_readers_take_turns_and_every_sum_is_right(databases: list[Database]) -> None:
    async def write(client: int, database: Database) -> None:
        await database.migrate()
        for batch in range(_BATCHES):
            first = 1 + (client * _BATCHES + batch) * _EVENTS
            await Book(database).record([an_entry(number) for number in range(first, first + _EVENTS)], now_ms=START_MS)

    async def read(database: Database) -> None:
        for _ in range(2 * _BATCHES):
            async with database.read() as connection:  # one snapshot: both questions see the same
                entries = (
                    await connection.execute(text("SELECT count(*) FROM entries WHERE org = :org"), {"org": "acme"})
                ).scalar()
                await asyncio.sleep(0)
                again = (await connection.execute(text("SELECT count(*) FROM entries WHERE org = :org"), {"org": "acme"})).scalar()
                assert entries == again
                assert (await connection.execute(text("SELECT current_setting('jit')"))).scalar() == "off"

    await asyncio.gather(
        *(write(number, database) for number, database in enumerate(databases)), *(read(database) for database in databases)
    )
    requests, *_ = await assert_no_drift(databases[0])
    assert requests == _CLIENTS * _BATCHES * _EVENTS
