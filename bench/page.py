"""What the Usage page weighs, and how soon it shows its first chart over a large ledger.

python -m bench.page [--directory DIR]

DIR has the ledger.db of bench.ledger_queries, which is copied; without one, only the weight is measured. Times are of Chromium on
this machine, signed in, without anything in its cache: from asking for the address to the first column that is drawn.
"""

import argparse
import gzip
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import yaml
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from bench.ledger_queries import DAY_MS, DAYS, ORGS, START_MS
from tallygate.demo.stage import Stage, running_stage

ROUNDS = 5
LAST_DAY = time.strftime("%Y-%m-%d", time.gmtime((START_MS + (DAYS - 1) * DAY_MS) / 1000))
FIRST_DAY = time.strftime("%Y-%m-%d", time.gmtime((START_MS + (DAYS - 30) * DAY_MS) / 1000))
RANGE = f"range=custom&from={FIRST_DAY}&until={LAST_DAY}"
PAGES = {
    "all organizations, 30 days by capability": f"/?{RANGE}",
    "all organizations, 30 days by model": f"/?{RANGE}&stack=model&view=cost",
    "the busiest, 30 days by credential": f"/?org=org-00&{RANGE}&stack=credential&view=cost",
    "the busiest, 7 days by hour": f"/?org=org-00&range=custom&from={LAST_DAY[:8]}01&until={LAST_DAY[:8]}07&by=hour",
}


def weight() -> Table:
    """The page's files, as they are served, and as a proxy in front of the console may compress them."""
    table = Table("File", "Bytes", "gzip", title="Weight of the page", title_justify="left")
    bodies = {file.name: file.read_bytes() for file in (files("tallygate.console") / "page").iterdir()}
    sizes = {name: (len(body), len(gzip.compress(body))) for name, body in bodies.items()}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1][0]):
        table.add_row(name, *map("{:,}".format, size))
    table.add_section()
    table.add_row("all", *(f"{sum(column):,}" for column in zip(*sizes.values(), strict=True)))
    return table


def first_charts(browser: Browser, stage: Stage) -> Iterator[tuple[str, list[float]]]:
    """Seconds to the first chart of each page."""
    for name, path in PAGES.items():
        seconds = []
        for _ in range(ROUNDS):
            context = browser.new_context()
            proof = {"data": {"token": stage.admin_token}, "headers": {"Origin": stage.console_url}}
            context.request.post(f"{stage.console_url}/api/session", **proof)
            page = context.new_page()
            began = time.perf_counter()
            page.goto(stage.console_url + path, wait_until="commit")
            page.locator(".column rect").first.wait_for()
            seconds.append(time.perf_counter() - began)
            context.close()
        yield name, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path)
    directory = parser.parse_args().directory
    console = Console()
    console.print(weight())
    if directory is None:
        return
    organizations = [{"id": f"org-{number:02d}", "plan": "enterprise"} for number in range(ORGS)]
    with tempfile.TemporaryDirectory(prefix="bench-page-") as temporary:
        known = yaml.safe_dump({"organizations": organizations})
        with (
            running_stage(
                Path(temporary),
                organizations=known,
                workers=1,
                prepare=lambda _url, data_dir: shutil.copy(directory / "ledger.db", data_dir),
            ) as stage,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            table = Table("Page", "best, ms", "median, ms", title="First chart", title_justify="left")
            for name, seconds in first_charts(browser, stage):
                table.add_row(name, f"{min(seconds) * 1000:,.0f}", f"{statistics.median(seconds) * 1000:,.0f}")
            browser.close()
            console.print(table)


if __name__ == "__main__":
    main()
