"""`tallygate reprice`: applies a corrected price to earlier charges."""

import asyncio
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from tallygate.commands.answers import Column, json_option, show_rows
from tallygate.commands.ledger_session import LedgerSession, open_session, plain_errors
from tallygate.commands.output_console import output_console
from tallygate.commands.time_range import RangeOptions, read_range

_COLUMNS: Final = (
    Column("org", "Organization"),
    Column("events", "Events", is_amount=True),
    Column("difference_usd", "Difference in USD", is_amount=True),
)


@click.command(short_help="Apply a corrected price to what was already charged.")
@click.argument("model")
@click.option("--from", "from_text", metavar="TIME", help="Beginning, inclusive.  [default: the first moment that it prices]")
@click.option("--to", "to_text", metavar="TIME", help="End, exclusive.  [default: now]")
@click.option("--org", "orgs", multiple=True, help="Only this organization; repeatable.")
@click.option("--apply", "applies", is_flag=True, help="Enter the corrections. Without it nothing is changed.")
@json_option
@click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--database-url", help="As of serve.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
def reprice(
    *,
    model: str,
    from_text: str | None,
    to_text: str | None,
    orgs: tuple[str, ...],
    applies: bool,
    as_json: bool,
    **flags: str | Path | None,
) -> None:
    """Charge what MODEL was used for by the price that prices.yaml has for it now.

    Shows the difference by organization; with --apply it is entered as correcting entries. What was entered stays: entries are
    never changed. Spend windows of the limiter keep what they took.
    """

    async def reprice_all() -> dict[str, tuple[int, int]]:
        async with open_session(flags, writes=True) as session:
            options = RangeOptions(from_text=from_text, to_text=to_text, month=None, time_zone=None)
            return await _reprice(session, model, options, orgs, applies=applies)

    with plain_errors():
        differences = asyncio.run(reprice_all())
    _show(differences, applies=applies, as_json=as_json)


async def _reprice(
    session: LedgerSession, model: str, options: RangeOptions, orgs: tuple[str, ...], *, applies: bool
) -> dict[str, tuple[int, int]]:
    from tallygate.ledger.reprice import RepriceQuery, Repricing

    begins_ms = session.prices.begins_ms(model)
    if begins_ms is None:
        raise click.ClickException(f"prices.yaml has no price for {model}")
    unknown = set(orgs) - session.organizations.keys()
    if unknown:
        raise click.ClickException(f"there is no organization {min(unknown)}")
    from_ms, to_ms = begins_ms, session.now_ms
    if options.from_text is not None:
        from_ms, to_ms = read_range(options, (), now_ms=session.now_ms)
    query = RepriceQuery(model=model, from_ms=from_ms, to_ms=to_ms, orgs=frozenset(orgs or session.organizations))
    repricing = Repricing(session.database, session.prices)
    differences: dict[str, tuple[int, int]] = {}
    after = ""
    columns = (TextColumn("{task.completed:,} events, {task.fields[found]:,} to correct"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, found=0)
        while True:
            page = await repricing.page(query, after, now_ms=session.now_ms, apply=applies)
            for entry in page.corrections:
                events, nano_usd = differences.get(entry.org, (0, 0))
                differences[entry.org] = events + 1, nano_usd + entry.cost_nano_usd
            progress.update(task, advance=page.looked_at, found=sum(events for events, _ in differences.values()))
            after = page.cursor
            if not after:
                return differences


def _show(differences: dict[str, tuple[int, int]], *, applies: bool, as_json: bool) -> None:
    from tallygate.domain.money import usd_text

    rows = [
        {"org": org, "events": events, "difference_nano_usd": nano_usd, "difference_usd": usd_text(nano_usd)}
        for org, (events, nano_usd) in sorted(differences.items())
    ]
    total_events, total = (sum(pair[index] for pair in differences.values()) for index in (0, 1))
    totals = {"org": "Total", "events": total_events, "difference_usd": usd_text(total)}
    whole = {"entered": applies, "organizations": rows}
    empty = "every event is charged as the price says"
    show_rows(rows, _COLUMNS, as_json=as_json, as_csv=False, empty=empty, totals=totals, whole=whole)
    if rows and not as_json:
        output_console().print("[green]entered[/]" if applies else "nothing was changed; enter it with [bold]--apply[/]")
