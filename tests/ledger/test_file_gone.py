"""A `ledger.db` that is deleted or replaced while it is in use takes no more entries: they wait in the store's streams."""

from pathlib import Path

import pytest
from ledger_values import an_entry
from new_ledger import ledger_file, new_ledger
from sqlalchemy import func, select

from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.schema import ENTRIES


async def entries(database: Database) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(ENTRIES)) or 0)


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_nothing_is_written_or_read_in_a_file_without_a_name(tmp_path: Path, *, is_replaced: bool) -> None:
    database = await new_ledger(tmp_path)
    await Book(database).record([an_entry(1)])
    path = tmp_path / "ledger.db"
    path.rename(tmp_path / "aside")
    if is_replaced:
        path.write_bytes(await ledger_file())
    with pytest.raises(LedgerUnavailableError, match=r"ledger\.db was deleted or replaced while it is in use"):
        await Book(database).record([an_entry(2)])
    with pytest.raises(LedgerUnavailableError):
        await entries(database)
    assert path.exists() is is_replaced  # no empty one is made in its place
    (tmp_path / "aside").replace(path)  # the very file: nothing was lost
    await Book(database).record([an_entry(2)])

    assert await entries(database) == 2
    await database.close()
