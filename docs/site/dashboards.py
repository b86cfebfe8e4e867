"""Pictures of the Grafana dashboards (`make pictures`), kept in docs/pictures: their own queries, asked of a real Prometheus that
scrapes the demo and knows its 30 days of history, and of a real PostgreSQL with the demo's ledger. `dashboard_page.py` draws them,
since no Grafana can be had from a package registry.

The harness of the tests runs the servers and reads the dashboards as Grafana does, so it is on the path (Makefile).
"""

import asyncio
import base64
import math
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import yaml
from dashboard_files import METRIC_NAMES, dashboard, panels, variables
from dashboard_page import Answer, Line, named, page
from grafana_words import Chosen, Moment, first_choices, promql, sql
from playwright.sync_api import sync_playwright
from postgres_process import running_postgres
from prometheus_server import Prometheus, program, running_prometheus, shipped_config
from sqlalchemy import select

from tallygate.app.clocks import now_ms
from tallygate.console.ledger_totals import LedgerTotals
from tallygate.demo.callers import Caller, demo_callers, organizations_yaml
from tallygate.demo.demo import PROFILES, WORKERS, demo_prices
from tallygate.demo.history import fill_history
from tallygate.demo.stage import Stage, running_stage
from tallygate.demo.traffic import send_traffic
from tallygate.ledger.book import Book
from tallygate.ledger.entry import Entry, Kind
from tallygate.ledger.opening import open_database
from tallygate.ledger.schema import ENTRIES
from tallygate.telemetry.metric import Kind as MetricKind
from tallygate.telemetry.metric import Labels, Metric

PICTURES = Path(__file__).parents[1] / "pictures"
SHOWN = PROFILES["openai"]
DAYS = 30
SAMPLE_SECONDS = 600  # between the samples of the past: a dashboard knows a value for a quarter of an hour
WEEK_SECONDS = 7 * 86_400
KINDS = tuple(kind for kind in SHOWN.plain_kinds if "video" not in kind.__name__)  # one of which costs as much as a day of chats
ROUNDS, ROUND_REQUESTS, ROUND_SECONDS = 60, 4, 2
# Of each dashboard: how far back it looks, and what is chosen beside what it opens with.
RANGES = {"usage": 30 * 86_400, "spend": WEEK_SECONDS, "health": ROUNDS * ROUND_SECONDS}
CHOSEN = {"usage": {"view": Chosen(values=("spend",), text="Cost (USD)")}}
INVOICED = "globex"
# Run by the browser on its own picture: the 256 most frequent colours, each of which stands for those that are nearest to it.
FEWER_COLOURS = """async (taken) => {
  const picture = await createImageBitmap(await (await fetch("data:image/png;base64," + taken)).blob());
  const canvas = new OffscreenCanvas(picture.width, picture.height), plane = canvas.getContext("2d");
  plane.drawImage(picture, 0, 0);
  const { data, width, height } = plane.getImageData(0, 0, picture.width, picture.height);
  const counts = new Map();
  const key = (at) => ((data[at] >> 3) << 10) | ((data[at + 1] >> 3) << 5) | (data[at + 2] >> 3);
  for (let at = 0; at < data.length; at += 4) {
    const found = counts.get(key(at));
    if (found) found.count += 1;
    else counts.set(key(at), { count: 1, colour: [data[at], data[at + 1], data[at + 2]] });
  }
  const chosen = [...counts.values()].sort((a, b) => b.count - a.count).slice(0, 256).map((one) => one.colour);
  const distance = (a, b) => a.reduce((sum, part, index) => sum + (part - b[index]) ** 2, 0);
  for (const one of counts.values()) {
    one.place = chosen.reduce((best, colour, place) =>
      distance(colour, one.colour) < distance(chosen[best], one.colour) ? place : best, 0);
  }
  let pixels = "";
  for (let at = 0; at < data.length; at += 4) pixels += String.fromCharCode(counts.get(key(at)).place);
  return { width, height, palette: chosen.flat(), pixels: btoa(pixels) };
}"""


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Pictures are taken with chromium, which is not here: .ci/packages installs it.")
    with tempfile.TemporaryDirectory(prefix="tallygate-pictures-") as directory:
        pages = asyncio.run(drawn(Path(directory)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, text in pages.items():
            shown = browser.new_page(viewport={"width": 1236, "height": 800})
            shown.set_content(text)
            taken = base64.b64encode(shown.screenshot(full_page=True)).decode()
            picture = png(shown.evaluate(FEWER_COLOURS, taken))
            (PICTURES / f"grafana-{name}.png").write_bytes(picture)
            print(f"grafana-{name}.png: {len(picture) // 1024} KiB")
        browser.close()


def png(picture: Mapping[str, Any]) -> bytes:
    """A PNG with a palette, less than half of what a browser writes (PNG specification, 3rd edition, sections 5 and 11)."""
    width, height, pixels = picture["width"], picture["height"], base64.b64decode(picture["pixels"])
    lines = b"".join(b"\0" + pixels[start : start + width] for start in range(0, width * height, width))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": bytes(picture["palette"]),
        b"IDAT": zlib.compress(lines, 9),
        b"IEND": b"",
    }
    made = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


async def drawn(directory: Path) -> dict[str, str]:
    """Pages by the names of the dashboards, of a demo that has run for some minutes."""
    callers = demo_callers(has_history=True)

    def prepare(simulator_url: str, data_dir: Path) -> None:
        prices = demo_prices(simulator_url, SHOWN)
        asyncio.run(fill_history(data_dir, callers, SHOWN.past, prices, days=DAYS, now_ms=now_ms(), random=Random(7)))

    stage_directory = directory / "demo"
    stage_directory.mkdir()
    organizations = yaml.safe_load(organizations_yaml(callers))
    (invoiced,) = [each for each in organizations["organizations"] if each["id"] == INVOICED]
    invoiced["credentials"][0]["spend_limits"] = [{"usd": "5", "window": "7d"}, {"usd": "0.5", "window": "1d"}]
    invoiced["credentials"][0]["rate_limits"] = [{"requests": 400, "window": "1h"}]
    staged = running_stage(stage_directory, organizations=yaml.safe_dump(organizations), workers=WORKERS, prepare=prepare)
    stage = await asyncio.to_thread(staged.__enter__)
    try:
        past = await entries_of(stage_directory / "data")
        await write_past(directory, past, callers, stage.console_url)
        config = shipped_config({"tallygate": [stage.console_url]})
        keep = "--storage.tsdb.retention.time=90d"
        async with running_prometheus(directory / "prometheus", config, keep) as prometheus:
            print("Sending requests for some minutes ...")
            await traffic(stage, callers)
            pages = {name: metrics_page(prometheus, name) for name in METRIC_NAMES}
        return pages | {"invoice": await invoice_page(await entries_of(stage_directory / "data"))}
    finally:
        await asyncio.to_thread(staged.__exit__, None, None, None)


async def traffic(stage: Stage, callers: tuple[Caller, ...]) -> None:
    for number in range(ROUNDS):
        until = time.monotonic() + ROUND_SECONDS
        await send_traffic(
            callers,
            base_url=stage.gateway_url + SHOWN.base,
            requests=ROUND_REQUESTS,
            on_answer=lambda: None,
            random=Random(number),
            kinds=KINDS,
        )
        await asyncio.sleep(max(until - time.monotonic(), 0))


async def entries_of(data_dir: Path) -> list[Entry]:
    database = open_database("", data_dir)
    try:
        async with database.read() as connection:
            rows = (await connection.execute(select(ENTRIES).order_by(ENTRIES.c.settled_at_ms))).mappings().all()
    finally:
        await database.close()
    return [Entry(**row | {"kind": Kind(row["kind"])}) for row in map(dict, rows)]


async def write_past(directory: Path, past: Sequence[Entry], callers: Sequence[Caller], console_url: str) -> None:
    """Write what a Prometheus that had scraped the console all the time would have: the totals that the product itself makes of the
    entries up to each hour, and the window of the one spend limit.
    """
    samples: dict[Metric, dict[Labels, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    end, start = now_ms() // 1000 - 60, past[0].settled_at_ms // 1000
    kept = directory / "past"
    kept.mkdir()
    database = open_database("", kept)
    try:
        await database.migrate()
        book, totals, entered = Book(database), LedgerTotals(database), 0
        for hour in range(start, end, 3_600):
            until = entered
            while until < len(past) and past[until].settled_at_ms < hour * 1000:
                until += 1
            if until > entered:
                await book.record(past[entered:until])
            entered = until
            for metric, series in (await totals.fetch([caller.org for caller in callers])).samples.items():
                for labels, value in series.items():
                    samples[metric][labels] += [(at, value) for at in range(hour, min(hour + 3_600, end), SAMPLE_SECONDS)]
    finally:
        await database.close()
    address = console_url.removeprefix("http://")
    text = "\n".join([*_openmetrics(samples, address), *_limits(past, callers, address, start, end), "# EOF\n"])
    (directory / "past.txt").write_text(text, encoding="utf-8")
    made = directory / "prometheus" / "series"
    command = [
        program("promtool"),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "--max-block-duration=384h",
        str(directory / "past.txt"),
        str(made),
    ]
    await asyncio.to_thread(partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL))


def _openmetrics(samples: Mapping[Metric, Mapping[Labels, Sequence[tuple[int, float]]]], address: str) -> Iterator[str]:
    for metric, series in samples.items():
        if metric.kind is not MetricKind.COUNTER:
            continue
        yield f"# TYPE {metric.name.removesuffix('_total')} counter"
        for labels, points in series.items():
            named_labels = {**dict(zip(metric.labels, labels, strict=True)), "instance": address, "job": "tallygate"}
            yield from _points(metric.name, named_labels, [(at, value / metric.per_unit) for at, value in points])


def _limits(past: Sequence[Entry], callers: Sequence[Caller], address: str, start: int, end: int) -> Iterator[str]:
    """The rolling spend of those with a spend limit, beside it, and what the recording rules would have made of it."""
    made: dict[str, list[str]] = defaultdict(list)
    for caller in callers:
        if caller.spend_limit_nano_usd is None:
            continue
        limit, spent = caller.spend_limit_nano_usd / 10**9, [entry for entry in past if entry.org == caller.org]

        def rolling(at: int, seconds: int, of: Sequence[Entry] = spent) -> float:
            return sum(entry.cost_nano_usd for entry in of if at - seconds < entry.settled_at_ms / 1000 <= at) / 10**9

        times = range(max(start, end - WEEK_SECONDS), end, SAMPLE_SECONDS)
        window = [(at, rolling(at, WEEK_SECONDS)) for at in times]
        scraped, recorded = {"org": caller.org, "instance": address, "job": "tallygate"}, {"org": caller.org}
        made["tallygate_spend_window_usd"] += _points("tallygate_spend_window_usd", scraped, window)
        made["tallygate_spend_limit_usd"] += _points("tallygate_spend_limit_usd", scraped, [(at, limit) for at in times])
        made["tallygate_spend_held_usd"] += _points("tallygate_spend_held_usd", scraped, [(at, 0.0) for at in times])
        used = [(at, value / limit) for at, value in window]
        made["tallygate_paused"] += _points("tallygate_paused", scraped, [(at, float(value >= 1)) for at, value in used])
        made["org:tallygate_spend_used:ratio"] += _points("org:tallygate_spend_used:ratio", recorded, used)
        rates = [(at, rolling(at, 3_600) / 3_600) for at in times]
        made["org:tallygate_spend_usd:rate1h"] += _points("org:tallygate_spend_usd:rate1h", recorded, rates)
    for name, points in made.items():
        yield f"# TYPE {name} gauge"
        yield from points


def _points(name: str, labels: Mapping[str, str], points: Sequence[tuple[int, float]]) -> list[str]:
    text = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return [f"{name}{{{text}}} {value} {at}" for at, value in points]


def metrics_page(prometheus: Prometheus, name: str) -> str:
    moment = Moment(start=now_ms() / 1000 - RANGES[name], end=now_ms() / 1000)
    chosen = first_choices(variables(name)) | CHOSEN.get(name, {})
    answers = {panel["id"]: asked(prometheus, panel, chosen, moment) for panel in panels(name) if "targets" in panel}
    return page(
        dashboard(name),
        answers,
        lambda title: title.replace("${view:text}", chosen["view"].formatted("text") if "view" in chosen else ""),
    )


def asked(prometheus: Prometheus, panel: Mapping[str, Any], chosen: Mapping[str, Chosen], moment: Moment) -> Answer:
    """The answers to a panel's queries, as Grafana would ask them."""
    own = moment.of_panel(panel.get("timeFrom", ""))
    lines = []
    for target in panel["targets"]:
        step = own.step(promql(target.get("interval", panel.get("interval", "")), chosen, own, 1))
        text = promql(target["expr"], chosen, own, step)
        if target.get("instant"):
            found = [{"metric": one["metric"], "values": [one["value"]]} for one in prometheus.query(text, at=own.end)]
        else:
            start, end = own.cut(step)
            found = prometheus.query_range(text, start=start, end=end, step=step)
        for one in found:
            points = [(float(at), float(value)) for at, value in one["values"] if math.isfinite(float(value))]
            name = named(target.get("legendFormat", ""), one["metric"])
            if points:
                lines.append(Line(ref=target["refId"], name=name, labels=one["metric"], points=points))
    return Answer(start=own.start, end=own.end, lines=lines)


async def invoice_page(entries: Sequence[Entry]) -> str:
    """The dashboard Invoice, over a PostgreSQL ledger with the same entries."""
    with running_postgres() as server:
        owner = await asyncpg.connect(server.url())
        await owner.execute("CREATE DATABASE ledger")
        await owner.close()
        database = open_database(server.url("ledger"), Path())
        await database.migrate()
        await Book(database).record(entries)
        await database.close()
        month = Chosen(values=(f"{datetime.now(UTC):%Y-%m}",))
        chosen = {"organization": INVOICED, "time_zone": "UTC", "billing_day": "1"}
        values = {name: Chosen(values=(value,)) for name, value in chosen.items()} | {"month": month}
        reader = await asyncpg.connect(server.url("ledger"))
        answers = {}
        for panel in panels("invoice"):
            if "targets" in panel:
                rows = [dict(row) for row in await reader.fetch(sql(panel["targets"][0]["rawSql"], values))]
                answers[panel["id"]] = Answer(start=0, end=1, rows=rows)
        await reader.close()
    return page(dashboard("invoice"), answers, str)


if __name__ == "__main__":
    main()
