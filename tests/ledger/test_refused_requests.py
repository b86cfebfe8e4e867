"""The log of refused requests: each line once, bounded, and in the order of time."""

import errno
import itertools
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from tallygate.domain.organization import Organization, Plan
from tallygate.domain.refused_request import RefusedRequest
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.history import OrgScope
from tallygate.ledger.refusal_intake import RefusalIntake, WorkerRefusals
from tallygate.ledger.refused_requests import DAYS_KEPT, RefusalsQuery, RefusedRequests, fair_level
from tallygate.ledger.schema import LIFETIME_TOTALS
from tallygate.telemetry.refusal_file import RefusalFile, RefusalFiles, Waiting

NOW_MS = 1_788_264_000_000  # the start of a minute
DAY_MS = 86_400_000
EVERYTHING = RefusalsQuery(
    scopes=tuple(OrgScope(org=org) for org in ("acme", "globex", "nobody")), from_ms=0, to_ms=NOW_MS + DAY_MS, limit=1_000
)
_numbers = itertools.count(1)


def a_line(org: str = "acme", *, at_ms: int = NOW_MS, **changed: Any) -> RefusedRequest:
    number = next(_numbers)
    labels = {"org": org, "credential": f"{org}-prod", "capability": "chat", "status": 429, "code": "rate_limit_exceeded"}
    fields = {**labels, "id": f"{at_ms:012x}{number:020x}", "at_ms": at_ms, "refused_by": "requests_1m", "message": "Wait."}
    return RefusedRequest(**{**fields, **changed})


def waiting(lines: Iterable[RefusedRequest], *, source: str = "worker-0-1", first: int = 0) -> Waiting:
    numbered = [(number, msgspec.json.encode(line)) for number, line in enumerate(lines, first)]
    return Waiting(Path("unused"), source, first + len(numbered), numbered)


@pytest.fixture
def log(database: Database) -> RefusedRequests:
    return RefusedRequests(database)


async def test_lines_are_taken_once_however_often_they_come(log: RefusedRequests) -> None:
    """As from a process that was killed after its commit, before it gave the lines back."""
    lines = [a_line(), a_line("globex"), a_line(id="", more=5)]
    taken = waiting(lines)
    assert await log.add(taken) == 3
    assert await log.add(taken) == 0
    later = a_line(message="Later.")
    assert await log.add(waiting([*lines, later])) == 1

    found = await log.page(EVERYTHING)
    assert sorted(line.more for line in found) == [0, 0, 0, 5]
    assert later in found


async def test_further_refusals_of_a_minute_share_a_line_whoever_counted_them(log: RefusedRequests) -> None:
    further = a_line(id="", more=5)
    await log.add(waiting([further, msgspec.structs.replace(further, more=2)]))
    await log.add(waiting([msgspec.structs.replace(further, more=10)], source="worker-1-9"))
    await log.add(waiting([msgspec.structs.replace(further, more=1, credential="other")], source="worker-2-9"))

    assert sorted(line.more for line in await log.page(EVERYTHING)) == [1, 17]


async def test_what_cannot_be_read_or_stored_stops_nothing(log: RefusedRequests) -> None:
    good = a_line(model="nul\0 and more", message="x" * 2_000)
    taken = waiting([good])
    await log.add(taken._replace(lines=[*taken.lines, (1, b"{torn"), (2, b'{"id": 5}')], upto=3))

    [line] = await log.page(EVERYTHING)
    assert line.model == "nul\ufffd and more"
    assert len(line.message) == 1_024


async def test_a_file_that_lost_its_end_goes_on(log: RefusedRequests) -> None:
    """A power failure may take lines of the file that the ledger has already."""
    await log.add(waiting([a_line() for _ in range(4)]))
    assert await log.add(waiting([a_line()], first=2)) == 1


async def test_pages_are_in_the_order_of_time_and_within_histories(log: RefusedRequests) -> None:
    lines = [a_line(org, at_ms=NOW_MS + 1_000 * (number // 2)) for number, org in enumerate(["acme", "globex"] * 4)]
    await log.add(waiting(lines))
    in_order = sorted(lines, key=lambda line: (line.at_ms, line.id))

    for newest_first in (False, True):
        found: list[RefusedRequest] = []
        after = None
        while page := await log.page(replace(EVERYTHING, limit=3, after=after, newest_first=newest_first)):
            found += page
            after = (page[-1].at_ms, page[-1].id)
        assert found == (in_order[::-1] if newest_first else in_order)
    history = (OrgScope(org="acme"), OrgScope(org="globex", visible_from_ms=NOW_MS + 3_000))
    seen = await log.page(replace(EVERYTHING, scopes=history))
    assert [line.org for line in seen].count("globex") == 1
    assert [line.org for line in seen].count("acme") == 4
    assert await log.page(replace(EVERYTHING, scopes=())) == []


async def test_the_oldest_of_those_with_the_most_go_first(database: Database) -> None:
    log = RefusedRequests(database, of_an_organization_max=6, of_all_max=8)
    lines = {org: [a_line(org, at_ms=NOW_MS + number) for number in range(count)] for org, count in (("acme", 20), ("globex", 3))}
    await log.add(waiting(lines["acme"]))
    assert len(await log.page(EVERYTHING)) == 6, "an organization is bounded as lines come"
    await log.add(waiting(lines["globex"], source="worker-1-9"))

    assert await log.purge([], NOW_MS) == 1
    left = await log.page(EVERYTHING)
    assert {line.id for line in left} == {line.id for line in (*lines["acme"][-5:], *lines["globex"])}


async def test_age_and_history_end_it(log: RefusedRequests) -> None:
    short = Organization(id="acme", name="Acme", plan=Plan(id="p", history_days=7))
    unlimited = Organization(id="globex", name="Globex", plan=Plan(id="e"))
    ages = [1, 8, DAYS_KEPT - 1, DAYS_KEPT + 1]
    for org in ("acme", "globex", "nobody"):
        await log.add(waiting([a_line(org, at_ms=NOW_MS - days * DAY_MS) for days in ages], source=org))

    assert await log.purge([short, unlimited], NOW_MS) == 5
    left = [(line.org, (NOW_MS - line.at_ms) // DAY_MS) for line in await log.page(EVERYTHING)]
    assert sorted(left) == [("acme", 1), *[(org, days) for org in ("globex", "nobody") for days in ages[:3]]]


def test_a_level_is_fair() -> None:
    assert fair_level([100, 3, 5], 20) == 12
    assert fair_level([100, 100, 100], 30) == 10
    assert fair_level([1, 2], 30) == 30
    assert fair_level([], 30) == 30


KILLED = """
import os, signal, sys
from pathlib import Path
from tallygate.telemetry.count_file import CountFile
from tallygate.telemetry.metrics import REFUSED
from tallygate.telemetry.refusal_file import RefusalFile
from tallygate.telemetry.worker_state import WorkerState
counts = CountFile(Path(sys.argv[1]) / "metrics", "worker-0")
WorkerState(counts, pid=1, new_identity=lambda: 7)
lines = RefusalFile(Path(sys.argv[1]) / "refusals", "worker-0", new_identity=lambda: 8)
for line in sys.stdin.buffer.read().splitlines():
    counts.cells[counts.allocate(REFUSED.name, ("acme", "acme-prod", "chat", "requests_1m"))] += 1
    assert lines.write(line)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.process
async def test_a_killed_worker_loses_no_count_and_no_line(
    tmp_path: Path, database: Database, book: Book, log: RefusedRequests
) -> None:
    lines = [a_line() for _ in range(30)]
    sent = b"\n".join(map(msgspec.json.encode, lines))
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path], input=sent, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    files = RefusalFiles(tmp_path / "refusals")
    intake = RefusalIntake(book, WorkerRefusals(tmp_path / "metrics").counts, log=log, files=files, now_ms=lambda: NOW_MS)
    for _ in range(2):
        await intake.collect()

    async with database.read() as connection:
        assert int((await connection.execute(select(func.sum(LIFETIME_TOTALS.c.requests)))).scalar_one()) == 30
    assert {line.id for line in await log.page(EVERYTHING)} == {line.id for line in lines}
    assert files.waiting(100) == []


async def test_while_the_ledger_is_away_lines_wait(tmp_path: Path, book: Book, database: Database) -> None:
    class Away(RefusedRequests):
        async def add(self, waiting: Waiting) -> int:
            raise LedgerUnavailableError(waiting.source)

    file = RefusalFile(tmp_path, "worker-0", new_identity=lambda: 8)
    file.write(msgspec.json.encode(a_line()))
    files = RefusalFiles(tmp_path)
    with pytest.raises(LedgerUnavailableError):
        await RefusalIntake(book, list, log=Away(database), files=files, now_ms=lambda: NOW_MS).collect()
    assert len(files.waiting(100)) == 1


async def test_a_ledger_that_is_away_is_told_of_once_a_minute(
    book: Book, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable() -> Sequence[Any]:
        raise PermissionError(errno.EACCES, "Permission denied")

    now_ms = NOW_MS
    log = RefusedRequests(database)
    intake = RefusalIntake(book, unreadable, log=log, files=RefusalFiles(Path("none")), now_ms=lambda: now_ms)
    for _ in range(31):
        await intake.last()
        now_ms += 2_000
    assert [record.getMessage() for record in caplog.records] == ["refusals wait for the ledger"] * 2
