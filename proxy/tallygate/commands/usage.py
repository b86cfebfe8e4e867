"""`tallygate usage`: the usage of organizations, as a table, JSON or CSV."""

import json
import time
from types import SimpleNamespace
from typing import Any, Final

import click

from tallygate.commands.answers import Column, check_form, form_options, print_csv, show_rows
from tallygate.commands.api_client import ApiClient, api_options, asked
from tallygate.commands.time_range import RangeOptions, common_zone, range_options, read_range

BUCKETS: Final = ("15m", "hour", "day", "week", "month")  # tallygate.ledger.time_buckets.Bucket, without importing it for --help
DIMENSIONS: Final = ("org", "credential", "capability", "model", "endpoint", "status", "outcome", "refused_by")
_LAST: Final = "7d"
_AMOUNTS: Final = (
    Column("requests", "Requests", is_amount=True),
    Column("refused", "Refused", is_amount=True),
    Column("prompt_tokens", "Prompt", is_amount=True),
    Column("completion_tokens", "Completion", is_amount=True),
    Column("cost_usd", "USD", is_amount=True),
)


@click.command(short_help="Show requests, tokens and cost.")
@click.option("--org", "orgs", multiple=True, help="Organization; repeatable.  [default: all]")
@click.option("--credential", "credentials", multiple=True, help="Only of this Client ID; repeatable.")
@click.option("--capability", "capabilities", multiple=True, help="Only of this capability; repeatable.")
@click.option("--model", "models", multiple=True, help="Only of this model; repeatable.")
@range_options
@click.option("--by", "group_by", multiple=True, type=click.Choice(DIMENSIONS), help="Divide by; repeatable.  [default: org]")
@click.option("--each", "bucket", type=click.Choice(BUCKETS), help="Divide the time.")
@click.option("--top", type=click.IntRange(1, 100), help="The dearest so many, and all others as one.")
@form_options
@api_options
def usage(
    *,
    orgs: tuple[str, ...],
    credentials: tuple[str, ...],
    capabilities: tuple[str, ...],
    models: tuple[str, ...],
    from_text: str | None,
    to_text: str | None,
    month: str | None,
    last: str | None,
    time_zone: str | None,
    group_by: tuple[str, ...],
    bucket: str | None,
    top: int | None,
    as_json: bool,
    as_csv: bool,
    **options: Any,
) -> None:
    """Show requests, tokens and cost of organizations, as far back as their history goes.  [default range: --last 7d]

    With --json one JSON object a line; money also in nano-USD.
    """
    check_form(as_json=as_json, as_csv=as_csv)
    times = RangeOptions(from_text=from_text, to_text=to_text, month=month, time_zone=time_zone, last=last)
    dimensions = tuple(dict.fromkeys(group_by)) or ("org",)
    asks = {"credential": credentials, "capability": capabilities, "model": models, "top": top, "group_by": dimensions}

    async def fetch(client: ApiClient) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        found = await client.organizations(orgs)
        if not found:
            raise click.ClickException(
                "no organization is known: give the --config-dir of serve, or add one with `tallygate orgs create`"
            )
        start, end, zone = asked_range(times, found, default=_LAST)
        question = {**asks, "from": start, "to": end, "time_zone": zone, "bucket": bucket or "total", "org": orgs}
        totals = (await client.get("/api/usage", **question, limit=1))["totals"]
        return [row async for row in client.pages("/api/usage", "rows", question)], totals

    rows, totals = asked(fetch, options, needs_ledger=True)
    flat = [{name: row[name] for name in ("start", "start_ms", "end_ms")} | row["group"] | row["usage"] for row in rows]
    if as_json:
        for row in flat:
            click.echo(json.dumps(row))
        return
    columns = (*([Column("start", "From")] if bucket else []), *(Column(name, _heading(name)) for name in dimensions), *_AMOUNTS)
    if as_csv:
        print_csv(flat, columns)
        return
    shown = [row | {"start": row["start"][:16].replace("T", " ")} for row in flat]
    sums = {columns[0].key: "Total", **{column.key: totals[column.key] for column in _AMOUNTS}}
    show_rows(shown, columns, as_json=False, as_csv=False, empty="no usage", totals=sums)


def asked_range(times: RangeOptions, organizations: list[dict[str, Any]], *, default: str | None) -> tuple[str, str, str]:
    """Beginning, end and zone, as the API takes them. default: what --last is if nothing was given; None: something must be."""
    from dataclasses import replace

    from tallygate.domain.instants import instant_text

    zoned = [SimpleNamespace(time_zone=found["time_zone"], billing_day=found["billing_day"]) for found in organizations]
    now_ms = time.time_ns() // 1_000_000
    if default is not None and times.is_open and times.to_text is None:
        times = replace(times, last=default)
    start, end = read_range(times, zoned, now_ms=now_ms)
    return instant_text(start), instant_text(end), times.time_zone or common_zone(zoned)


def _heading(dimension: str) -> str:
    return {"org": "Organization", "refused_by": "Refused by"}.get(dimension, dimension.capitalize())
