"""Whether the ledger's database takes writes: a full disk, a lock, a server made read-only, an account without privileges."""

import asyncio
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from new_ledger import ledger_file, postgres_ledger
from postgres_process import PostgresProcess
from sqlalchemy import Connection

from tallygate.app.stores import open_ledger
from tallygate.config.settings import load_settings
from tallygate.domain.errors import StoreError
from tallygate.domain.obstacle import Obstacle
from tallygate.ledger import opening
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.opening import open_database


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


async def obstacle_of(opened: Database) -> Obstacle | None:
    try:
        await opened.check_writes()
    except LedgerUnavailableError as error:
        return error.obstacle or Obstacle("unknown", str(error))
    return None


async def test_a_database_that_takes_writes_has_no_obstacle_and_keeps_its_version(
    database: Database, open_another: Callable[[], Database]
) -> None:
    await database.check_writes()
    await open_another().migrate()  # it is at the newest version still, and that is all that it does


async def test_a_commit_is_told_and_what_is_undone_is_not(database: Database) -> None:
    told: list[None] = []
    database.on_commit = lambda: told.append(None)

    def fail(_connection: Connection) -> None:
        raise ZeroDivisionError

    with suppress(ZeroDivisionError):
        await database.transact(fail)
    assert not told
    await database.transact(lambda _connection: None)
    assert len(told) == 1


@pytest.mark.process
async def test_a_full_disk_is_named(small_disk: Path) -> None:
    (small_disk / "ledger.db").write_bytes(await ledger_file())
    opened = open_database("", small_disk)
    assert await obstacle_of(opened) is None
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 512):
            pass
    found = None
    for _ in range(50):  # the log of writes has some room left that is its own
        found = found or await obstacle_of(opened)
    assert found is not None
    assert found.name == "disk"
    filler.unlink()
    assert await obstacle_of(opened) is None
    await opened.close()


async def test_a_database_that_another_process_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_MS", 10)
    (tmp_path / "ledger.db").write_bytes(await ledger_file())
    opened = open_database("", tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db", isolation_level=None) as other:
        await opened.check_writes()
        other.execute("BEGIN IMMEDIATE")
        assert (await obstacle_of(opened)) == Obstacle("locked", "takes no writes: another process keeps it locked")
        other.execute("ROLLBACK")
    assert await obstacle_of(opened) is None
    await opened.close()


async def test_a_command_waits_longer_for_others_writes_than_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_MS", 10)
    monkeypatch.setattr(opening, "COMMAND_BUSY_MS", 20_000)
    (tmp_path / "ledger.db").write_bytes(await ledger_file())
    server, command = open_database("", tmp_path), open_database("", tmp_path, is_command=True)
    with sqlite3.connect(tmp_path / "ledger.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError) as given_up:
            await server.check_writes()
        assert given_up.value.reason == "takes no writes: another process keeps it locked (database is locked)"
        writing = asyncio.ensure_future(command.check_writes())
        await asyncio.sleep(0.05)
        assert not writing.done()
        other.execute("ROLLBACK")
        await writing
    await server.close()
    await command.close()


async def test_a_command_that_waited_in_vain_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "COMMAND_BUSY_MS", 10)
    (tmp_path / "ledger.db").write_bytes(await ledger_file())
    with sqlite3.connect(tmp_path / "ledger.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="takes no writes: another process keeps it locked"):
            await open_ledger(load_settings({"data_dir": str(tmp_path)}), is_command=True)


async def test_a_read_only_server_and_an_account_without_privileges_are_named(
    postgres_server: PostgresProcess, tmp_path: Path
) -> None:
    async with postgres_ledger(postgres_server) as url:
        name = url.rpartition("/")[2]
        admin = await asyncpg.connect(url)
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        opened = open_database(url, tmp_path)
        found = await obstacle_of(opened)
        assert found is not None
        assert found.name == "read_only"
        await opened.close()
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await admin.execute("DROP ROLE IF EXISTS reader")
        await admin.execute("CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        opened = open_database(url.replace("//tallygate@", "//reader@"), tmp_path)
        found = await obstacle_of(opened)
        assert found is not None
        assert found.name == "permission"
        await opened.close()
        await admin.execute("DROP OWNED BY reader; DROP ROLE reader")
        await admin.close()


async def test_tables_and_a_database_that_are_not_there_are_named(postgres_server: PostgresProcess, tmp_path: Path) -> None:
    async with postgres_ledger(postgres_server) as url:
        opened = open_database(url, tmp_path)
        assert await obstacle_of(opened) is None
        admin = await asyncpg.connect(url)
        await admin.execute("ALTER TABLE ledger_version RENAME TO elsewhere")
        await admin.close()
        found = await obstacle_of(opened)
        assert found is not None
        assert found.name == "tables"
        await opened.close()
    opened = open_database(url, tmp_path)
    found = await obstacle_of(opened)
    assert found is not None
    assert (found.name, found.text) == ("missing", "is not there: its server has no database of that name")
    await opened.close()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 1_000)
    opened = open_database("", tmp_path)
    found = await obstacle_of(opened)
    assert found is not None
    assert found.name == "damaged"
    await opened.close()
