"""Fixtures of the API's tests: the API over a new ledger, in SQLite and in a real PostgreSQL."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_world import World, served
from new_ledger import new_ledger, postgres_ledger
from postgres_process import PostgresProcess

from tallygate.ledger.database import Database
from tallygate.ledger.entry_months import EntryMonths
from tallygate.ledger.opening import open_database

sys.path.append(str(Path(__file__).parents[1] / "ledger"))  # where the ledger's tests keep their notices


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = await new_ledger(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with served(database) as world:
        yield world


@pytest.fixture
async def postgres_world(postgres_server: PostgresProcess, tmp_path: Path) -> AsyncIterator[World]:
    """The same over PostgreSQL, for what has SQL of its own."""
    async with postgres_ledger(postgres_server) as url:
        database = open_database(url, tmp_path)
        await EntryMonths(database).make(1_700_000_000_000, 1_800_000_000_000)
        async with served(database) as world:
            yield world
        await database.close()
