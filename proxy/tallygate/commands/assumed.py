"""`tallygate assumed`: lists events whose usage was assumed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from tallygate.commands.ledger_session import LedgerSession, open_session, plain_errors
from tallygate.commands.output_console import output_console
from tallygate.commands.time_range import RangeOptions, read_range


@click.command(short_help="Events whose usage was assumed, and that `correct` can put right.")
@click.option("--from", "from_text", metavar="TIME", help="Beginning, inclusive.  [default: 30 days ago]")
@click.option("--to", "to_text", metavar="TIME", help="End, exclusive.  [default: now]")
@click.option("--org", "orgs", multiple=True, help="Only this organization; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, with every figure of `correct --file`.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--database-url", help="As of serve.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
def assumed(
    *, from_text: str | None, to_text: str | None, orgs: tuple[str, ...], as_json: bool, **flags: str | Path | None
) -> None:
    """List events whose exact usage could not be had, and that nobody has corrected yet."""

    async def fetch() -> list[dict[str, Any]]:
        async with open_session(flags) as session:
            options = RangeOptions(from_text=from_text, to_text=to_text, month=None, time_zone=None)
            return await _assumed(session, options, orgs)

    with plain_errors():
        found = asyncio.run(fetch())
    if as_json:
        for row in found:
            click.echo(json.dumps(row))
        return
    _show(found)


async def _assumed(session: LedgerSession, options: RangeOptions, orgs: tuple[str, ...]) -> list[dict[str, Any]]:
    from tallygate.commands.correct import corrections_of
    from tallygate.ledger.corrections import Figures

    unknown = set(orgs) - session.organizations.keys()
    if unknown:
        raise click.ClickException(f"there is no organization {min(unknown)}")
    from_ms, to_ms = session.now_ms - 30 * 86_400_000, session.now_ms
    if options.from_text is not None or options.to_text is not None:
        from_ms, to_ms = read_range(options, (), now_ms=session.now_ms)
    book, found, after = corrections_of(session), [], ""
    while True:
        entries, after = await book.assumed(
            from_ms=from_ms, to_ms=to_ms, orgs=frozenset(orgs or session.organizations), after=after
        )
        for entry in entries:
            figures = {name: getattr(entry, name) for name in Figures.__struct_fields__}
            about = {name: getattr(entry, name) for name in ("org", "credential", "model", "upstream", "outcome", "started_at_ms")}
            found.append(figures | about | {"cost_nano_usd": entry.cost_nano_usd, "client_request_id": entry.client_request_id})
        if not after:
            return found


def _show(found: list[dict[str, Any]]) -> None:
    from tallygate.domain.money import usd_text

    console = output_console()
    if not found:
        console.print("no event's usage is assumed")
        return
    table = Table("Event", "Organization", "Model", "Outcome", "Prompt", "Completion", "USD", box=None, pad_edge=False)
    for row in found:
        texts = (escape(str(row[name])) for name in ("event_id", "org", "model", "outcome"))
        table.add_row(*texts, f"{row['prompt_tokens']:,}", f"{row['completion_tokens']:,}", usd_text(row["cost_nano_usd"]))
    console.print(table)
