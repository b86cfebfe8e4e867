"""Fixtures of the export's tests: a ledger with its book, on SQLite and on a real PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from new_ledger import new_ledger, postgres_ledger

from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.opening import open_database


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Empty, at this version's tables."""
    if request.param == "sqlite":
        opened = await new_ledger(tmp_path)
        yield opened
        await opened.close()
        return
    async with postgres_ledger(request.getfixturevalue("postgres_server")) as url:
        opened = open_database(url, tmp_path)
        yield opened
        await opened.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    """For what does not depend on the database."""
    opened = await new_ledger(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def book(database: Database) -> Book:
    return Book(database)
