"""Files that are deleted or replaced while they are in use: told by name, and by nothing that is not so."""

import logging
from pathlib import Path

import pytest

from tallygate.console.own_files import OwnFiles
from tallygate.console.readiness import workers_probe
from tallygate.console.workers import Workers
from tallygate.telemetry.count_file import CountFile
from tallygate.telemetry.metrics import FILES_GONE, WORKER_UP
from tallygate.telemetry.worker_state import WorkerState


@pytest.fixture
def files(tmp_path: Path) -> OwnFiles:
    (tmp_path / "spool").mkdir()
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "worker-0.counts").touch()
    (tmp_path / "ledger.db").touch()
    counts = [tmp_path / "metrics" / f"worker-{slot}.counts" for slot in (0, 1)]
    paths = {
        "data directory": tmp_path,
        "spool": tmp_path / "spool",
        "ledger.db": tmp_path / "ledger.db",
        "late": tmp_path / "late",
    }
    found = OwnFiles(paths, needed={"data directory", "spool"}, remade=("metrics", counts))
    found.look()
    return found


async def test_what_was_there_at_first_is_missed_once_it_is_gone(
    files: OwnFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await files.probe()()).passed
    (tmp_path / "ledger.db").unlink()
    check = await files.probe()()
    assert (check.reason, check.is_needed) == ("deleted or replaced while in use: ledger.db", False)
    (tmp_path / "spool").rename(tmp_path / "elsewhere")
    (tmp_path / "spool").mkdir()
    check = await files.probe()()

    assert (check.reason, check.is_needed) == ("deleted or replaced while in use: ledger.db, spool", True)
    assert files.samples()[FILES_GONE] == {("data directory",): 0, ("ledger.db",): 1, ("metrics",): 0, ("spool",): 1}
    assert [(record.levelno, record.fields["file"]) for record in caplog.records] == [  # type: ignore[attr-defined]
        (logging.ERROR, "ledger.db"),
        (logging.ERROR, "spool"),
    ]


async def test_the_very_file_put_back_is_no_other(files: OwnFiles, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").rename(tmp_path / "aside")
    files.look()
    assert files.gone == {"ledger.db"}
    (tmp_path / "ledger.db").touch()
    files.look()
    assert files.gone == {"ledger.db"}
    (tmp_path / "aside").replace(tmp_path / "ledger.db")

    assert (await files.probe()()).passed


def test_a_file_that_comes_later_counts_from_then(files: OwnFiles, tmp_path: Path) -> None:
    (tmp_path / "late").touch()
    files.look()
    (tmp_path / "late").unlink()
    files.look()

    assert files.gone == {"late"}


def test_count_files_only_have_to_be_there_since_a_restarted_worker_makes_new_ones(files: OwnFiles, tmp_path: Path) -> None:
    counts = tmp_path / "metrics" / "worker-0.counts"
    counts.unlink()
    files.look()
    assert files.gone == {"metrics"}
    counts.touch()
    files.look()

    assert not files.gone


async def test_a_worker_whose_count_file_was_deleted_is_not_called_down(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "metrics", workers=2, now_ms=lambda: 1_000)
    files = [CountFile(tmp_path / "metrics", f"worker-{slot}") for slot in (0, 1)]
    assert not (await workers_probe(workers)()).passed
    for slot, counts in enumerate(files):
        state = WorkerState(counts, pid=slot + 1, new_identity=lambda: 7)
        state.serving(True)
        state.beat(1_000)
    assert (await workers_probe(workers)()).passed
    for path in (tmp_path / "metrics").iterdir():
        path.unlink()
    check = await workers_probe(workers)()

    assert check.reason == "metrics/ was deleted or replaced while worker 0, 1 counts there: restart it"
    assert not check.is_needed
    assert workers.snapshot().samples()[WORKER_UP] == {}
    for counts in files:
        counts.close()


async def test_a_worker_that_never_ran_is_down(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "metrics", workers=1, now_ms=lambda: 1_000)
    check = await workers_probe(workers)()

    assert (check.reason, check.is_needed) == ("worker 0 is not up", True)
