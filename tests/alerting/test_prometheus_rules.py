"""The shipped rules: promtool accepts them and its tests pass; every alert has all that a person at 3 a.m. needs."""

import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard_files import METRIC_NAMES, dashboard
from prometheus_server import PROMETHEUS_CONFIG, program
from shipped_rules import ALERTS, RECORDED, assert_asks_for_what_exists, expressions

RULE_TESTS = sorted((Path(__file__).parent / "promtool").glob("*.yml"))
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"
RUNBOOK_URL = "https://tallygate.example/docs/runbooks.md#"
ANNOTATIONS = {"summary", "description", "runbook_url", "dashboard_url"}
DASHBOARDS = {dashboard(name)["uid"] for name in METRIC_NAMES}


@cache
def rule_tests() -> tuple[Mapping[str, Any], ...]:
    """Those of all files."""
    return tuple(test for path in RULE_TESTS for test in yaml.load(path.read_bytes(), yaml.CSafeLoader)["tests"])


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *arguments], check=False, capture_output=True, text=True, timeout=100)


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    for arguments in (
        ("check", "rules", "--lint-fatal", str(PROMETHEUS_CONFIG / "recording.yml"), str(PROMETHEUS_CONFIG / "alerts.yml")),
        ("check", "config", "--lint-fatal", str(PROMETHEUS_CONFIG / "prometheus.yml")),
    ):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_rules_fire_and_stay_quiet_as_their_promtool_tests_say(path: Path) -> None:
    done = promtool("test", "rules", str(path))

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_is_changed_fails_its_tests(tmp_path: Path) -> None:
    changed = (
        (PROMETHEUS_CONFIG / "alerts.yml")
        .read_text(encoding="utf-8")
        .replace('credential="",mode="enforced"}) >= 0.95', 'credential="",mode="enforced"}) >= 0.94')
    )
    (tmp_path / "alerts.yml").write_text(changed, encoding="utf-8")
    tests = (Path(__file__).parent / "promtool" / "organizations.yml").read_text(encoding="utf-8")
    tests = tests.replace("../../../config/prometheus/alerts.yml", str(tmp_path / "alerts.yml"))
    tests = tests.replace("../../../config/prometheus/recording.yml", str(PROMETHEUS_CONFIG / "recording.yml"))
    (tmp_path / "tests.yml").write_text(tests, encoding="utf-8")

    done = promtool("test", "rules", str(tmp_path / "tests.yml"))

    assert done.returncode != 0
    assert "TallygateSpendAbove95Percent" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_its_severity_its_words_and_its_runbook(name: str) -> None:
    alert = ALERTS[name]

    assert alert["labels"]["severity"] in {"page", "ticket", "info"}
    assert set(alert["annotations"]) == ANNOTATIONS
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK_URL}{name.lower()}"
    (uid,) = re.findall(r"/d/([a-z-]+)", alert["annotations"]["dashboard_url"])
    assert uid in DASHBOARDS
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert section, f"no section of {name}"
    assert f"*{alert['labels']['severity']}*" in section[1]
    for part in ("**For customers.**", "**See it.**", "**Causes.**", "**Do.**", "**Do not.**", "**Ends.**"):
        assert part in section[1], f"{name} lacks {part}"


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^## (Tallygate\w+)$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_seen_firing_and_staying_quiet(name: str) -> None:
    expected = [
        case["exp_alerts"] for test in rule_tests() for case in test.get("alert_rule_test", ()) if case["alertname"] == name
    ]

    assert any(expected), "never fires in a test"
    assert not all(expected), "never stays quiet in a test"
    for alert in (alert for alerts in expected for alert in alerts):
        assert set(alert["exp_annotations"]) == ANNOTATIONS


@pytest.mark.parametrize("name", RECORDED)
def test_every_recording_rule_has_its_value_in_a_test(name: str) -> None:
    expressions = [test["expr"] for case in rule_tests() for test in case.get("promql_expr_test", ())]

    assert any(name in expression for expression in expressions)


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_every_rule_asks_only_for_metrics_and_labels_that_exist(name: str, expression: str) -> None:
    assert_asks_for_what_exists(expression)


def test_a_misspelt_metric_or_label_is_found() -> None:
    with pytest.raises(AssertionError, match="declared nowhere"):
        assert_asks_for_what_exists("sum(rate(tallygate_request_total[5m])) > 0")
    with pytest.raises(AssertionError, match="has no label"):
        assert_asks_for_what_exists('tallygate_fail_open_total{kind="spend"} > 0')
