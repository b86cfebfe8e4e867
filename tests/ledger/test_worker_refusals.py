"""Refusals on their way from the workers' count files into the ledger."""

import itertools
import re
from pathlib import Path

from sqlalchemy import func, select

from tallygate.domain.errors import ErrorCode
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.refusal_intake import WorkerRefusals
from tallygate.ledger.schema import LIFETIME_TOTALS, REFUSALS_TAKEN
from tallygate.telemetry.count_file import CountFile
from tallygate.telemetry.metric import OTHER
from tallygate.telemetry.metrics import REFUSED
from tallygate.telemetry.worker_state import WorkerState

ACME = ("acme", "acme-prod", "chat", "requests_1m")
_identities = itertools.count(1)


class Machine:
    """Count files of one machine with one worker."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.refusals = WorkerRefusals(directory)

    def run(self, *refused: tuple[str, ...]) -> None:
        """A worker starts in slot 0, refuses, and ends."""
        counts = CountFile(self._directory, "worker-0")
        WorkerState(counts, pid=1, new_identity=lambda: next(_identities))
        for labels in refused:
            counts.cells[counts.allocate(REFUSED.name, labels)] += 1
        counts.close()


async def _taken(database: Database) -> int:
    async with database.read() as connection:
        return int((await connection.execute(select(func.sum(LIFETIME_TOTALS.c.requests)))).scalar_one())


async def test_a_slot_that_is_served_again_goes_on_under_its_name(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a")
    machine.run(ACME)
    [(source, counts)] = machine.refusals.counts()
    machine.run(ACME, (OTHER, OTHER, "chat", "invalid_api_key"))

    [(again, more)] = machine.refusals.counts()
    assert again == source
    assert [count.requests for count in counts] == [1]
    assert {(count.org, count.status): count.requests for count in more} == {("acme", 429): 2, (OTHER, 401): 1}


async def test_workers_of_two_machines_are_told_apart(tmp_path: Path, database: Database, book: Book) -> None:
    machines = [Machine(tmp_path / name) for name in "ab"]
    for refused in ([ACME] * 3, [ACME] * 2):
        for machine in machines:
            machine.run(*refused)
            for source, counts in machine.refusals.counts():
                await book.add_refusals(source, counts, at_ms=1)

    assert await _taken(database) == 10


async def test_counts_that_began_anew_are_another_source(tmp_path: Path, database: Database, book: Book) -> None:
    """As after the directory was deleted: the new counts may be the higher ones."""
    for refused, name in (([ACME] * 3, "a"), ([ACME] * 5, "b")):
        machine = Machine(tmp_path / name)
        machine.run(*refused)
        for source, counts in machine.refusals.counts():
            await book.add_refusals(source, counts, at_ms=1)

    assert await _taken(database) == 8
    async with database.read() as connection:
        assert len((await connection.execute(select(REFUSALS_TAKEN.c.source))).all()) == 2


async def test_a_file_without_identity_keeps_the_name_of_its_slot(tmp_path: Path) -> None:
    counts = CountFile(tmp_path, "worker-3")
    counts.cells[counts.allocate("starts")] = 4
    counts.cells[counts.allocate(REFUSED.name, ACME)] = 1
    WorkerState(counts, pid=1, new_identity=lambda: 99)
    counts.close()

    assert [source for source, _ in WorkerRefusals(tmp_path).counts()] == ["worker-3"]


def test_each_error_code_is_counted_under_the_status_that_it_is_answered_with(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run(*((OTHER, OTHER, "chat", str(code)) for code in ErrorCode))

    [(_, counts)] = machine.refusals.counts()
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    documented = {code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page, re.MULTILINE)}
    assert {count.refused_by: count.status for count in counts} == documented
