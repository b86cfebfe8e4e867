"""The shipped rules as data, and what their expressions may name."""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from prometheus_server import PROMETHEUS_CONFIG

from tallygate.telemetry.metric import Kind
from tallygate.telemetry.metrics import METRICS

_LABELS_OF_PROMETHEUS = {"job", "instance", "le"}
# Aggregations, functions and keywords of the rules and runbooks; any other bare word is a slip.
_WORDS = {
    "abs", "absent", "and", "by", "clamp_min", "count", "deriv", "histogram_quantile", "increase", "label_replace", "max", "min",
    "min_over_time", "offset", "on", "or", "predict_linear", "quantile", "rate", "sum", "time", "topk", "unless", "vector",
    "without",
}  # fmt: skip


def rules_of(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS_CONFIG / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules_of("alerts.yml")}
RECORDED = {rule["record"]: rule for rule in rules_of("recording.yml")}


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


def assert_asks_for_what_exists(expression: str) -> None:
    """Every metric is declared in code or recorded by a rule, with the labels that are matched and aggregated by."""
    known = known_labels()
    plain = re.sub(r'"[^"]*"', '""', expression)
    selectors = re.findall(r"\b((?:[a-z_]+:)?tallygate_[a-z0-9_:]+|up)\b(?:\{([^}]*)\})?", plain)
    assert selectors
    for series, matchers in selectors:
        assert series in known, f"{series} is declared nowhere"
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert used <= known[series], f"{series} has no label {used - known[series]}"
    aggregated = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|without|on) \(([^)]*)\)", plain))))
    assert aggregated <= set().union(*(known[series] for series, _ in selectors)) | _LABELS_OF_PROMETHEUS
    words = set(re.findall(r"(?<![\w:])[a-z][a-z0-9_:]*", re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|without|on) \([^)]*\)", "", plain)))
    left = words - _WORDS - {series for series, _ in selectors}
    assert all(re.fullmatch(r"\d*[smhd]|e\d+", word) for word in left), f"{left} is no metric and no function"
