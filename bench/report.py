"""What a run found: tables in the terminal, the same as JSON, the same as Markdown for the documentation."""

# ruff: noqa: RUF001 - tables are set with signs of multiplication, division and dashes

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.contenders import Contender
from bench.money import BUDGET_NANO_USD, BUDGET_REQUESTS, CALLERS, LEAVERS, STREAM_CHUNKS
from bench.pinning import Pinning
from bench.run import SLOW_LOADS, SLOW_SHARE, Figures, Plan
from bench.same_work import WORK
from bench.samples import ratio, spread

BASES = ("nginx", "naive aiohttp")
DIRECT = "direct"
SUBJECT = "tallygate, everything on"
BAR_WIDTH = 32
Cells = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One table: a title, column names, rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: Cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A figure that tallygate is to stay below."""

    name: str
    most: float
    unit: str
    reached: float | None


def median(values: Sequence[float]) -> float | None:
    return spread(values).median if values else None


def added(figures: Mapping[str, Figures], name: str, field: str) -> float | None:
    """A latency less that of the upstream alone, each the median of its rounds."""
    own, base = median(getattr(figures[name], field)), median(getattr(figures[DIRECT], field))
    return own - base if own is not None and base is not None else None


def grids(figures: Mapping[str, Figures]) -> list[Grid]:
    found = [_work(figures), _requests(figures), _streams(figures), _latency(figures), _memory(figures), _money(figures)]
    return [grid for grid in found if grid.rows]


def aims(figures: Mapping[str, Figures]) -> list[Aim]:
    """The aims of the design beside what was reached; none if tallygate did not run."""
    if SUBJECT not in figures:
        return []
    own = figures[SUBJECT]
    stream_kb = median(own.stream_bytes)
    return [
        Aim(name="CPU per request", most=130, unit="µs", reached=median(own.request_cpu)),
        Aim(name="CPU per stream chunk", most=12, unit="µs", reached=median(own.chunk_cpu)),
        Aim(name="added latency, p99", most=1, unit="ms", reached=added(figures, SUBJECT, "latency_p99_ms")),
        Aim(name="memory per open stream", most=60, unit="KB", reached=None if stream_kb is None else stream_kb / 1000),
    ]


def show(console: Console, figures: Mapping[str, Figures], *, conditions: Mapping[str, str]) -> None:
    for grid in grids(figures):
        table = Table(title=grid.title, title_justify="left", title_style="bold")
        for index, column in enumerate(grid.columns):
            table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
        for row in grid.rows:
            table.add_row(*row, style="bold cyan" if row[0] == SUBJECT else None)
        console.print(table)
    for title, field in (("CPU per request, µs", "request_cpu"), ("CPU per chunk, µs", "chunk_cpu")):
        chart = bars({name: value for name, of in figures.items() if name != DIRECT and (value := median(getattr(of, field)))})
        console.print(f"[bold]{title}[/]", *chart, sep="\n")
    for aim in aims(figures):
        if aim.reached is not None:
            verdict = "[green]reached[/]" if aim.reached <= aim.most else "[red]missed[/]"
            console.print(f"{aim.name}: {aim.reached:.1f} {aim.unit}, aim ≤ {aim.most:g} {aim.unit}: {verdict}")
    for name, text in conditions.items():
        console.print(f"[dim]{name}: {text}[/]")


def bars(values: Mapping[str, float]) -> list[str]:
    """A chart in text, each bar as long as its value is large."""
    if not values:
        return []
    largest, width = max(values.values()), max(map(len, values))
    return [f"{name:<{width}}  {'█' * max(1, round(BAR_WIDTH * value / largest))} {value:.1f}" for name, value in values.items()]


def markdown(figures: Mapping[str, Figures], *, conditions: Mapping[str, str]) -> str:
    parts = []
    for grid in grids(figures):
        lines = [f"**{grid.title}**", "", "| " + " | ".join(grid.columns) + " |"]
        lines.append("|---" + "|---:" * (len(grid.columns) - 1) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in grid.rows]
        parts.append("\n".join(lines))
    parts.append("\n".join(f"- {name}: {text}" for name, text in conditions.items()))
    return "\n\n".join(parts) + "\n"


def conditions(
    plan: Plan, contenders: Sequence[Contender], pinning: Pinning, skipped: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """What one must know to read the figures."""
    slow = [contender.name for contender in contenders if contender.is_slow]
    found = {
        "measured": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_cpu_model()}, Linux {platform.release()}, Python {platform.python_version()}",
        "cores": pinning.describe(),
        "versions": ", ".join(dict.fromkeys(contender.version for contender in contenders if contender.version)),
        "rounds": f"{plan.rounds}, all contenders in each; figures are medians, ± half the distance of lowest and highest round",
        "requests": f"wrk, 32 connections, {plan.load_seconds} s",
        "streams": f"{plan.streams} at once, {plan.chunks} events of 305 bytes each, {plan.every_ms} ms apart"
        + "".join(f"; {name}: {SLOW_SHARE:.0%} of them, and {SLOW_LOADS} times as long a load" for name in slow),
        "latency": f"{plan.steady_per_second} requests a second, or half of a proxy's most, open loop, {plan.steady_seconds:g} s",
        "memory": f"proportional set size, {plan.held_streams} open streams, measured first",
        "money": f"{CALLERS} callers at once on a budget of {BUDGET_NANO_USD / 1000:,.1f} µ$, {BUDGET_REQUESTS}.5 requests; "
        f"{LEAVERS} streams of {STREAM_CHUNKS} tokens whose callers leave at the first, together",
    }
    return found | {f"left out: {name}": reason for name, reason in skipped.items()}


def save(directory: Path, figures: Mapping[str, Figures], *, plan: Plan, conditions: Mapping[str, str], now: datetime) -> Path:
    """Every round of every figure, as JSON and, as shown, as Markdown; the path of the JSON."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = directory / now.strftime("%Y%m%d-%H%M%S")
    stem.with_suffix(".md").write_text(markdown(figures, conditions=conditions))
    whole = {
        "conditions": dict(conditions),
        "plan": asdict(plan),
        "aims": [asdict(aim) for aim in aims(figures)],
        "contenders": {name: asdict(of) for name, of in figures.items()},
    }
    path = stem.with_suffix(".json")
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    return path


def _work(figures: Mapping[str, Figures]) -> Grid:
    rows = [(name, work.keys, work.rates, work.money, work.kept) for name, work in WORK.items() if name in figures]
    return Grid(title="What each does of the same work", columns=("", "keys", "limits", "budget", "kept"), rows=rows)


def _money(figures: Mapping[str, Figures]) -> Grid:
    """Each round's figure, since one round above the budget is one too many."""
    rows = [
        (
            name,
            _each(str(burst.served) for burst in own.bursts),
            _each(str(burst.failed) for burst in own.bursts),
            _each(str(burst.over) for burst in own.bursts),
            _each(f"{burst.charged_nano_usd / burst.billed_nano_usd:.3f}" for burst in own.bursts if burst.billed_nano_usd),
            _each(f"{leaving.billed_nano_usd / 1000:,.0f}" for leaving in own.leavings),
            _each(
                f"{leaving.charged_nano_usd / leaving.billed_nano_usd:.3f}" for leaving in own.leavings if leaving.billed_nano_usd
            ),
        )
        for name, own in figures.items()
        if own.bursts
    ]
    columns = (
        f"A budget of {BUDGET_REQUESTS}",
        f"served of {CALLERS}",
        "failed",
        "requests over",
        "charged ÷ billed",
        "left: billed, µ$",
        "charged ÷ billed",
    )
    return Grid(title="Money: each round", columns=columns, rows=rows)


def _each(values: Iterable[str]) -> str:
    """A row of the rounds' figures, or one if all are the same."""
    found = list(values)
    return found[0] if len(set(found)) == 1 else " ".join(found)


def _requests(figures: Mapping[str, Figures]) -> Grid:
    rows = []
    for name, own in figures.items():
        beside = " + ".join(f"{other} {median(values):.0f}" for other, values in own.request_cpu_others.items() if max(values) >= 1)
        rate = median(own.requests_per_second)
        rows.append(
            (
                name,
                *_with_ratios(figures, name, "request_cpu"),
                beside or "–",
                f"{rate:,.0f}" if rate is not None else "–",
                f"{own.failed} of {own.answered:,}",
            )
        )
    columns = ("CPU per request", "µs", "× nginx", "× naive", "other processes, µs", "requests/s", "failed")
    return Grid(title="Requests: CPU of the proxy process, saturated", columns=columns, rows=rows)


def _streams(figures: Mapping[str, Figures]) -> Grid:
    rows = []
    for name, own in figures.items():
        if not own.chunk_delay_p50_ms:
            continue
        rows.append(
            (
                name,
                *_with_ratios(figures, name, "chunk_cpu"),
                _number(added(figures, name, "chunk_delay_p50_ms"), 2),
                _number(added(figures, name, "chunk_delay_p99_ms"), 2),
                _number(added(figures, name, "first_byte_p50_ms"), 2),
            )
        )
    columns = ("CPU per stream chunk", "µs", "× nginx", "× naive", "chunk later p50, ms", "p99, ms", "first byte later p50, ms")
    return Grid(title="Streams: CPU of the proxy process, and what it adds to the direct way", columns=columns, rows=rows)


def _latency(figures: Mapping[str, Figures]) -> Grid:
    rows = [
        (
            name,
            _number(median(own.latency_per_second), 0),
            _number(median(own.latency_p50_ms), 2),
            _number(median(own.latency_p99_ms), 2),
            _number(added(figures, name, "latency_p50_ms"), 2),
            _number(added(figures, name, "latency_p99_ms"), 2),
        )
        for name, own in figures.items()
    ]
    columns = ("Latency below saturation", "requests/s", "p50, ms", "p99, ms", "added p50, ms", "added p99, ms")
    return Grid(title="Latency at a fixed rate", columns=columns, rows=rows)


def _memory(figures: Mapping[str, Figures]) -> Grid:
    rows = [
        (name, f"{own.idle_bytes / 1e6:,.0f}", _number((median(own.stream_bytes) or 0) / 1000, 1))
        for name, own in figures.items()
        if own.stream_bytes
    ]
    return Grid(title="Memory of the proxy process", columns=("Memory", "before, MB", "per open stream, KB"), rows=rows)


def _with_ratios(figures: Mapping[str, Figures], name: str, field: str) -> tuple[str, str, str]:
    values = getattr(figures[name], field)
    if name == DIRECT or not values:
        return ("–", "–", "–")
    own = spread(values)
    text = f"{own.median:.1f}" + (f" ± {own.unrest:.0%}" if len(values) > 1 else "")
    bases = (median(getattr(figures[base], field)) if base in figures else None for base in BASES)
    first, second = (_number(ratio(own.median, base), 2) for base in bases)
    return text, first, second


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
