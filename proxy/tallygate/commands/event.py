"""`tallygate event`: one request, and how its cost came about."""

from typing import TYPE_CHECKING, Any, Final

import click

from tallygate.commands.answers import Column, json_option, print_table, show
from tallygate.commands.api_client import ApiClient, api_options, asked, quoted

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS: Final = (
    Column("name", "Unit"),
    Column("quantity", "Quantity", is_amount=True),
    Column("rate", "Rate in USD"),
    Column("cost_usd", "USD", is_amount=True),
)
_CONDITIONS: Final = ("service_tier", "speed", "geography")


@click.command(short_help="Show one request, and how its cost came about.")
@click.argument("event_id")
@json_option
@api_options
def event(*, event_id: str, as_json: bool, **options: Any) -> None:
    """Show the request with this id (the x-request-id of its answer): each unit by its rate, and what else is in its cost."""

    async def fetch(client: ApiClient) -> Any:
        return await client.get(f"/api/events/{quoted(event_id)}")

    found = asked(fetch, options, needs_ledger=True)
    show(found, as_json=as_json, plain=lambda console: _print(console, found))


def _print(console: "Console", found: dict[str, Any]) -> None:
    from rich.markup import escape

    event, cost = found["event"], found["cost"]
    status = f"status {event['status']}" if event["status"] else "no status"
    who = f"{event['org']}, {event['credential']}: {event['method']} {event['endpoint']}, {event['model'] or 'no model'}, {status}"
    console.print(f"{event['settled_at']}  {escape(who)}\n", soft_wrap=True)
    print_table(_rows(cost), _COLUMNS, totals={"name": "Cost", "cost_usd": cost["total"]["usd"]})
    console.print(f"\n{escape(_price(cost))}", soft_wrap=True)
    if cost["note"]:
        console.print(escape(cost["note"]), soft_wrap=True)


def _rows(cost: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of the cost, and what was added to them."""
    rows = [
        {
            "name": part["name"] if part["model"] is None else f"{part['name']}, {part['model']}",
            "quantity": part["quantity"],
            "rate": f"{part['rate_usd']} per {part['per']}",
            "cost_usd": part["cost_usd"],
        }
        for part in cost["parts"]
    ]
    added = {
        "rounded up": cost["rounding_usd"],
        "stated by the provider": cost["stated"]["usd"],
        "fee of the route": cost["fee"]["usd"],
        "not explained": cost["unexplained"]["usd"],
    }
    return rows + [
        {"name": name, "quantity": None, "rate": None, "cost_usd": usd} for name, usd in added.items() if usd.strip("0.")
    ]


def _price(cost: dict[str, Any]) -> str:
    """Where the rates are from, in a line."""
    if cost["price_version"] is None:
        return "No price."
    parts = [f"Price {cost['price_version']}"]
    if cost["source"] is not None:
        parts.append(f"from: {cost['source']}")
    parts += [f"{name.replace('_', ' ')} {cost[name]}" for name in _CONDITIONS if cost[name]]
    if cost["markup_percent"] != "0":
        parts.append(f"{cost['markup_percent']} % on every rate")
    return ", ".join(parts) + "."
