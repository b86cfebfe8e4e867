"""Models without a price are named in the log and in files, boundedly."""

import logging
from pathlib import Path

import pytest

from tallygate.telemetry.unpriced_models import (
    DAYS_KEPT,
    NAMES_MAX,
    NAMES_OF_A_DAY_MAX,
    NAMES_OF_AN_ORGANIZATION_MAX,
    UNPRICED_UNITS,
    UnpricedModel,
    UnpricedModels,
    unpriced_lately,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOON_MS = 20_000 * DAY_MS + DAY_MS // 2


def names(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_a_model_is_named_once_an_hour_with_its_organization_and_policy(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    unpriced = UnpricedModels()
    for now_ms in (0, 1, HOUR_MS - 1):
        unpriced.note("gpt-99", "acme", "refuse", now_ms=now_ms)
    assert names(caplog) == ["no price for the model 'gpt-99', asked for by acme: refuse"]
    unpriced.note("gpt-99", "acme", "refuse", now_ms=HOUR_MS)
    assert len(names(caplog)) == 1


def test_made_up_names_are_bounded_by_organization_and_altogether(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    unpriced = UnpricedModels()
    for number in range(50):
        unpriced.note(f"made-up-{number}", "acme", "refuse", now_ms=0)
    assert len(names(caplog)) == NAMES_OF_AN_ORGANIZATION_MAX
    unpriced.note("real", "globex", "refuse", now_ms=0)
    assert len(names(caplog)) == 1
    for number in range(NAMES_MAX * 2):
        unpriced.note(f"other-{number}", f"org-{number}", "refuse", now_ms=0)
    assert len(names(caplog)) == NAMES_MAX - NAMES_OF_AN_ORGANIZATION_MAX - 1


def test_a_name_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    UnpricedModels().note("x\nroot: all is well" + "y" * 500, "acme", "refuse", now_ms=0)
    [line] = names(caplog)
    assert "\n" not in line
    assert len(line) < 200


def test_a_key_pasted_as_a_model_is_in_neither(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    UnpricedModels(tmp_path, "worker-0").note("sk-ant-api03-abcdefghijkl", "acme", "refuse", now_ms=NOON_MS)
    assert names(caplog) == ["no price for the model '[secret]', asked for by acme: refuse"]
    assert [each.model for each in unpriced_lately(tmp_path, now_ms=NOON_MS)] == ["[secret]"]


def test_a_model_whose_units_lack_a_rate_is_named_so(caplog: pytest.LogCaptureFixture) -> None:
    UnpricedModels().note("gpt-4o", "acme", UNPRICED_UNITS, now_ms=0)
    assert names(caplog) == ["no price for some units of the model 'gpt-4o', asked for by acme: unpriced_units"]


def test_files_have_each_name_of_an_organization_once_a_day_and_of_all_workers_for_a_week(tmp_path: Path) -> None:
    first, second = UnpricedModels(tmp_path, "worker-0"), UnpricedModels(tmp_path, "worker-1")
    first.note("gpt-99", "acme", "refuse", now_ms=NOON_MS)
    first.note("gpt-99", "acme", "refuse", now_ms=NOON_MS + 5 * HOUR_MS)
    second.note("x\n\u2028é" + "y" * 500, "globex", "unpriced", now_ms=NOON_MS + DAY_MS)

    tomorrow = NOON_MS + DAY_MS
    assert unpriced_lately(tmp_path, now_ms=tomorrow) == [
        UnpricedModel(tomorrow, "globex", "x\n\u2028é" + "y" * 96, "unpriced"),
        UnpricedModel(NOON_MS, "acme", "gpt-99", "refuse"),
    ]
    assert [each.org for each in unpriced_lately(tmp_path, now_ms=NOON_MS + DAYS_KEPT * DAY_MS)] == ["globex"]


def test_a_successor_goes_on_in_the_file_of_its_slot_even_after_a_torn_line(tmp_path: Path) -> None:
    UnpricedModels(tmp_path, "worker-0").note("gpt-99", "acme", "refuse", now_ms=NOON_MS)
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'\n[1,"acme","gp')
    successor = UnpricedModels(tmp_path, "worker-0")
    for model in ("gpt-99", "gpt-98"):
        successor.note(model, "acme", "refuse", now_ms=NOON_MS + 1)
    assert [each.model for each in unpriced_lately(tmp_path, now_ms=NOON_MS + 2)] == ["gpt-98", "gpt-99"]


def test_made_up_names_fill_no_file_and_hide_no_other_organization(tmp_path: Path) -> None:
    unpriced = UnpricedModels(tmp_path, "worker-0")
    for number in range(NAMES_OF_A_DAY_MAX + 1):
        unpriced.note(f"made-up-{number}", "acme", "refuse", now_ms=NOON_MS)
    unpriced.note("real", "globex", "refuse", now_ms=NOON_MS + 1)
    found = unpriced_lately(tmp_path, now_ms=NOON_MS + 2)
    assert len(found) == NAMES_OF_AN_ORGANIZATION_MAX + 1
    assert found[0] == UnpricedModel(NOON_MS + 1, "globex", "real", "refuse")


def test_old_files_are_removed_those_of_slots_that_are_gone_too(tmp_path: Path) -> None:
    UnpricedModels(tmp_path, "worker-9").note("old", "acme", "refuse", now_ms=NOON_MS)
    UnpricedModels(tmp_path, "worker-0").note("new", "acme", "refuse", now_ms=NOON_MS + (DAYS_KEPT + 1) * DAY_MS)
    assert [path.name for path in tmp_path.iterdir()] == ["worker-0.2024-10-12.jsonl"]


def test_a_file_that_cannot_be_written_disturbs_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unpriced = UnpricedModels(tmp_path / "gone", "worker-0")
    (tmp_path / "gone").rmdir()
    unpriced.note("gpt-99", "acme", "refuse", now_ms=NOON_MS)
    assert "cannot be noted for `tallygate check`" in names(caplog)[-1]
