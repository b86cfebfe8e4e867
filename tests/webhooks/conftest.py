"""Fixtures of the webhooks' tests: a dispatcher over a ledger in SQLite."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from new_ledger import new_ledger
from post import Clock, Post

sys.path.append(str(Path(__file__).parents[1] / "ledger"))  # where the ledger's tests keep their notices


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    database = await new_ledger(tmp_path)
    made = Post(database=database, clock=Clock())
    yield made
    for sender in made.senders:
        await sender.close()
    await database.close()
