"""`tallygate models`: the models that have a price, and what they cost."""

from typing import Any, Final

import click

from tallygate.commands.answers import Column, form_options, show_rows
from tallygate.commands.api_client import api_options, asked

_SHOWN: Final = ("input", "cached_input", "output")
_COLUMNS: Final = (
    Column("model", "Model"),
    *(Column(unit, f"{unit.replace('_', ' ').capitalize()}, USD", is_amount=True) for unit in _SHOWN),
    Column("more", "More rates", is_amount=True),
    Column("layer", "From"),
    Column("version", "Version"),
)


@click.command(short_help="List the models that have a price, and what they cost.")
@click.argument("model", required=False)
@form_options
@api_options
def models(model: str | None, *, as_json: bool, as_csv: bool, **options: Any) -> None:
    """List the models that have a price now, with their rates by the million of tokens. MODEL: a name, or 'gpt-*'.

    `More rates` counts those of other units and sizes, and those under a condition: `tallygate prices show` and --json have all.
    """

    async def fetch(client: Any) -> list[dict[str, Any]]:
        return [found async for found in client.pages("/api/prices", "models", {"model": model})]

    found = asked(fetch, options)
    rows = [_row(each["model"], row) for each in found for row in each["rows"] if row["applies"]]
    show_rows(rows, _COLUMNS, as_json=as_json, as_csv=as_csv, empty=f"{model or 'no model'} has no price", whole=found)


def _row(model: str, row: dict[str, Any]) -> dict[str, Any]:
    plain = {rate["unit"]: rate["usd"] for rate in row["rates"] if rate["unit"] in _SHOWN and not rate["from_tokens"]}
    more = len(row["rates"]) - len(plain) + len(row["conditions"])
    return {"model": model, **plain, "more": more or None, "layer": row["layer"], "version": row["version"]}
