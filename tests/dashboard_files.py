"""The dashboards as they are shipped, read as Grafana reads them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "grafana" / "dashboards"
NAMES = ("health", "invoice", "spend", "usage")
METRIC_NAMES = ("health", "spend", "usage")  # those that ask Prometheus


def dashboard(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    return found


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One target of a panel. minimum: the least interval between its points, as it stands in the panel, or ""."""

    where: str
    panel: dict[str, Any]
    text: str
    is_instant: bool
    minimum: str = ""

    @property
    def time_from(self) -> str:
        return str(self.panel.get("timeFrom", ""))


def queries(name: str) -> Iterator[Query]:
    """Every query of every panel."""
    for panel in panels(name):
        for target in panel.get("targets", []):
            yield Query(
                where=f"{name} / {panel['title']} / {target['refId']}",
                panel=panel,
                text=target["expr"] if "expr" in target else target["rawSql"],
                is_instant=bool(target.get("instant")),
                minimum=target.get("interval", panel.get("interval", "")),
            )


def panel_query(name: str, title: str, ref_id: str = "A") -> Query:
    (found,) = [query for query in queries(name) if query.where == f"{name} / {title} / {ref_id}"]
    return found


def variables(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard(name)["templating"]["list"]
    return found


def annotations(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard(name).get("annotations", {}).get("list", [])
    return found


def all_texts(value: Any) -> Iterator[str]:
    """Every text anywhere in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from all_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from all_texts(inner)
