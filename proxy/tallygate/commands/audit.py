"""`tallygate audit`: adds everything up again."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tallygate.commands.answers import Column, json_option, show_rows
from tallygate.commands.ledger_session import LedgerSession, open_session, plain_errors
from tallygate.commands.output_console import output_console

if TYPE_CHECKING:
    from tallygate.ledger.audit import Drift

SHOWN_MAX: Final = 50
ROWS_AT_ONCE: Final = 5_000  # entries and sums in memory at once; a busier day is audited by itself
DAY_MS: Final = 86_400_000
_COLUMNS: Final = (
    Column("what", "Sum"),
    Column("where", "Where"),
    Column("amount", "Amount"),
    Column("expected", "Entries say", is_amount=True),
    Column("found", "Found", is_amount=True),
)


@click.command(short_help="Compare entries, rollups and the limiter; exit code 1 if they differ.")
@click.option("--repair", "repairs", is_flag=True, help="Rebuild limiter windows that differ from the ledger.")
@click.option("--org", "orgs", multiple=True, help="Only this organization; repeatable.")
@json_option
@click.option("--redis-url", help="As of serve.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--database-url", help="As of serve.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
def audit(*, repairs: bool, orgs: tuple[str, ...], as_json: bool, **flags: str | Path | None) -> None:
    """Add up every entry again; compare with the rollups and lifetime totals, and the limiter's spend windows with what they took.

    While the gateway serves, windows are compared up to the oldest event that is still to be stored. With --repair a window that
    differs is closed for spending, rebuilt from the ledger by the console, and opened again within a second or two.
    """

    async def compare() -> "tuple[int, list[Drift]]":
        async with open_session(flags) as session:
            wanted = frozenset(orgs) if orgs else None
            looked_at, drifts = await _audit_ledger(session, wanted)
            windows, more = await _audit_limiter(session, wanted, repairs=repairs)
            return looked_at + windows, drifts + more

    with plain_errors():
        looked_at, drifts = asyncio.run(compare())
    _show(looked_at, drifts, as_json=as_json)
    sys.exit(1 if drifts else 0)


async def _audit_ledger(session: LedgerSession, wanted: frozenset[str] | None) -> "tuple[int, list[Drift]]":
    from tallygate.ledger.audit import LedgerAudit, lifetime_drifts
    from tallygate.ledger.retention import visible_from_ms

    ledger = LedgerAudit(session.database)
    kept_from = {org: visible_from_ms(found, session.now_ms) for org, found in session.organizations.items()}
    days = {
        (org, day): rows
        for (org, day), rows in (await ledger.days()).items()
        if (wanted is None or org in wanted) and day >= kept_from.get(org, 0)
    }
    drifts: list[Drift] = []
    columns = (TextColumn("days of organizations"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(days))
        for org, first, last, count in audit_stretches(days):
            drifts += await ledger.day(org, first, days=(last - first) // DAY_MS + 1)
            progress.advance(task, count)
        for org in sorted({org for org, _ in days}):
            drifts += await ledger.postings(org, max(kept_from.get(org, 0), session.now_ms - 90 * 86_400_000))
            drifts += await lifetime_drifts(session.database, org)
    return len(days), drifts


def audit_stretches(days: Mapping[tuple[str, int], int]) -> list[tuple[str, int, int, int]]:
    """(organization, first day, last day, how many of `days`), joining days with few rows."""
    found: list[tuple[str, int, int, int]] = []
    rows_so_far = 0
    for (org, day), rows in sorted(days.items()):
        if found and found[-1][0] == org and rows_so_far + rows <= ROWS_AT_ONCE:
            _, first, _, count = found[-1]
            found[-1] = (org, first, day, count + 1)
            rows_so_far += rows
        else:
            found.append((org, day, day, 1))
            rows_so_far = rows
    return found


async def _audit_limiter(session: LedgerSession, wanted: frozenset[str] | None, *, repairs: bool) -> "tuple[int, list[Drift]]":
    from tallygate.app.stores import open_ledger_link
    from tallygate.ledger.audit import LimiterAudit
    from tallygate.limiter.generation import close_partition
    from tallygate.limiter.keys import partition_of
    from tallygate.limiter.script import load_scripts

    if not session.settings.redis_url.get_secret_value():
        Console(stderr=True).print("no store runs: the limiter is not compared")
        return 0, []
    store = await open_ledger_link(session.settings)
    looked_at, partitions = 0, set[int]()
    drifts: list[Drift] = []
    try:
        organizations = [found for org, found in session.organizations.items() if wanted is None or org in wanted]
        async for window, found in LimiterAudit(session.database, store, load_scripts()).windows(organizations, session.now_ms):
            looked_at += 1
            drifts += found
            if found:
                partitions.add(partition_of(window.org))
        if repairs:
            for partition in sorted(partitions):
                await close_partition(store, partition)
    finally:
        await store.close()
    return looked_at, drifts


def _show(looked_at: int, drifts: "list[Drift]", *, as_json: bool) -> None:
    from dataclasses import asdict

    rows = [asdict(drift) for drift in drifts]
    if as_json or drifts:
        whole = {"compared": looked_at, "drifts": rows}
        show_rows(rows[:SHOWN_MAX], _COLUMNS, as_json=as_json, as_csv=False, empty="", whole=whole)
    if as_json:
        return
    console = output_console()
    if drifts:
        console.print(f"[red]{len(drifts):,} sums differ[/], {sum(drift.nano_usd for drift in drifts):,} nano-USD in all")
    else:
        console.print(f"[green]no drift[/] in {looked_at:,} days and windows")
