"""`tallygate plans`: what plans allow."""

from typing import Any, Final

import click

from tallygate.commands.answers import Column, form_options, show_rows
from tallygate.commands.api_client import api_options, asked

_COLUMNS: Final = (
    Column("id", "Plan"),
    Column("access", "API access"),
    Column("spend", "Spend limits"),
    Column("rates", "Rate limits"),
    Column("history_days", "History days", is_amount=True),
    Column("export", "Export"),
    Column("includes", "Includes"),
)


@click.command(short_help="Show what plans allow.")
@form_options
@api_options
def plans(*, as_json: bool, as_csv: bool, **options: Any) -> None:
    """Show what the plans of plans.yaml allow."""
    found = asked(lambda client: client.get("/api/plans"), options)["plans"]
    show_rows([_shown(plan) for plan in found], _COLUMNS, as_json=as_json, as_csv=as_csv, empty="no plans", whole=found)


def _shown(plan: dict[str, Any]) -> dict[str, Any]:
    return {
        **plan,
        "access": "yes" if plan["api_access"] else "no",
        "export": "yes" if plan["export"] else "no",
        "spend": "; ".join(f"{limit['usd']} USD per {limit['window']}{_shadow(limit)}" for limit in plan["spend_limits"]) or None,
        "rates": "; ".join(map(_rate, plan["rate_limits"])) or None,
        "includes": "all" if plan["capabilities"] is None else ", ".join(plan["capabilities"]),
    }


def _rate(limit: dict[str, Any]) -> str:
    quantity = next(name for name in ("requests", "tokens", "open_requests") if name in limit)
    window = f" per {limit['window']}" if limit.get("window") else ""
    return f"{limit[quantity]:,} {quantity.replace('_', ' ')}{window}{_shadow(limit)}"


def _shadow(limit: dict[str, Any]) -> str:
    return " (shadow)" if limit.get("shadow") else ""
