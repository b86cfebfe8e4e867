"""`tallygate events`: the ledger's entries one by one, and as they come."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import click

from tallygate.commands.answers import Column, check_form, form_options, print_csv, print_table, show_rows
from tallygate.commands.api_client import ApiClient, api_options, asked
from tallygate.commands.time_range import RangeOptions, range_options
from tallygate.commands.usage import asked_range

_PATH: Final = "/api/events"
_LAST: Final = "7d"
_LIMIT: Final = 50
POLL_SECONDS: Final = 2.0
_OVERLAP_MS: Final = 60_000  # entries of several streams are stored a little out of order
_SEEN_MAX: Final = 100_000
_COLUMNS: Final = (
    Column("settled_at", "Settled"),
    Column("org", "Organization"),
    Column("credential", "Credential"),
    Column("endpoint", "Endpoint"),
    Column("model", "Model"),
    Column("status", "Status"),
    Column("prompt_tokens", "Prompt", is_amount=True),
    Column("completion_tokens", "Completion", is_amount=True),
    Column("cost_usd", "USD", is_amount=True),
    Column("usage_source", "Source"),
    Column("event_id", "Event"),
)


@click.command(short_help="List usage events, or follow them as they come.")
@click.option("--org", "orgs", multiple=True, help="Organization; repeatable.  [default: all]")
@click.option("--credential", "credentials", multiple=True, help="Only of this Client ID; repeatable.")
@click.option("--capability", "capabilities", multiple=True, help="Only of this capability; repeatable.")
@click.option("--model", "models", multiple=True, help="Only of this model; repeatable.")
@click.option("--status", "statuses", multiple=True, type=click.IntRange(0, 999), help="Only with this HTTP status; repeatable.")
@range_options
@click.option("--limit", default=_LIMIT, show_default=True, type=click.IntRange(1, 1_000_000), help="The newest so many.")
@click.option("--follow", is_flag=True, help="Go on with those that come, until Ctrl-C; lines of JSON with --json.")
@form_options
@api_options
def events(
    *,
    orgs: tuple[str, ...],
    credentials: tuple[str, ...],
    capabilities: tuple[str, ...],
    models: tuple[str, ...],
    statuses: tuple[int, ...],
    from_text: str | None,
    to_text: str | None,
    month: str | None,
    last: str | None,
    time_zone: str | None,
    limit: int,
    follow: bool,
    as_json: bool,
    as_csv: bool,
    **options: Any,
) -> None:
    """List the ledger's entries, newest first; with --follow oldest first, and then those that come.  [default range: --last 7d]

    A corrected event has several entries, whose amounts add up.
    """
    check_form(as_json=as_json, as_csv=as_csv)
    if follow and (to_text is not None or month is not None):
        raise click.UsageError("--follow goes on for ever: leave --to and --month out")
    times = RangeOptions(from_text=from_text, to_text=to_text, month=month, time_zone=time_zone, last=last)
    asks = {"org": orgs, "credential": credentials, "capability": capabilities, "model": models, "status": statuses}

    async def fetch(client: ApiClient) -> list[dict[str, Any]]:
        start, end, zone = asked_range(times, await client.organizations(orgs), default=_LAST)
        question = {**asks, "time_zone": zone}
        seen = dict.fromkeys([_key(entry) for entry in await _recent(client, question)] if follow else ())
        newest = client.pages(_PATH, "events", {**question, "from": start, "to": end}, at_most=limit)
        found = [entry async for entry in newest]
        if not follow:
            return found
        found.reverse()
        _print_more(found, as_json=as_json, as_csv=as_csv, is_first=True)
        async for more in _followed(client, question, seen | dict.fromkeys(map(_key, found))):
            _print_more(more, as_json=as_json, as_csv=as_csv, is_first=False)
        return []

    try:
        found = asked(fetch, options, needs_ledger=True)
    except KeyboardInterrupt:
        return
    if not follow:
        show_rows(found, _COLUMNS, as_json=as_json, as_csv=as_csv, empty="no events", totals=_totals(found))


async def _followed(
    client: ApiClient, question: Mapping[str, Any], seen: dict[tuple[Any, ...], None]
) -> AsyncIterator[list[dict[str, Any]]]:
    """What is entered from now on. Late entries are found for a minute."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        more = [entry for entry in await _recent(client, question) if _key(entry) not in seen]
        seen |= dict.fromkeys(map(_key, more))
        for old in list(seen)[: max(0, len(seen) - _SEEN_MAX)]:
            del seen[old]
        if more:
            yield more


async def _recent(client: ApiClient, question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of the last minute, oldest first."""
    import time

    from tallygate.domain.instants import instant_text

    since = instant_text(time.time_ns() // 1_000_000 - _OVERLAP_MS - round(POLL_SECONDS * 1000))
    return [entry async for entry in client.pages(_PATH, "events", {**question, "order": "asc", "from": since})]


def _key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry["event_id"], entry["sequence"]


def _print_more(entries: Sequence[dict[str, Any]], *, as_json: bool, as_csv: bool, is_first: bool) -> None:
    if as_json:
        for entry in entries:
            click.echo(json.dumps(entry))
    elif as_csv:
        print_csv(entries, _COLUMNS, has_head=is_first)
    elif entries:
        print_table(entries, _COLUMNS)


def _totals(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from tallygate.domain.money import usd_text

    return {
        "settled_at": "Total",
        "prompt_tokens": sum(entry["prompt_tokens"] for entry in entries),
        "completion_tokens": sum(entry["completion_tokens"] for entry in entries),
        "cost_usd": usd_text(sum(entry["cost_nano_usd"] for entry in entries)),
    }
