"""Copies of a SQLite ledger: of one instant, checked, and put back without what was beside the old one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledger_values import an_entry
from new_ledger import new_ledger

from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.file_backup import BackupError, back_up, checked, put_back


@pytest.fixture
async def ledger(tmp_path: Path) -> Database:
    database = await new_ledger(tmp_path)
    await Book(database).record([an_entry(number, org=f"org-{number % 3}") for number in range(60)])
    return database


def no_progress(_total: int, _done: int) -> None:
    """Nobody watches."""


async def test_a_backup_is_of_one_instant_though_the_ledger_is_written_meanwhile(
    ledger: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.ledger.file_backup.PAGES_AT_ONCE", 4)
    seen: list[tuple[int, int]] = []

    def write_meanwhile(total: int, done: int) -> None:
        seen.append((total, done))
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
            other.execute("DELETE FROM entries WHERE event_id = (SELECT MIN(event_id) FROM entries)")
            other.commit()

    found = back_up(tmp_path / "ledger.db", tmp_path / "backup.db", write_meanwhile)
    await ledger.close()

    assert (found.entries, len(found.organizations)) == (60, 3)
    assert checked(tmp_path / "backup.db") == found
    assert len(seen) > 3
    assert seen[-1][0] == seen[-1][1]
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == ["backup.db"]
    assert (tmp_path / "backup.db").stat().st_mode & 0o077 == 0


async def test_a_file_that_is_there_is_not_overwritten(ledger: Database, tmp_path: Path) -> None:
    (tmp_path / "backup.db").write_text("precious")
    with pytest.raises(BackupError, match="exists"):
        back_up(tmp_path / "ledger.db", tmp_path / "backup.db", no_progress)
    await ledger.close()

    assert (tmp_path / "backup.db").read_text() == "precious"


async def test_what_was_beside_the_old_ledger_is_not_played_into_the_backup(ledger: Database, tmp_path: Path) -> None:
    found = back_up(tmp_path / "ledger.db", tmp_path / "backup.db", no_progress)
    await Book(ledger).record([an_entry(1_000, org="org-9")])
    kept = {side: (tmp_path / f"ledger.db{side}").read_bytes() for side in ("", "-wal")}
    await ledger.close()
    for side, content in kept.items():  # as a killed process leaves them
        (tmp_path / f"ledger.db{side}").write_bytes(content)
    back, aside = put_back(tmp_path / "backup.db", tmp_path / "ledger.db", now_s=7)

    assert back == found == checked(tmp_path / "ledger.db")
    assert aside == tmp_path / "ledger.db.before-7"
    assert checked(aside).entries == 61  # whole, with its log


@pytest.mark.parametrize(
    ("damage", "reason"), [("cut", "damaged"), ("no ledger", "is no ledger"), ("newer", "version 9999"), ("missing", "there is no")]
)
async def test_what_is_no_whole_ledger_of_this_version_is_not_put_back(
    ledger: Database, tmp_path: Path, damage: str, reason: str
) -> None:
    backup = tmp_path / "backup.db"
    back_up(tmp_path / "ledger.db", backup, no_progress)
    await ledger.close()
    match damage:
        case "cut":
            content = bytearray(backup.read_bytes())
            content[20_000:60_000] = bytes(40_000)
            backup.write_bytes(content)
        case "missing":
            backup.unlink()
        case _:
            with closing(sqlite3.connect(backup)) as other:
                other.execute(
                    "DROP TABLE ledger_version" if damage == "no ledger" else "UPDATE ledger_version SET version_num = '9999'"
                )
                other.commit()
    before = (tmp_path / "ledger.db").read_bytes()
    with pytest.raises(BackupError, match=reason):
        put_back(backup, tmp_path / "ledger.db", now_s=7)

    assert (tmp_path / "ledger.db").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
