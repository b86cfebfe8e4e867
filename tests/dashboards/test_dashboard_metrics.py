"""A dashboard or a rule asks only for what the product exports: names and labels."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dashboard_files import METRIC_NAMES, annotations, queries, variables

from tallygate.telemetry.metric import Kind
from tallygate.telemetry.metrics import METRICS

RULES = Path(__file__).parents[2] / "config" / "prometheus"
RULE_FILES = ("recording.yml", "alerts.yml")
TARGET_LABELS = {"instance", "job", "le"}  # what Prometheus adds to every series, and the buckets of histograms
VIEWS = ("requests", "tokens", "spend")
_NAME = re.compile(r"\b(?:[a-z][a-z0-9_]*:)?tallygate_[a-z0-9_]+(?::[a-z0-9_]+)*(?:\{[^}]*\})?")
_BY_NAME = re.compile(r"\{(__name__=~\"[^\"]+\"[^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")


def declared() -> dict[str, set[str]]:
    """Names of series that the product exports, with their labels."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        found.update({metric.name + suffix: {*metric.labels} for suffix in suffixes})
    return found


def rules() -> list[dict[str, str]]:
    groups = [group for name in RULE_FILES for group in yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group.get("rules", [])]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def expressions() -> Iterator[tuple[str, str]]:
    """Where, and what, of every query of a dashboard and of every rule."""
    for name in METRIC_NAMES:
        yield from ((query.where, query.text) for query in queries(name))
        yield from ((f"{name} / {mark['name']}", mark["expr"]) for mark in annotations(name))
        for variable in variables(name):
            if variable["type"] == "query":
                yield f"{name} / ${variable['name']}", variable["query"]["query"]
    for rule in rules():
        yield rule.get("record") or rule.get("alert") or "", rule["expr"]


def selections(text: str) -> Iterator[tuple[str, set[str]]]:
    """Series that an expression asks for, with the labels it matches: also those whose name is chosen by the variable `view`."""
    for found in _NAME.finditer(_BY_NAME.sub("", text)):
        name, _, matchers = found[0].partition("{")
        yield name, set(_MATCHER.findall(matchers))
    for found in _BY_NAME.finditer(text):
        pattern = re.search(r"__name__=~\"([^\"]+)\"", found[1])
        assert pattern is not None
        labels = set(_MATCHER.findall(found[1])) - {"__name__"}
        for view in VIEWS:
            matching = [name for name in declared() if re.fullmatch(pattern[1].replace("${view}", view), name)]
            # Money has a query of its own, and requests are never taken back.
            expected = {1} if "(_usd)?" in pattern[1] else {int(("_usd" in pattern[1]) == (view == "spend"))}
            assert len(matching) in expected | ({0} if "_credited" in pattern[1] else set()), (pattern[1], view)
            yield from ((name, labels) for name in matching)


def test_every_name_is_exported_or_recorded():
    known = declared().keys() | recorded()
    unknown = {(where, name) for where, text in expressions() for name, _ in selections(text) if name not in known}
    assert not unknown


def test_every_metric_is_in_a_panel():
    """By itself, or in what a recording rule makes of it."""
    sources = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    shown: set[str] = set()
    asked = [name for dashboard in METRIC_NAMES for query in queries(dashboard) for name, _ in selections(query.text)]
    while asked:
        name = asked.pop()
        if name not in shown:
            shown.add(name)
            asked += [source for source, _ in selections(sources.get(name, ""))]
    families = {metric.name: {metric.name + suffix for suffix in ("", "_bucket", "_sum", "_count")} for metric in METRICS}
    assert not [name for name, series in families.items() if not series & shown]


def test_every_matched_label_is_one_of_the_metrics_own():
    labels = declared()
    for where, text in expressions():
        for name, matched in selections(text):
            if name in labels:
                # The variable `view` chooses among families, one of which alone has an outcome; without it the label is empty.
                assert matched - TARGET_LABELS - {"outcome"} <= labels[name], (where, name)


def test_every_label_that_is_grouped_by_exists():
    known = set(itertools.chain(*declared().values())) | TARGET_LABELS | {"day"}
    grouped = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
    for where, text in expressions():
        for labels in grouped.findall(text):
            assert {label.strip() for label in labels.split(",") if label.strip()} <= known, where


@pytest.mark.parametrize("broken", ["tallygate_request_total", "tallygate_request_seconds", "org:tallygate_spend:ratio"])
def test_a_name_that_does_not_exist_would_be_found(broken):
    ((name, _),) = selections(f"sum (rate({broken}[5m]))")
    assert name == broken
    assert name not in declared().keys() | recorded()
