"""The shipped rules: promtool accepts them and its tests pass; every alert has all that a person at 3 a.m. needs."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import PROMETHEUS_CONFIG, program

from proxy.telemetry.metrics import METRICS, Kind

RULE_TESTS = sorted((Path(__file__).parent / "promtool").glob("*.yml"))
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"
RUNBOOK_URL = "https://tallygate.example/docs/runbooks.md#"
_LABELS_OF_PROMETHEUS = {"job", "instance", "le"}
# Aggregations, functions and keywords that stand before a parenthesis or between operands.
_WORDS = {
    "abs", "absent", "and", "by", "clamp_min", "group_left", "histogram_quantile", "increase", "label_replace", "max", "min",
    "min_over_time", "offset", "on", "or", "predict_linear", "quantile", "rate", "sum", "topk", "unless", "vector", "without",
}  # fmt: skip


def rules_of(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS_CONFIG / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules_of("alerts.yml")}
RECORDED = {rule["record"]: rule for rule in rules_of("recording.yml")}


def cases_of_alerts() -> Iterator[Mapping[str, Any]]:
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            yield from test.get("alert_rule_test", ())


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
        .replace("spend_used:ratio >= 0.95", "spend_used:ratio >= 0.94")
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
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK_URL}{name.lower()}"
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert section, f"no section of {name}"
    assert f"*{alert['labels']['severity']}*" in section[1]
    for part in ("**For customers.**", "**See it.**", "**Causes.**", "**Do.**", "**Do not.**", "**Ends.**"):
        assert part in section[1], f"{name} lacks {part}"


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^## (Tallygate\w+)$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_seen_firing_and_staying_quiet(name: str) -> None:
    expected = [test["exp_alerts"] for test in cases_of_alerts() if test["alertname"] == name]

    assert any(expected), "never fires in a test"
    assert not all(expected), "never stays quiet in a test"
    for alert in (alert for alerts in expected for alert in alerts):
        assert set(alert["exp_annotations"]) == {"summary", "description", "runbook_url"}


@pytest.mark.parametrize("name", RECORDED)
def test_every_recording_rule_has_its_value_in_a_test(name: str) -> None:
    expressions = [
        test["expr"]
        for path in RULE_TESTS
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for test in case.get("promql_expr_test", ())
    ]

    assert any(name in expression for expression in expressions)


def known_labels() -> dict[str, set[str]]:
    """Labels of every series that a rule may ask for, by its name."""
    known = {"up": {"job", "instance"}}
    for metric in METRICS:
        labels = {*metric.labels, *_LABELS_OF_PROMETHEUS}
        if metric.kind is Kind.HISTOGRAM:
            known |= {f"{metric.name}_{suffix}": labels for suffix in ("bucket", "sum", "count")}
        else:
            known[metric.name] = labels
    for name in RECORDED:
        level = name.partition(":")[0]
        known[name] = set() if level.startswith("tallygate") else set(level.split("_"))
    return known


def expressions() -> Iterator[tuple[str, str]]:
    for name, rule in (*ALERTS.items(), *RECORDED.items()):
        yield name, rule["expr"]
        for text in rule.get("annotations", {}).values():
            for query in re.findall(r'query (?:\(printf )?"((?:[^"\\]|\\.)*)"', text):
                yield name, query.replace('\\"', '"').replace("%q", '""')


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_every_rule_asks_only_for_metrics_and_labels_that_exist(name: str, expression: str) -> None:
    known = known_labels()
    plain = re.sub(r'"[^"]*"', '""', expression)
    selectors = re.findall(r"\b((?:[a-z_]+:)?tallygate_[a-z0-9_:]+|up)\b(?:\{([^}]*)\})?", plain)
    assert selectors
    for series, matchers in selectors:
        assert series in known, f"{series} is declared nowhere"
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert used <= known[series], f"{series} has no label {used - known[series]}"
    aggregated = {
        label.strip() for labels in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", plain) for label in labels.split(",")
    }
    assert aggregated <= set().union(*(known[series] for series, _ in selectors)) | _LABELS_OF_PROMETHEUS
    words = set(re.findall(r"(?<![\w:])[a-z][a-z0-9_:]*", re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|without|on) \([^)]*\)", "", plain)))
    left = words - _WORDS - {series for series, _ in selectors}
    assert all(re.fullmatch(r"\d*[smhd]|e\d+", word) for word in left), f"{name} names {left}"


def test_a_misspelt_metric_or_label_is_found() -> None:
    with pytest.raises(AssertionError, match="declared nowhere"):
        test_every_rule_asks_only_for_metrics_and_labels_that_exist("X", "sum(rate(tallygate_request_total[5m])) > 0")
    with pytest.raises(AssertionError, match="has no label"):
        test_every_rule_asks_only_for_metrics_and_labels_that_exist("X", 'tallygate_fail_open_total{kind="spend"} > 0')
