"""SQLite's write-ahead log does not keep the size of the greatest write."""

from pathlib import Path

from new_ledger import new_ledger
from sqlalchemy import text

from tallygate.ledger.database import Database
from tallygate.ledger.opening import WAL_BYTES_MAX


async def write_much(database: Database, size: int) -> None:
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE blobs (content BLOB)"))
        await connection.execute(text("INSERT INTO blobs VALUES (randomblob(:size))"), {"size": size})


async def test_the_log_of_a_great_write_is_cut_again(tmp_path: Path) -> None:
    database = await new_ledger(tmp_path)
    log = tmp_path / "ledger.db-wal"
    await write_much(database, 40_000_000)
    assert log.stat().st_size > 40_000_000
    for _ in range(2):
        async with database.write() as connection:
            await connection.execute(text("INSERT INTO blobs VALUES (randomblob(10))"))

    assert log.stat().st_size <= WAL_BYTES_MAX
    await database.close()


async def test_what_the_log_has_is_carried_over_when_that_is_asked_for(tmp_path: Path) -> None:
    database = await new_ledger(tmp_path)
    file = tmp_path / "ledger.db"
    await write_much(database, 1_000_000)
    assert file.stat().st_size < 1_000_000
    await database.carry_over()
    assert file.stat().st_size > 1_000_000
    await database.close()
