"""Fixtures of the API's tests: the API over a new ledger in SQLite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_world import World, served

from proxy.ledger.database import Database, open_database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = open_database("", tmp_path)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with served(database) as world:
        yield world
