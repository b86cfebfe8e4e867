"""Refusals on their way from the workers' count files into the ledger."""

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tallygate.domain.errors import ErrorCode
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.refusal_intake import RefusalIntake, WorkerRefusals
from tallygate.ledger.refused_requests import RefusedRequests
from tallygate.ledger.schema import LIFETIME_TOTALS, REFUSALS_TAKEN
from tallygate.telemetry.count_file import PLACES_MAX, CountFile
from tallygate.telemetry.metric import OTHER
from tallygate.telemetry.metrics import REFUSED
from tallygate.telemetry.refusal_file import RefusalFile, RefusalFiles
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


class Looks:
    """An intake of one machine, and how often its files were looked at in a thread."""

    def __init__(self, machine: Machine, directory: Path, database: Database) -> None:
        self.looks, self.is_away = 0, False
        self._machine = machine
        self._log = RefusedRequests(database)
        outer = self

        class Counted(Book):
            async def add_refusals(self, *args: Any, **named: Any) -> None:
                if outer.is_away:
                    raise LedgerUnavailableError("it is away")
                await super().add_refusals(*args, **named)

        self._intake = RefusalIntake(
            Counted(database),
            self._counts,
            log=self._log,
            files=RefusalFiles(directory / "refusals"),
            now_ms=lambda: 1,
            state=machine.refusals.state,
        )

    def _counts(self) -> list[tuple[str, list[RefusalCount]]]:
        self.looks += 1
        return self._machine.refusals.counts()

    async def at_rest(self) -> None:
        """Collect until nothing is looked at."""
        for _ in range(5):
            before = self.looks
            await self._intake.collect()
            if self.looks == before:
                return
        raise AssertionError("files are looked at again and again")

    async def collect(self) -> None:
        await self._intake.collect()


def one_refused(tmp_path: Path, database: Database) -> tuple[Machine, Looks]:
    """A machine whose worker has refused a request, and the looks at it."""
    machine = Machine(tmp_path / "metrics")
    machine.run(ACME)
    return machine, Looks(machine, tmp_path, database)


async def test_where_no_refusal_was_counted_nothing_is_looked_at_and_none_is_missed(tmp_path: Path, database: Database) -> None:
    machine = Machine(tmp_path / "metrics")
    looks = Looks(machine, tmp_path, database)
    await looks.at_rest()
    refused = 0
    steps: list[tuple[tuple[str, ...], ...]] = [(), (ACME,), (ACME,), ((OTHER, OTHER, "chat", "invalid_api_key"), ACME)]
    for step in steps:
        machine.run(*step)
        refused += len(step)
        await looks.at_rest()
        assert (await _taken(database) if refused else 0) == refused

    counts = CountFile(tmp_path / "metrics", "worker-1")  # another worker
    counts.cells[counts.allocate(REFUSED.name, ACME)] = 5
    await looks.at_rest()
    assert await _taken(database) == refused + 5
    counts.cells[counts.allocate("tallygate_other", ())] = 1  # what is no refusal is no change, but for its name
    await looks.at_rest()
    counts.cells[counts.allocate("tallygate_other", ())] = 2
    before = looks.looks
    await looks.collect()
    assert looks.looks == before
    counts.cells[counts.allocate(REFUSED.name, ACME)] = 6
    await looks.collect()
    assert await _taken(database) == refused + 6
    counts.close()


async def test_files_that_were_replaced_are_looked_at(tmp_path: Path, database: Database) -> None:
    machine, looks = one_refused(tmp_path, database)
    await looks.at_rest()
    shutil.rmtree(tmp_path / "metrics")
    machine.run(ACME)
    await looks.at_rest()
    assert await _taken(database) == 2


async def test_what_could_not_be_added_is_looked_at_again(tmp_path: Path, database: Database) -> None:
    _machine, looks = one_refused(tmp_path, database)
    looks.is_away = True
    for _ in range(3):
        with pytest.raises(LedgerUnavailableError):
            await looks.collect()
    looks.is_away = False
    await looks.collect()
    assert await _taken(database) == 1


async def test_a_line_that_waits_is_taken_without_a_new_count(tmp_path: Path, database: Database) -> None:
    _machine, looks = one_refused(tmp_path, database)
    await looks.at_rest()
    lines = RefusalFile(tmp_path / "refusals", "worker-0", new_identity=lambda: 8)
    lines.write(b"not a line, and taken all the same")
    await looks.collect()
    assert not RefusalFiles(tmp_path / "refusals").have_lines()
    lines.close()


def test_many_series_are_left_to_the_thread(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run(*(("acme", f"key-{number}", "chat", "requests_1m") for number in range(PLACES_MAX)))
    machine.refusals.counts()
    assert machine.refusals.state() != machine.refusals.state()
