"""A database whose tables another process makes: nothing is read, written or made before they are right."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.opening import open_database
from tallygate.ledger.table_version import newest_version, versions

_SET = text("UPDATE ledger_version SET version_num = :version")


async def test_no_file_is_made_where_none_is(tmp_path: Path) -> None:
    database = open_database("", tmp_path)
    database.expect_tables()
    assert await database.version() is None
    for opened in (database.read, database.write):
        with pytest.raises(LedgerUnavailableError, match="is not there"):
            async with opened():
                raise AssertionError("opened")
    assert list(tmp_path.iterdir()) == []

    keeper = open_database("", tmp_path)
    await keeper.migrate()
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM organizations"))).scalar_one() == 0
    await database.close()
    await keeper.close()


@pytest.mark.parametrize(
    ("version", "text_of_obstacle"),
    [(versions()[-2], "does not have the tables of this version yet"), ("9999", "has tables of a newer")],
)
async def test_tables_of_another_version_are_waited_for_by_name(
    open_another: Callable[[], Database], database: Database, version: str, text_of_obstacle: str
) -> None:
    async with database.write() as connection:
        await connection.execute(_SET, {"version": version})
    other = open_another()
    other.expect_tables()
    assert await other.version() == version
    for opened in (other.read, other.write):
        with pytest.raises(LedgerUnavailableError) as raised:
            async with opened():
                raise AssertionError("opened")
        assert raised.value.obstacle is not None
        assert raised.value.obstacle.name == "tables"
        assert text_of_obstacle in raised.value.reason
        assert f"version {version}" in raised.value.reason

    async with database.write() as connection:
        await connection.execute(_SET, {"version": newest_version()})
    async with other.write() as connection:
        await connection.execute(text("DELETE FROM organizations"))
