"""`tallygate usage`: the usage of organizations, as a table or JSON."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.markup import escape
from rich.table import Table

from tallygate.commands.ledger_session import LedgerSession, open_session, plain_errors
from tallygate.commands.output_console import output_console
from tallygate.commands.time_range import RangeOptions, common_billing_day, common_zone, read_range

if TYPE_CHECKING:
    from tallygate.ledger.usage_queries import UsageRow

BUCKETS: Final = ("15m", "hour", "day", "week", "month")  # tallygate.ledger.time_buckets.Bucket, without importing it for --help
DIMENSIONS: Final = ("org", "credential", "capability", "model", "endpoint", "status", "outcome", "refused_by")
_LAST_DAYS_MS: Final = 7 * 86_400_000


@click.command(short_help="Show requests, tokens and cost.")
@click.option("--org", "orgs", multiple=True, help="Organization; repeatable.  [default: all]")
@click.option("--from", "from_text", metavar="TIME", help="Beginning, inclusive.  [default: seven days ago]")
@click.option("--to", "to_text", metavar="TIME", help="End, exclusive.  [default: now]")
@click.option("--month", metavar="YYYY-MM", help="Instead of --from and --to: the month that begins then.")
@click.option("--time-zone", help="Zone of dates and days.  [default: the organization's if it is one, else UTC]")
@click.option("--by", "group_by", multiple=True, type=click.Choice(DIMENSIONS), help="Divide by; repeatable.  [default: org]")
@click.option("--each", "bucket", type=click.Choice(BUCKETS), help="Divide the time.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; money in nano-USD.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--database-url", help="As of serve.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
def usage(
    *,
    orgs: tuple[str, ...],
    from_text: str | None,
    to_text: str | None,
    month: str | None,
    time_zone: str | None,
    group_by: tuple[str, ...],
    bucket: str | None,
    as_json: bool,
    **flags: str | Path | None,
) -> None:
    """Show requests, tokens and cost of organizations, as far back as their history goes."""
    options = RangeOptions(from_text=from_text, to_text=to_text, month=month, time_zone=time_zone)
    dimensions = group_by or ("org",)

    async def fetch() -> "tuple[str, list[UsageRow]]":
        async with open_session(flags) as session:
            return await _ask(session, orgs, options, dimensions, bucket)

    with plain_errors():
        zone, rows = asyncio.run(fetch())
    if as_json:
        for row in rows:
            click.echo(json.dumps(_facts(row, dimensions)))
        return
    _show(rows, dimensions, zone=zone, has_time=bucket is not None)


async def _ask(
    session: LedgerSession, orgs: tuple[str, ...], options: RangeOptions, dimensions: tuple[str, ...], bucket: str | None
) -> "tuple[str, list[UsageRow]]":
    from tallygate.ledger.retention import visible_from_ms
    from tallygate.ledger.time_buckets import Bucket
    from tallygate.ledger.usage_queries import Dimension, OrgScope, UsageQueries, UsageQuery

    asked = [session.organization(org, needs_export=False) for org in orgs] or list(session.organizations.values())
    if not asked:
        raise click.ClickException(
            "no organization is known: give the --config-dir of serve, or add one with `tallygate orgs create`"
        )
    if options.from_text is None and options.month is None:
        from_ms, to_ms = session.now_ms - _LAST_DAYS_MS, session.now_ms
    else:
        from_ms, to_ms = read_range(options, asked, now_ms=session.now_ms)
    zone = options.time_zone or common_zone(asked)
    query = UsageQuery(
        scopes=tuple(OrgScope(org=found.id, visible_from_ms=visible_from_ms(found, session.now_ms)) for found in asked),
        from_ms=from_ms,
        to_ms=to_ms,
        bucket=Bucket(bucket) if bucket else None,
        time_zone=zone,
        billing_day=common_billing_day(asked),
        group_by=tuple(Dimension(name) for name in dimensions),
    )
    return zone, await UsageQueries(session.database).usage(query)


def _facts(row: "UsageRow", dimensions: tuple[str, ...]) -> dict[str, str | int]:
    from dataclasses import asdict

    return {"start_ms": row.start_ms, "end_ms": row.end_ms, **dict(zip(dimensions, row.group, strict=True)), **asdict(row.usage)}


def _show(rows: "list[UsageRow]", dimensions: tuple[str, ...], *, zone: str, has_time: bool) -> None:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from tallygate.domain.money import usd_text

    table = Table(
        *(["From"] if has_time else []), *dimensions, "requests", "refused", "prompt", "completion", "USD", box=None, pad_edge=False
    )
    for row in rows:
        start = [f"{datetime.fromtimestamp(row.start_ms / 1000, ZoneInfo(zone)):%Y-%m-%d %H:%M}"] if has_time else []
        amounts = (row.usage.requests, row.usage.refused, row.usage.prompt_tokens, row.usage.completion_tokens)
        table.add_row(*start, *map(escape, row.group), *(f"{amount:,}" for amount in amounts), usd_text(row.usage.cost_nano_usd))
    output_console().print(table if rows else "no usage")
