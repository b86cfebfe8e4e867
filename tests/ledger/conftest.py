"""Fixtures of the ledger's tests: each test runs on SQLite and on a real PostgreSQL."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from limiter_at_work import ORGANIZATIONS, LimiterAtWork
from marked_partitions import mark_all
from new_ledger import ledger_file, postgres_ledger

from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.opening import open_database
from tallygate.ledger.usage_queries import UsageQueries
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Address of an empty database at this version's tables."""
    if request.param == "sqlite":
        (tmp_path / "ledger.db").write_bytes(await ledger_file())
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    async with postgres_ledger(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
async def open_another(database_url: str, tmp_path: Path) -> AsyncIterator[Callable[[], Database]]:
    """Opens the same database again, as another process would."""
    opened: list[Database] = []

    def again() -> Database:
        opened.append(open_database(database_url, tmp_path))
        return opened[-1]

    yield again
    for database in opened:
        await database.close()


@pytest.fixture
def database(open_another: Callable[[], Database]) -> Database:
    return open_another()


@pytest.fixture
def book(database: Database) -> Book:
    return Book(database)


@pytest.fixture
def queries(database: Database) -> UsageQueries:
    return UsageQueries(database)


@pytest.fixture
async def redis_store(valkey_url: str) -> AsyncIterator[RedisConnection]:
    """The limiter's own connection to an empty real Valkey."""
    opened = RedisConnection(parse_address(valkey_url), timeout_ms=10_000)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def at_work(redis_store: RedisConnection, database: Database) -> LimiterAtWork:
    """Some spend of two organizations, stored."""
    await mark_all(redis_store, "first")
    found = LimiterAtWork(redis_store, database)
    for index, organization in enumerate(ORGANIZATIONS):
        for nano_usd in (100, 230, 7):
            await found.spend(organization, f"{organization.id}-prod", nano_usd * (index + 1))
            await found.spend(organization, f"{organization.id}-test", nano_usd)
    await found.writer.drain()
    return found
