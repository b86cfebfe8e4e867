"""The demo from start to end: processes, traffic, and the tables."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tallygate.app.clocks import now_ms
from tallygate.config.cache_ratios import DEFAULT_RATIOS
from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.load import load_config
from tallygate.config.shipped import shipped_directory
from tallygate.config.upstream_catalogue import read_upstream_catalogue
from tallygate.demo.callers import Caller, demo_callers, organizations_yaml
from tallygate.demo.counts import Counts, OrgCounts, gateway_counts, simulator_counts
from tallygate.demo.history import GLOO_PAST, OPENAI_PAST, PastRequest, fill_history
from tallygate.demo.ledger_figures import LedgerFigures, fetch_ledger
from tallygate.demo.stage import DemoError, Stage, fetch, fetch_json, running_stage
from tallygate.demo.traffic import GLOO_KINDS, OPENAI_KINDS, PLAIN_KINDS, CallerResult, Kinds, has_sdk, send_traffic
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import ErrorCode
from tallygate.domain.instants import instant_text
from tallygate.domain.money import usd_text
from tallygate.ledger.time_buckets import QUARTER_MS

WORKERS: Final = 2

__all__ = ["PROFILES", "DemoError", "run_demo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The API that the demo shows.

    base         of the SDK, below the gateway's address
    kinds        of traffic
    plain_kinds  those that need no SDK
    past         of the history
    simulated    the mock's profile, "" for all
    """

    base: str
    kinds: Kinds
    plain_kinds: Kinds
    past: Sequence[PastRequest]
    simulated: str = ""


PROFILES: Final[Mapping[str, Profile]] = {
    "openai": Profile(base="/v1", kinds=OPENAI_KINDS, plain_kinds=PLAIN_KINDS, past=OPENAI_PAST),
    "gloo": Profile(base="/ai/v2", kinds=GLOO_KINDS, plain_kinds=GLOO_KINDS, past=GLOO_PAST, simulated="gloo"),
}


def run_demo(*, requests: int, days: int, stays_up: bool, profile: str = "openai") -> int:
    """Run the demo; return 0 if all counts are equal. days: of history. Raises DemoError."""
    told_to_end: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        """As Ctrl-C does, which ends a loop of asyncio in order: started processes end too, and free their ports."""
        told_to_end.append(number)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored, and by asyncio then too
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        return _run(PROFILES[profile], requests=requests, days=days, stays_up=stays_up)
    finally:
        if told_to_end:
            sys.exit(128 + told_to_end[0])


def _run(shown: Profile, *, requests: int, days: int, stays_up: bool) -> int:
    os.environ["no_proxy"] = "*"  # its SDK clients and processes are all on this machine: none needs the environment's proxy
    console = Console()
    callers = demo_callers(has_history=days > 0)

    def prepare(simulator_url: str, data_dir: Path) -> None:
        if days:
            console.print(f"Writing {days} days of history ...")
            prices = demo_prices(simulator_url, shown)
            asyncio.run(fill_history(data_dir, callers, shown.past, prices, days=days, now_ms=now_ms(), random=Random()))

    with tempfile.TemporaryDirectory(prefix="tallygate-demo-") as directory:
        console.print("Starting a mock AI API, an embedded Valkey, two gateway workers and the console ...")
        organizations = organizations_yaml(callers)
        with running_stage(
            Path(directory), organizations=organizations, workers=WORKERS, prepare=prepare, profile=shown.simulated
        ) as stage:
            since, before = _quarter(now_ms()), gateway_counts(fetch(f"{stage.console_url}/metrics"))
            console.print("The usage page; signs in once, within 10 minutes:")
            console.print(f"[bold]{escape(stage.page_url)}[/]", soft_wrap=True, highlight=False)
            results = _send(console, stage, callers, requests, shown)
            is_equal = _show(console, stage, callers, results, shown, since=since, before=before)
            if stays_up:
                _stay(console, stage, callers, shown)
    return 0 if is_equal else 1


def _send(console: Console, stage: Stage, callers: tuple[Caller, ...], requests: int, profile: Profile) -> dict[str, CallerResult]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"Requests {'through the openai SDK' if has_sdk() else 'over HTTP'}", total=requests)
        return asyncio.run(
            send_traffic(
                callers,
                base_url=stage.gateway_url + profile.base,
                requests=requests,
                on_answer=lambda: progress.advance(task),
                random=Random(),
                kinds=profile.kinds if has_sdk() else profile.plain_kinds,
            ),
        )


def _quarter(at_ms: int) -> str:
    """The quarter of an hour in which the demo began, from which on the ledger's sums are its own."""
    return instant_text(at_ms // QUARTER_MS * QUARTER_MS)


def _show(
    console: Console,
    stage: Stage,
    callers: tuple[Caller, ...],
    results: dict[str, CallerResult],
    profile: Profile,
    *,
    since: str,
    before: tuple[Counts, dict[str, OrgCounts]],
) -> bool:
    """Print the tables of what came since the demo began; return whether all counts are equal.

    since, before   when it began, and the gateway's counts then
    """
    asked = fetch_json(f"{stage.simulator_url}/_sim/ledger")
    # not what workers ask for themselves
    records = [record for record in asked if record["accepted"] and (record["request_id"] or record["is_turn"] or record["tier"])]
    served = simulator_counts(records, demo_prices(stage.simulator_url, profile))
    ledger = fetch_ledger(stage, served.requests, since=since)
    metered, by_org = gateway_counts(fetch(f"{stage.console_url}/metrics"))  # of the ledger's own totals, so they are complete now
    metered -= before[0]
    served_to = {org: counts.served - before[1].get(org, OrgCounts()).served for org, counts in by_org.items()}
    console.print()
    console.print(_organizations_table(callers, served_to, results))
    for caller in callers:
        for code, message in results[caller.org].refusals.items():
            console.print(
                f"\n[bold]{caller.name}[/] was refused with [yellow]{escape(code)}[/]:\n  {escape(message)}", highlight=False
            )
    console.print()
    console.print(_comparison_table(ledger.counts, metered, served))
    console.print()
    console.print(_usage_table(ledger, served))
    is_each_once = _is_each_once(ledger.event_ids, records)
    sources = ", ".join(f"{source} {count:,}" for source, count in sorted(ledger.sources.items(), key=lambda pair: -pair[1]))
    verdict = "[green]each once[/]" if is_each_once else "[red]not each once[/]"
    console.print(f"Events in the API: {ledger.event_ids.total():,} of {len(records):,}, {verdict}. Usage source: {sources}.")
    return is_each_once and ledger.counts == metered == served


def _is_each_once(event_ids: Counter[str], records: Sequence[Mapping[str, object]]) -> bool:
    """Return whether each request has one event, and so has each of a socket or a batch, which has no id at the mock API."""
    requests = Counter(str(record["request_id"]) for record in records if record["request_id"] and not record["is_turn"])
    others = event_ids - requests
    return not requests - event_ids and others.total() == len(others) == len(records) - requests.total()


def demo_prices(simulator_url: str, profile: Profile) -> PriceCatalogue:
    """The prices by which the gateway charges: the shipped list, and the mock API's own catalogue, if any."""
    config = load_config(
        None, shipped_dir=shipped_directory(), known_dialects=dialects().traits, environ={}, default_url=simulator_url
    )
    if not profile.simulated:
        return config.prices
    catalogue = read_upstream_catalogue(fetch(f"{simulator_url}/platform/v2/models").encode(), DEFAULT_RATIOS)
    return config.prices.with_upstream(catalogue.prices, catalogue.families)


def _organizations_table(callers: tuple[Caller, ...], served_to: Mapping[str, int], results: dict[str, CallerResult]) -> Table:
    table = Table(title="What became of the requests", title_justify="left")
    for heading in ("Organization", "Plan"):
        table.add_column(heading)
    for heading in ("Served", "Refused"):
        table.add_column(heading, justify="right")
    for caller in callers:
        state = " [red]at its limit[/]" if ErrorCode.SPEND_LIMIT_EXCEEDED in results[caller.org].refusals else ""
        table.add_row(
            f"{caller.org}{state}",
            caller.plan,
            f"{served_to.get(caller.org, 0):,}",
            f"{sum(results[caller.org].statuses.values()) - results[caller.org].statuses[200]:,}",
        )
    return table


def _comparison_table(ledger: Counts, metered: Counts, served: Counts) -> Table:
    table = Table(title="What was counted, beside what the mock API served", title_justify="left")
    table.add_column("")
    for heading in ("Ledger", "Metrics", "Mock API", "Difference"):
        table.add_column(heading, justify="right")
    for (name, stored), (_, shown), (_, theirs) in zip(ledger.rows(), metered.rows(), served.rows(), strict=True):
        text = usd_text if name == "cost_nano_usd" else "{:,}".format
        label = "cost, USD" if name == "cost_nano_usd" else name.replace("_", " ")
        table.add_row(
            label,
            text(stored),
            text(shown),
            text(theirs),
            _difference(max(stored, shown, theirs) - min(stored, shown, theirs), text),
        )
    return table


def _usage_table(ledger: LedgerFigures, served: Counts) -> Table:
    """The final table: the ledger by organization and capability, and its sum beside the mock API's."""
    table = Table(title="Usage, read from the ledger through GET /api/usage", title_justify="left")
    for heading in ("Organization", "Capability"):
        table.add_column(heading)
    for heading in ("Requests", "In", "Out", "USD"):
        table.add_column(heading, justify="right")
    for row in ledger.rows:
        used = (row.requests, row.prompt_tokens, row.completion_tokens)
        table.add_row(row.org, row.capability, *map("{:,}".format, used), usd_text(row.cost_nano_usd))
    table.add_section()
    ours, theirs = (
        (counts.requests, counts.prompt_tokens, counts.completion_tokens, counts.cost_nano_usd)
        for counts in (ledger.counts, served)
    )
    for name, amounts in (("Ledger", ours), ("Mock API", theirs)):
        table.add_row(name, "", *map("{:,}".format, amounts[:3]), usd_text(amounts[3]))
    apart = [mine - its for mine, its in zip(ours, theirs, strict=True)]
    table.add_row("Difference", "", *(_difference(amount, "{:,}".format) for amount in apart[:3]), _difference(apart[3], usd_text))
    return table


def _difference(amount: int, text: Callable[[int], str]) -> str:
    return f"[red]{text(amount)}[/]" if amount else f"[green]{text(amount)}[/]"


def _stay(console: Console, stage: Stage, callers: tuple[Caller, ...], profile: Profile) -> None:
    enterprise = callers[-1]
    with suppress(KeyboardInterrupt):  # from the first line on: who reads the last one may be quick
        console.print("\nStill running, until Ctrl-C:")
        console.print(f"  gateway  {stage.gateway_url}   (OPENAI_BASE_URL={stage.gateway_url}{profile.base})", soft_wrap=True)
        console.print(f"  api key  {enterprise.api_key}   ({enterprise.name})", soft_wrap=True)
        console.print(f"  console  {stage.console_url}/", soft_wrap=True)
        console.print(f"  api      {stage.console_url}/api/usage   (Authorization: Bearer {stage.admin_token})", soft_wrap=True)
        console.print(f"  metrics  {stage.console_url}/metrics", soft_wrap=True)
        console.print(f"  ready    {stage.console_url}/readyz", soft_wrap=True)
        while True:
            time.sleep(3600)
