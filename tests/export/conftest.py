"""Fixtures of the export's tests: a ledger with its book, on SQLite and on a real PostgreSQL."""

import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from tallygate.ledger.book import Book
from tallygate.ledger.database import Database, open_database

sys.path.append(str(Path(__file__).parents[1] / "ledger"))  # its PostgreSQL server, whichever tests are run
from postgres_process import running_postgres

_names = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Of a server for the session, to which a database's name is appended."""
    with running_postgres() as server:
        yield server.url("")


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Empty, at this version's tables."""
    url = ""
    if request.param == "postgresql":
        server, name = request.getfixturevalue("postgres_url"), f"export_{next(_names)}"
        connection = await asyncpg.connect(f"{server}postgres")
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        url = f"{server}{name}"
    opened = open_database(url, tmp_path)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    """For what does not depend on the database."""
    opened = open_database("", tmp_path)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def book(database: Database) -> Book:
    return Book(database)
