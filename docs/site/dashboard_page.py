"""A Grafana dashboard drawn as one HTML page, from its JSON and the answers to its queries: for pictures, where no Grafana is."""

import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

COLUMNS, COLUMN_PX, ROW_PX, GAP_PX = 24, 51, 34, 6
PALETTE = ("#5794f2", "#73bf69", "#f2cc0c", "#ff9830", "#b877d9", "#8ab8ff", "#37872d", "#e0b400", "#f2495c", "#a352cc")
COLOURS = {"green": "#37872d", "yellow": "#e0b400", "orange": "#fa6400", "red": "#c4162a", "blue": "#1f60c4"}
STYLE = """
body { margin: 0; background: #f4f5f5; color: #24292e; font: 12px/1.35 "DejaVu Sans", Inter, sans-serif; }
h1 { margin: 0; padding: 12px 12px 4px; font-size: 17px; font-weight: 500; }
main { position: relative; }
section { position: absolute; box-sizing: border-box; overflow: hidden; background: #fff; border: 1px solid #dcdee3; }
h2 { margin: 6px 8px 2px; font-size: 12px; font-weight: 500; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.row { background: none; border: 0; font-size: 13px; font-weight: 500; padding: 8px 2px 0; }
.figure, .none { display: flex; align-items: center; justify-content: center; height: calc(100% - 30px); text-align: center; }
.figure { flex-direction: column; font-size: 26px; }
.figure small { font-size: 12px; color: #57606a; }
.none { color: #6e7681; }
svg { display: block; }
svg text { font-size: 10px; fill: #57606a; }
.legend { padding: 0 8px; font-size: 10.5px; height: 30px; overflow: hidden; }
.legend span { margin-right: 10px; white-space: nowrap; }
.legend i, .cell i { display: inline-block; height: 8px; margin-right: 4px; }
.legend i { width: 12px; height: 4px; vertical-align: 2px; }
.bar { display: grid; grid-template-columns: 34% 1fr 21%; gap: 6px; align-items: center; padding: 0 8px; }
.bar span, td { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bar b { font-weight: 500; text-align: right; }
.bar div { background: #f0f1f3; height: 100%; max-height: 22px; }
.bar div i { display: block; height: 100%; }
table { width: 100%; border-collapse: collapse; font-size: 11px; }
th { text-align: left; font-weight: 500; color: #1f60c4; }
th, td { padding: 3px 8px; border-bottom: 1px solid #eceef1; max-width: 190px; }
.number { text-align: right; }
.cell { display: block; min-width: 110px; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an answer. ref: the query's; points: Unix seconds and values."""

    ref: str
    name: str
    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        return self.points[-1][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a panel shows. start, end: Unix seconds; rows: of a statement of SQL."""

    start: float
    end: float
    lines: Sequence[Line] = ()
    rows: Sequence[Mapping[str, Any]] = ()


def named(legend: str, labels: Mapping[str, str]) -> str:
    """The name of a line by its legend, `{{label}}`; else its labels."""
    if legend:
        return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend).strip()
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def page(dashboard: Mapping[str, Any], answers: Mapping[int, Answer], titles: Callable[[str], str]) -> str:
    """The page. answers: by the ids of panels; titles: puts variables into a title. Words about the numbers are left out."""
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "text"]
    last = panels[-1]
    if last["type"] == "row":  # above the words that were left out
        panels.remove(last)
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    drawn = "".join(_panel(panel, answers.get(panel["id"]), titles) for panel in panels)
    size = f"width:{COLUMNS * COLUMN_PX + GAP_PX}px;height:{bottom * ROW_PX + GAP_PX}px"
    head = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h1>{_text(dashboard['title'])}</h1>"
    return f"{head}<main style='{size}'>{drawn}</main>"


def _panel(panel: Mapping[str, Any], answer: Answer | None, titles: Callable[[str], str]) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * COLUMN_PX - GAP_PX, place["h"] * ROW_PX - GAP_PX
    style = f"left:{place['x'] * COLUMN_PX + GAP_PX}px;top:{place['y'] * ROW_PX + GAP_PX}px;width:{width}px;height:{height}px"
    title = _text(titles(panel["title"]))
    if panel["type"] == "row" or answer is None:
        return f"<section class=row style='{style}'>{title}</section>"
    if not answer.lines and not answer.rows:
        body = f"<div class=none>{_text(panel['fieldConfig']['defaults']['noValue'])}</div>"
    else:
        body = _DRAWN[panel["type"]](panel, answer, width, height)
    return f"<section style='{style}'><h2>{title}</h2>{body}</section>"


def _figure(panel: Mapping[str, Any], answer: Answer, _width: int, _height: int) -> str:
    shown = []
    for line in answer.lines or [Line(ref="A", name="", labels={}, points=[(0, next(iter(answer.rows[0].values())))])]:
        colour = _threshold(panel, line.last) if not isinstance(line.last, str) else "#24292e"
        size = " style='font-size:15px'" if isinstance(line.last, str) else ""
        is_named = len(answer.lines) > 1 or panel["options"].get("textMode") == "value_and_name"
        name = f"<small>{_text(line.name)}</small>" if is_named else ""
        shown.append(
            f"<span style='color:{colour}'><span{size}>{_text(value_text(line.last, _unit(panel, line)))}</span></span>{name}"
        )
    scale = ";font-size:17px" if len(shown) > 1 else ""
    return f"<div class=figure style='padding:0{scale}'>{''.join(shown)}</div>"


def _ranking(panel: Mapping[str, Any], answer: Answer, _width: int, height: int) -> str:
    most = max((line.last for line in answer.lines), default=0) or 1
    each = min((height - 34) / len(answer.lines), 40)
    bars = []
    for line in answer.lines:
        share = max(0.0, line.last / most) * 100
        bar = f"<div><i style='width:{share:.1f}%;background:{_threshold(panel, line.last)}'></i></div>"
        value = _text(value_text(line.last, _unit(panel, line)))
        style = f"height:{each - 4:.0f}px;margin-bottom:4px"
        bars.append(f"<div class=bar style='{style}'><span>{_text(line.name)}</span>{bar}<b>{value}</b></div>")
    return "".join(bars)


def _chart(panel: Mapping[str, Any], answer: Answer, width: int, height: int) -> str:
    custom = panel["fieldConfig"]["defaults"]["custom"]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    area = _Area(width, height - 62, answer.start, answer.end)
    stacks = _stacked(answer.lines) if stacked else [[(at, 0.0, value) for at, value in line.points] for line in answer.lines]
    dashes = [step["value"] for step in _steps(panel) if step["value"] is not None] if "thresholdsStyle" in custom else []
    soft = custom.get("axisSoftMax", 0) or 0
    top = max([soft, *(high for stack in stacks for _, _, high in stack)]) or 1
    area.scale(top)
    drawn = [area.axes(_unit(panel, answer.lines[0]))]
    drawn += [area.dash(value, COLOURS.get(_colour(panel, value), "#999")) for value in dashes if value <= area.top]
    if custom.get("drawStyle") == "bars":
        spans = sorted({at for line in answer.lines for at, _ in line.points})
        step = min((b - a for a, b in pairwise(spans)), default=answer.end - answer.start)
        for colour, stack in zip(_colours(), stacks, strict=False):
            drawn += [area.block(at, at + step * 0.88, low, high, colour) for at, low, high in stack if high > low]
    else:
        for colour, stack in zip(_colours(), stacks, strict=False):
            drawn.append(area.path(stack, colour, filled=stacked))
    return area.svg(drawn) + _legend(answer.lines)


def _categories(panel: Mapping[str, Any], answer: Answer, width: int, height: int) -> str:
    if answer.rows:
        columns = list(answer.rows[0])
        points = [(float(number), float(row[columns[1]])) for number, row in enumerate(answer.rows)]
        lines, names = [Line(ref="A", name=columns[1], labels={}, points=points)], [str(row[columns[0]]) for row in answer.rows]
    else:
        starts = sorted({at for line in answer.lines for at, _ in line.points})
        names = [f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" for at in starts]
        lines = [
            Line(
                ref=line.ref,
                name=line.name,
                labels=line.labels,
                points=[(float(starts.index(at)), value) for at, value in line.points],
            )
            for line in answer.lines
        ]
    area = _Area(width, height - 62, 0, len(names))
    stacks = _stacked(lines)
    area.scale(max((high for stack in stacks for _, _, high in stack), default=1) or 1)
    drawn = [area.axes(_unit(panel, lines[0]), names=names)]
    for colour, stack in zip(_colours(), stacks, strict=False):
        drawn += [area.block(at + 0.1, at + 0.9, low, high, colour) for at, low, high in stack if high > low]
    return area.svg(drawn) + _legend(lines)


def _states(panel: Mapping[str, Any], answer: Answer, width: int, height: int) -> str:
    mapped = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    area = _Area(width, height - 62, answer.start, answer.end, left=110)
    area.scale(len(answer.lines))
    drawn = [area.axes("", names=None, is_counted=False)]
    for number, line in enumerate(answer.lines):
        step = min((b - a for (a, _), (b, _) in pairwise(line.points)), default=60)
        low, high = len(answer.lines) - number - 0.85, len(answer.lines) - number - 0.15
        drawn.append(f"<text x=6 y={area.y((low + high) / 2) + 4:.0f}>{_text(line.name)}</text>")
        for (at, value), until in zip(line.points, [*(at for at, _ in line.points[1:]), line.points[-1][0] + step], strict=True):
            drawn.append(area.block(at, min(until, at + step * 1.5), low, high, COLOURS[mapped[str(int(value))]["color"]]))
    return area.svg(drawn)


def _table(panel: Mapping[str, Any], answer: Answer, _width: int, height: int) -> str:
    columns, rows = _sql_table(answer.rows) if answer.rows else _merged(panel, answer.lines)
    room = (height - 34) // 24 - 1
    head = "".join(f"<th class={'number' if _is_number(rows, column) else 'word'}>{_text(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(panel, column, row.get(column)) for column in columns)}</tr>" for row in rows[:room])
    return f"<table><tr>{head}</tr>{body}</table>"


def _sql_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Mapping[str, Any]]]:
    return list(rows[0]), list(rows)


def _merged(panel: Mapping[str, Any], lines: Sequence[Line]) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Instant queries joined by their labels, organized and sorted as the panel says."""
    options = panel["transformations"][1]["options"]
    named, hidden = options["renameByName"], options["excludeByName"]
    order = [column for column in sorted(named, key=options["indexByName"].__getitem__) if column not in hidden]
    found: list[dict[str, Any]] = []
    for line in lines:
        labels, column = {named[name]: value for name, value in line.labels.items() if name in named}, named[f"Value #{line.ref}"]
        fits = (row for row in found if column not in row and all(row.get(name, value) == value for name, value in labels.items()))
        if (row := next(fits, None)) is None:
            found.append(row := {})
        row |= labels | {column: line.last}
    for field in panel["options"].get("sortBy", []):
        found.sort(key=lambda row: row.get(field["displayName"], -1.0), reverse=field["desc"])
    return [named[column] for column in order if any(named[column] in row for row in found)], found


def _is_number(rows: Iterable[Mapping[str, Any]], column: str) -> bool:
    return any(row.get(column) is not None and not isinstance(row[column], str) for row in rows)


def _cell(panel: Mapping[str, Any], column: str, value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, str):
        return f"<td>{_text(value)}</td>"
    properties = _override(panel, "byName", column)
    if "mappings" in properties:
        mapped = properties["mappings"][0]["options"][str(int(value))]
        return f"<td style='color:{COLOURS[mapped['color']]}'>{_text(mapped['text'])}</td>"
    text = _text(
        value_text(
            float(value), properties.get("unit", panel["fieldConfig"]["defaults"].get("unit", "")), properties.get("decimals")
        )
    )
    if properties.get("custom.cellOptions", {}).get("type") == "gauge":
        bar = f"<i style='width:{min(float(value), 1) * 70:.0f}px;background:{_threshold(panel, float(value))}'></i>"
        return f"<td><span class=cell>{bar}{text}</span></td>"
    return f"<td class=number>{text}</td>"


class _Area:
    """The plane of a chart: time or categories to the right, values up from 0."""

    def __init__(self, width: int, height: int, start: float, end: float, *, left: int = 66) -> None:
        self.width, self.height, self.left = width, height, left
        self.start, self.end, self.top = start, end, 1.0

    def scale(self, top: float) -> None:
        step = 10.0 ** math.floor(math.log10(top))
        self.top = next(step * part for part in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * part >= top * 0.999)

    def x(self, at: float) -> float:
        return self.left + (min(max(at, self.start), self.end) - self.start) / (self.end - self.start) * (
            self.width - self.left - 12
        )

    def y(self, value: float) -> float:
        return 6 + (1 - min(max(value, 0), self.top) / self.top) * (self.height - 26)

    def axes(self, unit: str, *, names: Sequence[str] | None = None, is_counted: bool = True) -> str:
        drawn = []
        for part in range(5 if is_counted else 0):
            value, y = self.top * part / 4, self.y(self.top * part / 4)
            drawn.append(f"<path d='M{self.left} {y:.0f}H{self.width - 12}' stroke=#e6e8eb />")
            drawn.append(f"<text x={self.left - 6} y={y + 3:.0f} text-anchor=end>{_text(value_text(value, unit))}</text>")
        count = min(6 if self.width > 480 else 4, len(names or range(6)))
        for part in range(count):
            at = self.start + (self.end - self.start) * (part + 0.5) / count
            if names is None:
                form = "%m-%d" if self.end - self.start > 3 * 86_400 else "%H:%M"
                label = f"{datetime.fromtimestamp(at, UTC):{form}}"
            else:
                at = int(at) + 0.5
                label = names[int(at)]
            drawn.append(f"<text x={self.x(at):.0f} y={self.height - 4} text-anchor=middle>{_text(label)}</text>")
        return "".join(drawn)

    def block(self, start: float, end: float, low: float, high: float, colour: str) -> str:
        left, right, top, bottom = self.x(start), self.x(end), self.y(high), self.y(low)
        return (
            f"<rect x={left:.1f} y={top:.1f} width={max(right - left, 1):.1f} height={max(bottom - top, 0.5):.1f} fill={colour} />"
        )

    def dash(self, value: float, colour: str) -> str:
        return f"<path d='M{self.left} {self.y(value):.0f}H{self.width - 12}' stroke={colour} stroke-dasharray='6 5' />"

    def path(self, stack: Sequence[tuple[float, float, float]], colour: str, *, filled: bool) -> str:
        if not stack:
            return ""
        over = " ".join(f"{self.x(at):.1f},{self.y(high):.1f}" for at, _, high in stack)
        if len(stack) == 1:
            return f"<circle cx={self.x(stack[0][0]):.1f} cy={self.y(stack[0][2]):.1f} r=2.5 fill={colour} />"
        under = " ".join(f"{self.x(at):.1f},{self.y(low):.1f}" for at, low, _ in reversed(stack))
        shape = f"<polygon points='{over} {under}' fill={colour} fill-opacity=.25 />" if filled else ""
        return f"{shape}<polyline points='{over}' fill=none stroke={colour} stroke-width=1.5 />"

    def svg(self, drawn: Iterable[str]) -> str:
        return f"<svg width={self.width} height={self.height}>{''.join(drawn)}</svg>"


def _stacked(lines: Sequence[Line]) -> list[list[tuple[float, float, float]]]:
    """Of each line its points as (time, lower edge, upper edge), on top of those before it."""
    heights: dict[float, float] = {}
    stacks = []
    for line in lines:
        stack = []
        for at, value in line.points:
            low = heights.get(at, 0.0)
            heights[at] = low + max(value, 0.0)
            stack.append((at, low, heights[at]))
        stacks.append(stack)
    return stacks


def _legend(lines: Sequence[Line]) -> str:
    shown = [
        f"<span><i style='background:{colour}'></i>{_text(line.name)}</span>"
        for colour, line in zip(_colours(), lines, strict=False)
    ]
    return f"<div class=legend>{''.join(shown)}</div>"


def _colours() -> Iterable[str]:
    return (PALETTE[number % len(PALETTE)] for number in range(1_000))


def _steps(panel: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    return found


def _colour(panel: Mapping[str, Any], value: float) -> str:
    reached = [step["color"] for step in _steps(panel) if step["value"] is None or value >= step["value"]]
    return str(reached[-1]) if reached else "blue"


def _threshold(panel: Mapping[str, Any], value: float) -> str:
    return COLOURS.get(_colour(panel, value), "#24292e" if panel["type"] == "stat" else PALETTE[0])


def _override(panel: Mapping[str, Any], matcher: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"] == {"id": matcher, "options": name}:
            found |= {each["id"]: each["value"] for each in override["properties"]}
    return found


def _unit(panel: Mapping[str, Any], line: Line) -> str:
    return str(_override(panel, "byFrameRefID", line.ref).get("unit", panel["fieldConfig"]["defaults"].get("unit", "")))


def value_text(value: Any, unit: str, decimals: int | None = None) -> str:
    """A number in a unit of Grafana's."""
    if isinstance(value, str):
        return value
    value = float(value)
    if math.isnan(value):
        return "-"
    match unit:
        case "currencyUSD":
            return f"${value:,.2f}" if decimals is not None or abs(value) >= 1 or not value else f"${value:.3g}"
        case "percentunit":
            return f"{value * 100:.3g}%"
        case "s":
            return _scaled(value, ((86_400, " days"), (3_600, " hours"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")))
        case "bytes":
            return _scaled(value, ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")))
        case "reqps":
            return f"{value:.3g} req/s"
        case "dateTimeAsIso":
            return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d %H:%M}"
        case "locale":
            return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
        case _:
            return _scaled(value, ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1, ""), (1e-9, "")))


def _scaled(value: float, scales: Sequence[tuple[float, str]]) -> str:
    size, name = next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
    return f"{value / size:.3g}{name}" if value and size >= 1e-6 else f"{value:.3g}"


def _text(value: object) -> str:
    return html.escape(str(value))


_DRAWN: Mapping[str, Callable[[Mapping[str, Any], Answer, int, int], str]] = {
    "stat": _figure,
    "bargauge": _ranking,
    "timeseries": _chart,
    "barchart": _categories,
    "state-timeline": _states,
    "table": _table,
}
