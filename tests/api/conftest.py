"""Fixtures of the API's tests: the API over a new ledger, in SQLite and in a real PostgreSQL."""

import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from api_world import World, served

from tallygate.ledger.database import Database, open_database

sys.path.append(str(Path(__file__).parents[1] / "ledger"))  # where the tests of the ledger keep their PostgreSQL
from postgres_process import PostgresProcess, running_postgres

_names = itertools.count()


@pytest.fixture(scope="session")
def api_postgres() -> Iterator[PostgresProcess]:
    with running_postgres() as server:
        yield server


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Database]:
    database = open_database(url, folder)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened("", tmp_path) as made:
        yield made


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with served(database) as world:
        yield world


@pytest.fixture
async def postgres_world(api_postgres: PostgresProcess, tmp_path: Path) -> AsyncIterator[World]:
    """The same over PostgreSQL, for what has SQL of its own."""
    name = f"api_{next(_names)}"
    connection = await asyncpg.connect(api_postgres.url())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    async with opened(api_postgres.url(name), tmp_path) as database:
        await database.ensure_partitions(1_700_000_000_000, 1_800_000_000_000)
        async with served(database) as world:
            yield world
