"""Models without a price are named in the log, boundedly."""

import logging

import pytest

from tallygate.gateway.exchange.asked_price import NAMES_MAX, NAMES_OF_AN_ORGANIZATION_MAX, UnpricedModels

HOUR_MS = 3_600_000


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
