"""What Grafana puts in place of variables, for the queries of our dashboards.

Follows Grafana's documentation and its Prometheus data source:
- $name, ${name} and ${name:format}. Formats used here: regex, text, sqlstring, date:seconds.
- In PromQL a variable that may have several values becomes a regular expression, (a|b), its values escaped; All becomes its own
  `allValue`, as it stands. A variable with one value is put in as it is.
- $__interval is the step of the query: the panel's least interval, or the range by the number of points, whichever is longer.
  Ranges are cut to whole steps. $__rate_interval is at least four scrapes.
- A panel's own range (timeFrom) replaces the dashboard's: "30d", or "now/d" for the day so far.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

SCRAPE_SECONDS = 1
POINTS_MAX = 1_000
_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_200, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([\w:]+))?\})")
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The state of one variable. text: what the user sees; is_all: `All`, with the pattern that stands for it."""

    values: tuple[str, ...]
    text: str = ""
    is_multi: bool = False
    is_all: bool = False

    def in_promql(self) -> str:
        if self.is_all or not self.is_multi:
            return self.values[0]
        escaped = [_SPECIAL.sub(lambda match: "\\\\" + match[0], value) for value in self.values]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"

    def formatted(self, form: str) -> str:
        if form == "text":
            return self.text or self.values[0]
        if form == "sqlstring":
            return ",".join("'" + value.replace("'", "''") + "'" for value in self.values)
        if form == "regex":
            return self.in_promql()
        raise AssertionError(f"the format {form} is not known here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The range on display, in Unix seconds."""

    start: float
    end: float

    def of_panel(self, time_from: str) -> "Moment":
        if not time_from:
            return self
        now = datetime.fromtimestamp(self.end, UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        starts = {
            "now/d": midnight,
            "now/w": midnight - timedelta(days=now.weekday()),  # the dashboards say that weeks begin on Mondays
            "now/M": midnight.replace(day=1),
        }
        start = starts[time_from].timestamp() if time_from in starts else self.end - seconds(time_from)
        return replace(self, start=start)

    def step(self, minimum: str) -> int:
        wanted = (self.end - self.start) / POINTS_MAX
        nice = next(step for step in _STEPS if step >= wanted)
        return max(nice, seconds(minimum) if minimum else SCRAPE_SECONDS)

    def cut(self, step: int) -> tuple[float, float]:
        """Start and end at whole steps, as Grafana cuts them for a user in UTC."""
        return math.floor(self.start / step) * step, math.floor(self.end / step) * step


def seconds(span: str) -> int:
    """Of "1d"."""
    return int(span[:-1]) * _UNITS[span[-1]]


def first_choices(variables: list[dict[str, Any]]) -> dict[str, Chosen]:
    """As a dashboard opens: everything, and the first of the choices. Variables that ask a database have no first choice here."""
    found = {}
    for variable in variables:
        current = variable.get("current") or {}
        if variable["type"] == "custom":
            found[variable["name"]] = Chosen(values=(current["value"],), text=current["text"])
        elif variable.get("includeAll"):
            found[variable["name"]] = Chosen(values=(variable["allValue"],), text="All", is_multi=True, is_all=True)
    return found


def promql(text: str, chosen: Mapping[str, Chosen], moment: Moment, step: int) -> str:
    """The query as Prometheus gets it. Raises KeyError for a variable that nobody defined."""
    span = round(moment.end - moment.start)
    builtin = {
        "__interval": f"{step}s",
        "__interval_ms": str(step * 1_000),
        "__rate_interval": f"{max(step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)}s",
        "__range": f"{span}s",
        "__range_s": str(span),
    }

    def put(match: re.Match[str]) -> str:
        name, form = match[1] or match[2], match[3]
        if name == "__to" and form == "date:seconds":
            return str(round(moment.end))
        if name in builtin and not form:
            return builtin[name]
        return chosen[name].formatted(form) if form else chosen[name].in_promql()

    return _VARIABLE.sub(put, text)


def sql(text: str, chosen: Mapping[str, Chosen]) -> str:
    """The statement as PostgreSQL gets it. Only ${name:sqlstring} is used: what it puts in is quoted."""
    return _VARIABLE.sub(lambda match: chosen[match[2]].formatted(match[3]), text)


def names_used(text: str) -> set[str]:
    return {match[1] or match[2] for match in _VARIABLE.finditer(text)}
