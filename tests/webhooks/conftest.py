"""Fixtures of the webhooks' tests: a dispatcher over a ledger in SQLite."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from post import Clock, Post

from tallygate.ledger.database import open_database

sys.path.append(str(Path(__file__).parents[1] / "ledger"))  # where the ledger's tests keep their notices


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    database = open_database("", tmp_path)
    await database.migrate()
    made = Post(database=database, clock=Clock())
    yield made
    for sender in made.senders:
        await sender.close()
    await database.close()
