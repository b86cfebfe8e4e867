"""`tallygate export` and `tallygate invoice` as an operator meets them."""

import asyncio
import csv
import io
import json
import os
from contextlib import closing
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from export_values import an_entry
from new_ledger import new_ledger
from rich.console import Console

from tallygate.cli import main
from tallygate.commands import export as export_module
from tallygate.ledger.book import Book
from tallygate.ledger.export import stream

ORGANIZATIONS = """
organizations:
  - {id: acme, name: Acme, plan: enterprise, time_zone: America/New_York}
  - {id: globex, name: Globex, plan: enterprise}
  - {id: initech, name: Initech, plan: pay_as_you_go}
"""
MIDNIGHT_MS = 1_793_505_600_000  # 2026-11-01T00:00 in New York
ENTRIES = [
    an_entry(1, settled_at_ms=MIDNIGHT_MS - 1),
    an_entry(2, settled_at_ms=MIDNIGHT_MS),
    an_entry(3, org="globex", credential="globex-prod"),
    an_entry(4, org="initech"),
]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a command in a directory with a configuration and a filled ledger, and nothing in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TALLYGATE_")]:
        monkeypatch.delenv(name)
    config, data = tmp_path / "config", tmp_path / "data"
    config.mkdir()
    data.mkdir()
    (config / "organizations.yaml").write_text(ORGANIZATIONS)
    asyncio.run(_fill(data))
    where = ("--config-dir", str(config), "--data-dir", str(data))
    return lambda *arguments: CliRunner().invoke(main, [*arguments, *where])


async def _fill(data):
    database = await new_ledger(data)
    await Book(database).record(ENTRIES)
    await database.close()


def events(text):
    return [row["event_id"] for row in csv.DictReader(io.StringIO(text, newline=""))]


def ids(*numbers):
    return [entry.event_id for entry in ENTRIES if int(entry.event_id[12:], 16) in numbers]


def test_a_month_is_that_of_the_organizations_zone(run):
    assert events(run("export", "--org", "acme", "--month", "2026-11").stdout) == ids(2)
    assert events(run("export", "--org", "acme", "--month", "2026-10").stdout) == ids(1)
    assert events(run("export", "--org", "acme", "--month", "2026-11", "--time-zone", "UTC").stdout) == ids(1, 2)


def test_without_an_organization_all_are_exported_whose_plan_allows_it(run):
    exported = run("export", "--from", "2026-10-01", "--to", "2026-12-01")

    assert events(exported.stdout) == ids(1, 2, 3)
    assert "3 entries" in exported.stderr
    assert events(run("export", "--from", "2026-10-01", "--to", "2026-12-01", "--credential", "globex-prod").stdout) == ids(3)


def test_a_plan_without_export_is_told_and_can_be_overruled(run):
    refused = run("export", "--org", "initech", "--from", "2026-10-01", "--to", "2026-12-01")

    assert refused.exit_code == 1
    assert "initech is on the plan pay_as_you_go, which does not include export" in refused.stderr
    assert events(run("export", "--org", "initech", "--from", "2026-10-01", "--to", "2026-12-01", "--ignore-plan").stdout) == ids(4)
    assert run("invoice", "initech", "2026-11").exit_code == 1
    assert run("invoice", "initech", "2026-11", "--ignore-plan").exit_code == 0


@pytest.mark.parametrize(
    ("name", "start"), [("a.csv", b"event_id,"), ("a.jsonl", b"{"), ("a.parquet", b"PAR1"), ("a", b"event_id,")]
)
def test_the_suffix_of_the_file_is_its_format(run, tmp_path, name, start):
    assert run("export", "--org", "acme", "--from", "2026-10-01", "-o", name).exit_code == 0

    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_file_that_is_not_whole_leaves_what_was_there_before(run, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("before")

    async def failing(*_arguments, **_options):
        yield stream.Piece(b"half", 1)
        raise RuntimeError

    monkeypatch.setattr(stream, "export_pieces", failing)
    failed = run("export", "--org", "acme", "--from", "2026-10-01", "-o", "a.csv")

    assert isinstance(failed.exception, RuntimeError)
    assert (tmp_path / "a.csv").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if "a.csv" in path.name] == ["a.csv"]


def test_a_terminal_gets_a_progress_bar(run, monkeypatch):
    with closing(io.StringIO()) as shown:
        terminal = Console(file=shown, force_terminal=True, width=100)
        monkeypatch.setattr(export_module, "_stderr", lambda: terminal)
        exported = run("export", "--from", "2026-10-01", "--to", "2026-12-01")

        assert "exporting" in shown.getvalue()
        assert "3/3" in shown.getvalue()
    assert events(exported.stdout) == ids(1, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("export",), "--from"),
        (("export", "--from", "yesterday"), "--from"),
        (("export", "--from", "2026-11-02", "--to", "2026-11-01"), "--to"),
        (("export", "--from", "2026-11-02", "--month", "2026-11"), "--month"),
        (("export", "--month", "2026-13"), "--month"),
        (("export", "--month", "2026-11", "--time-zone", "Mars/Olympus"), "--time-zone"),
        (("invoice", "acme", "November"), "YYYY-MM"),
        (("invoice", "acme"), "--week"),
        (("invoice", "acme", "2026-11", "--week", "2026-W48"), "--week"),
        (("invoice", "acme", "--week", "2026-11"), "--week"),
    ],
)
def test_what_is_asked_wrongly_is_told_by_its_option(run, arguments, word):
    told = run(*arguments)

    assert told.exit_code == 2
    assert word in told.stderr


def test_an_unknown_organization_and_a_missing_ledger_are_told(run, tmp_path):
    assert "there is no organization nobody" in run("invoice", "nobody", "2026-11").stderr
    assert "there is no organization nobody" in run("export", "--org", "nobody", "--from", "2026-10-01").stderr
    elsewhere = CliRunner().invoke(main, ["export", "--from", "2026-10-01", "--data-dir", str(tmp_path / "none")])
    assert elsewhere.exit_code == 1
    assert "no ledger" in elsewhere.stderr
    assert not (tmp_path / "none").exists()


def test_an_invoice_is_written_in_each_format(run, tmp_path):
    assert run("invoice", "acme", "2026-11", "-o", "i.html").exit_code == 0
    document = json.loads(run("invoice", "acme", "2026-11", "--format", "json").stdout)

    assert b"0.00<" in (tmp_path / "i.html").read_bytes()
    assert document["total"]["cost_nano_usd"] == ENTRIES[1].cost_nano_usd
    assert run("invoice", "acme", "2026-11").stdout.startswith("line,invoice,organization,month,")


def test_a_week_is_a_statement_of_the_plan_that_is_billed_by_it(run):
    week = f"{datetime.fromtimestamp(MIDNIGHT_MS / 1000, ZoneInfo('America/New_York')):%G-W%V}"
    statement = json.loads(run("invoice", "acme", "--week", week, "--format", "json").stdout)

    assert (statement["object"], statement["week"]) == ("statement", week)
    assert run("invoice", "initech", "--week", "2026-W48").stdout.startswith("line,statement,organization,week,")
    refused = run("invoice", "initech", "2026-11")
    assert "pay_as_you_go, which does not include export" in refused.stderr


def test_a_document_of_a_period_to_come_is_refused_and_one_of_a_past_history_is_told(run):
    """With a billing day, today may be in the month before: an empty invoice would pass for a real one."""
    year = datetime.now(ZoneInfo("UTC")).year
    to_come = run("invoice", "acme", f"{year + 2}-03")
    assert (to_come.exit_code, to_come.stdout) == (1, "")
    assert f"{year + 2}-03 has not begun: its first day is {year + 2}-03-01" in to_come.stderr
    assert "has not begun" in run("invoice", "acme", "--week", f"{year + 2}-W10").stderr
    past = run("invoice", "initech", "--week", f"{year - 2}-W10")
    assert past.exit_code == 0
    assert f"the plan pay_as_you_go keeps 90 days: not all of {year - 2}-W10" in past.stderr
    assert run("invoice", "acme", f"{year - 2}-03").stderr == ""


def test_what_an_organization_used_before_it_left_the_configuration_is_there(run, tmp_path):
    (tmp_path / "config" / "organizations.yaml").write_text(
        ORGANIZATIONS.replace("  - {id: globex, name: Globex, plan: enterprise}\n", "")
    )

    assert "globex (retired)" in run("invoice", "globex", "2026-11", "--format", "json").stdout
    assert len(events(run("export", "--org", "globex", "--from", "2026-10-01", "--to", "2027-01-01").stdout)) == 1
