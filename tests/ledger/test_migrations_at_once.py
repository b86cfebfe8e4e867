"""Processes that start at once on a new database bring its tables there together, and tell it once."""

import asyncio
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from postgres_process import PostgresProcess

from tallygate.ledger import opening, table_version
from tallygate.ledger.database import MIGRATION_WAITS
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.opening import open_database
from tallygate.ledger.table_version import newest_version

AT_ONCE = 5
SECONDS_MAX = 60
PROGRAM = """
import asyncio, logging, sys
from pathlib import Path
from tallygate.ledger.opening import open_database

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")

async def main():
    database = open_database(sys.argv[1], Path(sys.argv[2]))
    print("waiting", flush=True)
    sys.stdin.readline()
    await database.migrate()
    await database.close()

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "postgresql"])
async def new_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Address of a database that nobody has migrated yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/new.db"
        return
    server: PostgresProcess = request.getfixturevalue("postgres_server")
    connection = await asyncpg.connect(server.url())
    await connection.execute("CREATE DATABASE migrated_at_once")
    yield server.url("migrated_at_once")
    await connection.execute("DROP DATABASE migrated_at_once WITH (FORCE)")
    await connection.close()


async def migrated_at_once(url: str, data_dir: Path) -> list[str]:
    """What each process printed after all of them were let go at the same moment."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, url, str(data_dir)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        for _ in range(AT_ONCE)
    ]
    for process in processes:
        assert await process.stdout.readline() == b"waiting\n"
    told = await asyncio.wait_for(asyncio.gather(*(process.communicate(b"go\n") for process in processes)), SECONDS_MAX)
    assert [(process.returncode, output) for process, (output, _) in zip(processes, told, strict=True) if process.returncode] == []
    return [line for output, _ in told for line in output.decode().splitlines()]


async def test_processes_that_start_at_once_on_a_new_database_migrate_it_once(new_database_url: str, tmp_path: Path) -> None:
    told = await migrated_at_once(new_database_url, tmp_path)

    (line,) = told
    assert "tables were brought to version" in line
    assert await migrated_at_once(new_database_url, tmp_path) == []


async def test_the_version_before_is_the_one_that_the_tables_had_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    database = open_database("", tmp_path)
    known = [version for version in table_version.versions() if version <= "0023"]
    with monkeypatch.context() as older:
        older.setattr(table_version, "versions", lambda: known)
        older.setattr(table_version, "MILESTONES", ())
        await database.migrate()
    await database.migrate()
    await database.migrate()
    await database.close()
    told = [record.fields["before"] for record in caplog.records if "tables were brought" in record.message]
    assert told == [None, "0023"]


def test_the_newest_version_is_what_the_migrations_end_at() -> None:
    config = Config()
    config.set_main_option("script_location", "tallygate.ledger:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == newest_version()


async def test_who_starts_while_another_process_migrates_waits_several_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BUSY_MS", 20)
    writing = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    writing.execute("PRAGMA journal_mode=WAL")
    writing.execute("BEGIN IMMEDIATE")
    database = open_database("", tmp_path)
    with pytest.raises(LedgerUnavailableError, match="locked"):
        await database.migrate()

    tries = 0
    write = database.write

    def counted() -> object:
        nonlocal tries
        tries += 1
        if tries == MIGRATION_WAITS:
            writing.execute("ROLLBACK")
        return write()

    monkeypatch.setattr(database, "write", counted)
    await database.migrate()
    assert tries == MIGRATION_WAITS + len(table_version.MILESTONES)
    writing.close()
    await database.close()
