"""What the Usage page weighs, and how soon it shows its first chart over a large ledger.

python -m bench.page [--directory DIR] [--rounds 5]

DIR has the ledger.db of bench.ledger_queries, which is copied; without one, only the weight is measured. Times are of Chromium on
this machine, signed in, without anything in its cache: from the beginning of the navigation to the first column that is drawn, by
the browser's own clock. CPU time is what can be compared between a quiet machine and a busy one: of the console, and of the
browser's main thread, both until that column.
"""

import argparse
import gzip
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from bench import procfs
from bench.ledger_queries import DAY_MS, DAYS, ORGS, START_MS
from tallygate.demo.stage import Stage, fetch, running_stage

LAST_DAY = time.strftime("%Y-%m-%d", time.gmtime((START_MS + (DAYS - 1) * DAY_MS) / 1000))
FIRST_DAY = time.strftime("%Y-%m-%d", time.gmtime((START_MS + (DAYS - 30) * DAY_MS) / 1000))
RANGE = f"range=custom&from={FIRST_DAY}&until={LAST_DAY}"
PAGES = {
    "all organizations, 30 days by capability": f"/?{RANGE}",
    "all organizations, 30 days by model": f"/?{RANGE}&stack=model&view=cost",
    "all organizations, 30 days of New York by credential": f"/?{RANGE}&stack=credential&zone=America/New_York",
    "the busiest, 30 days by credential": f"/?org=org-00&{RANGE}&stack=credential&view=cost",
    "the busiest, 7 days by hour": f"/?org=org-00&range=custom&from={LAST_DAY[:8]}01&until={LAST_DAY[:8]}07&by=hour",
}
MARK_FIRST_CHART = """
new MutationObserver((_, observer) => {
  if (!document.querySelector(".column rect")) return;
  performance.mark("chart");
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
SEEN = """() => ({
  chart: performance.getEntriesByName("chart")[0].startTime,
  asked: performance.getEntriesByType("resource").map(({ name, startTime, responseEnd, transferSize }) =>
    ({ path: name.replace(location.origin, ""), startTime, responseEnd, transferSize })),
})"""


def weight() -> Table:
    """The page's files, plain and as they are sent; whether the first view needs them."""
    table = Table("File", "Bytes", "gzip", "First view", title="Weight of the page", title_justify="left")
    bodies = {file.name: file.read_bytes() for file in (files("tallygate.console") / "page").iterdir()}
    first = {"index.html", *re.findall(r'="/page/([^"]+)"', bodies["index.html"].decode())}
    sizes = {name: (len(body), len(gzip.compress(body))) for name, body in bodies.items()}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1][0]):
        table.add_row(name, *map("{:,}".format, size), "yes" if name in first else "")
    table.add_section()
    for title, names in (("first view", first), ("all", sizes.keys())):
        table.add_row(title, *(f"{sum(column):,}" for column in zip(*(sizes[name] for name in names), strict=True)))
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstChart:
    """One visit. seconds: to the chart; console_cpu, browser_cpu: seconds until then; asked: what was answered before."""

    seconds: float
    console_cpu: float
    browser_cpu: float
    asked: Sequence[dict[str, Any]]


def first_chart(browser: Browser, stage: Stage, console: Sequence[int], path: str) -> FirstChart:
    context = browser.new_context()
    context.add_init_script(MARK_FIRST_CHART)
    proof = {"data": {"token": stage.admin_token}, "headers": {"Origin": stage.console_url}}
    context.request.post(f"{stage.console_url}/api/session", **proof)
    page = context.new_page()
    metrics = context.new_cdp_session(page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
    cpu = procfs.cpu_seconds(console)
    page.goto(stage.console_url + path, wait_until="commit")
    page.locator(".column rect").first.wait_for()
    console_cpu = procfs.cpu_seconds(console) - cpu
    measured = {each["name"]: each["value"] for each in metrics.send("Performance.getMetrics")["metrics"]}
    seen = page.evaluate(SEEN)
    context.close()
    return FirstChart(
        seconds=seen["chart"] / 1000,
        console_cpu=console_cpu,
        browser_cpu=measured["TaskDuration"],
        asked=[each for each in seen["asked"] if each["responseEnd"] <= seen["chart"]],
    )


def charts(browser: Browser, stage: Stage, console: Sequence[int], rounds: int) -> Iterator[Table]:
    """The first chart of each page, then what the questions before it cost, each asked alone."""
    table = Table(
        "Page", "best, ms", "median, ms", "console CPU, ms", "main thread CPU, ms", "requests", "KB", title_justify="left"
    )
    asked: dict[str, None] = {}
    for name, path in PAGES.items():
        visits = [first_chart(browser, stage, console, path) for _ in range(rounds)]
        best = min(visits, key=lambda visit: visit.seconds)
        asked |= dict.fromkeys(each["path"] for each in best.asked if each["path"].startswith("/api/"))
        table.add_row(
            name,
            f"{best.seconds * 1000:,.0f}",
            f"{median(visit.seconds for visit in visits) * 1000:,.0f}",
            f"{min(visit.console_cpu for visit in visits) * 1000:,.0f}",
            f"{min(visit.browser_cpu for visit in visits) * 1000:,.0f}",
            f"{len(best.asked)}",
            f"{sum(each['transferSize'] for each in best.asked) / 1000:,.0f}",
        )
    table.title = f"First chart, load {os.getloadavg()[0]:.1f}"
    yield table
    table = Table("Question before the first chart", "best, ms", "CPU, ms", title_justify="left")
    for path in asked:
        took, cpu = [], []
        for _ in range(rounds):
            began, cpu_before = time.perf_counter(), procfs.cpu_seconds(console)
            fetch(stage.console_url + path, token=stage.admin_token)
            took.append(time.perf_counter() - began)
            cpu.append(procfs.cpu_seconds(console) - cpu_before)
        table.add_row(path, f"{min(took) * 1000:,.1f}", f"{min(cpu) * 1000:,.1f}")
    yield table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    output = Console(width=160)
    output.print(weight())
    if arguments.directory is None:
        return
    organizations = [{"id": f"org-{number:02d}", "plan": "enterprise"} for number in range(ORGS)]
    with tempfile.TemporaryDirectory(prefix="bench-page-") as temporary:
        known = yaml.safe_dump({"organizations": organizations})
        with (
            running_stage(
                Path(temporary),
                organizations=known,
                workers=1,
                prepare=lambda _url, data_dir: shutil.copy(arguments.directory / "ledger.db", data_dir),
            ) as stage,
            sync_playwright() as playwright,
        ):
            console = [pid for pid in procfs.family(os.getpid()) if "tallygate.processes.console" in procfs.command_line(pid)]
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for table in charts(browser, stage, console, arguments.rounds):
                output.print(table)
            browser.close()


if __name__ == "__main__":
    main()
