"""`tallygate spend`: what an organization has spent beside its limits, and what is left of them."""

from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import Column, check_form, form_options, print_csv, print_table, show
from tallygate.commands.api_client import ApiClient, api_options, asked

_STATUS_COLOURS: Final = {"active": "green", "warning": "yellow", "exceeded": "yellow", "paused": "red"}
_COLUMNS: Final = (
    Column("limit_name", "Limit"),
    Column("of", "Of"),
    Column("spent", "Spent USD", is_amount=True),
    Column("held", "Held USD", is_amount=True),
    Column("limit", "Limit USD", is_amount=True),
    Column("left", "Left USD", is_amount=True),
    Column("status", "Status"),
    Column("resumes_at", "Resumes at"),
)

_DAY_COLUMNS: Final = (Column("date", "Day"), Column("usd", "USD", is_amount=True))


@click.command(short_help="Show what an organization has spent, beside its limits.")
@click.argument("org")
@click.option("--credential", help="Only of this Client ID, beside its own limits.")
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 92), help="Days whose spend is shown.")
@form_options
@api_options
def spend(org: str, *, credential: str | None, days: int, as_json: bool, as_csv: bool, **options: Any) -> None:
    """Show what the organization ORG has spent, what is held for open requests, what is left, and when a pause ends."""
    check_form(as_json=as_json, as_csv=as_csv)

    async def fetch(client: ApiClient) -> dict[str, Any]:
        found = await client.get("/api/spend", org=org, credential=credential, days=days)
        limits = await client.get("/api/limits", org=org, credential=credential)
        return {**found, "rate_limits": limits["limits"]}

    found = asked(fetch, options, needs_ledger=True)
    if as_csv:
        print_csv(_windows(found), _COLUMNS)
    else:
        show(found, as_json=as_json, plain=lambda console: _print(console, found))


def _windows(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "limit_name": window["name"],
            "of": window["credential"] or found["org"],
            "spent": window["spent"]["usd"],
            "held": _usd(window["held"]),
            "limit": _usd(window["limit"]),
            "left": _usd(window["remaining"]),
            "status": window["status"],
            "resumes_at": window["resumes_at"],
        }
        for window in found["windows"] or [found["rolling_7_days"]]
    ]


def _usd(money: dict[str, Any] | None) -> str | None:
    return None if money is None else str(money["usd"])


def _print(console: Console, found: dict[str, Any]) -> None:
    status, month = found["status"], found["month"]
    of = found["org"] if found["credential"] is None else f"{found['org']}, {found['credential']}"
    console.print(f"[bold]{escape(of)}[/]  [{_STATUS_COLOURS[status]}]{status}[/]  as of {found['as_of']}\n")
    print_table(_windows(found), _COLUMNS)
    console.print()
    for window in found["windows"]:
        console.print(escape(window["text"]))
    for limit in found["rate_limits"]:
        console.print(escape(limit["text"]))
    days = [{"date": day["date"], "usd": day["cost"]["usd"]} for day in found["daily"]]
    nano_usd = sum(day["cost"]["nano_usd"] for day in found["daily"])
    console.print()
    print_table(days, _DAY_COLUMNS, totals={"date": "Total", "usd": _text(nano_usd)})
    to_date, forecast = month["to_date"]["usd"], month["forecast"]["usd"]
    console.print(f"\nmonth {month['month']}: {to_date} USD to date, {forecast} USD by its end ({month['forecast_basis']})")
    if found["jobs"] is not None and found["jobs"]["open"]:
        console.print(f"jobs: {found['jobs']['open']} open, held at {found['jobs']['held']['usd']} USD")


def _text(nano_usd: int) -> str:
    from tallygate.domain.money import usd_text

    return usd_text(nano_usd)
