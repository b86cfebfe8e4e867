"""The demo from start to end: processes, traffic, and the tables."""

import asyncio
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from proxy.config.load import load_config
from proxy.config.shipped import shipped_directory
from proxy.demo.callers import Caller, demo_callers, organizations_yaml
from proxy.demo.counts import Counts, OrgCounts, gateway_counts, simulator_counts
from proxy.demo.stage import DemoError, Stage, fetch, fetch_json, running_stage
from proxy.demo.traffic import CallerResult, send_traffic
from proxy.dialects.registry import dialects
from proxy.domain.errors import ErrorCode
from proxy.domain.money import usd_text

WORKERS: Final = 2

__all__ = ["DemoError", "run_demo"]


def run_demo(*, requests: int, stays_up: bool) -> int:
    """Run it; 0 if the two counts are equal. Raises DemoError."""
    if find_spec("openai") is None:
        raise DemoError("the demo's clients are the real openai SDK: pip install 'tallygate[demo]'")
    console = Console()
    callers = demo_callers()
    with tempfile.TemporaryDirectory(prefix="tallygate-demo-") as directory:
        console.print("Starting a mock AI API, an embedded Valkey, two gateway workers and the console ...")
        with running_stage(Path(directory), organizations=organizations_yaml(callers), workers=WORKERS) as stage:
            results = _send(console, stage, callers, requests)
            is_equal = _show(console, stage, callers, results)
            if stays_up:
                _stay(console, stage, callers)
    return 0 if is_equal else 1


def _send(console: Console, stage: Stage, callers: tuple[Caller, ...], requests: int) -> dict[str, CallerResult]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Requests through the openai SDK", total=requests)
        return asyncio.run(
            send_traffic(
                callers,
                base_url=stage.gateway_url,
                requests=requests,
                on_answer=lambda: progress.advance(task),
                random=Random(),
            ),
        )


def _show(console: Console, stage: Stage, callers: tuple[Caller, ...], results: dict[str, CallerResult]) -> bool:
    """The tables; whether the counts are equal."""
    config = load_config(
        None, shipped_dir=shipped_directory(), known_dialects=frozenset(dialects()), environ={}, default_url=stage.simulator_url
    )
    counted, by_org = gateway_counts(fetch(f"{stage.console_url}/metrics"))
    served = simulator_counts(fetch_json(f"{stage.simulator_url}/_sim/ledger"), config.prices)
    console.print()
    console.print(_organizations_table(callers, by_org, results))
    console.print()
    console.print(_comparison_table(counted, served))
    for caller in callers:
        for code, message in results[caller.org].refusals.items():
            console.print(
                f"\n[bold]{caller.name}[/] was refused with [yellow]{escape(code)}[/]:\n  {escape(message)}", highlight=False
            )
    return counted == served


def _organizations_table(callers: tuple[Caller, ...], by_org: dict[str, OrgCounts], results: dict[str, CallerResult]) -> Table:
    table = Table(title="What each organization used", title_justify="left")
    for heading in ("Organization", "Plan"):
        table.add_column(heading)
    for heading in ("Served", "Refused", "Tokens in", "Tokens out", "Spend USD"):
        table.add_column(heading, justify="right")
    for caller in callers:
        counts = by_org.get(caller.org, OrgCounts())
        state = " [red]at its limit[/]" if ErrorCode.SPEND_LIMIT_EXCEEDED in results[caller.org].refusals else ""
        table.add_row(
            f"{caller.org}{state}",
            caller.plan,
            f"{counts.served:,}",
            f"{sum(results[caller.org].statuses.values()) - results[caller.org].statuses[200]:,}",
            f"{counts.prompt_tokens:,}",
            f"{counts.completion_tokens:,}",
            usd_text(counts.cost_nano_usd),
        )
    return table


def _comparison_table(counted: Counts, served: Counts) -> Table:
    table = Table(title="What the gateway counted, beside what the mock API served", title_justify="left")
    table.add_column("")
    for heading in ("Gateway", "Mock API", "Difference"):
        table.add_column(heading, justify="right")
    for (name, ours), (_, theirs) in zip(counted.rows(), served.rows(), strict=True):
        shown = (
            (usd_text(ours), usd_text(theirs), usd_text(ours - theirs))
            if name == "cost_nano_usd"
            else (ours, theirs, ours - theirs)
        )
        colour = "green" if ours == theirs else "red"
        label = "cost, USD" if name == "cost_nano_usd" else name.replace("_", " ")
        cells = [cell if isinstance(cell, str) else f"{cell:,}" for cell in shown]
        table.add_row(label, cells[0], cells[1], f"[{colour}]{cells[2]}[/]")
    return table


def _stay(console: Console, stage: Stage, callers: tuple[Caller, ...]) -> None:
    enterprise = callers[-1]
    console.print("\nStill running, until Ctrl-C:")
    console.print(f"  gateway  {stage.gateway_url}   (OPENAI_BASE_URL={stage.gateway_url}/v1)", soft_wrap=True)
    console.print(f"  api key  {enterprise.api_key}   ({enterprise.name})", soft_wrap=True)
    console.print(f"  metrics  {stage.console_url}/metrics", soft_wrap=True)
    console.print(f"  ready    {stage.console_url}/readyz", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
