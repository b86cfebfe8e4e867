"""`tallygate changes`: the log of changes in the directory, with their authors."""

from typing import Any, Final

import click

from tallygate.commands.answers import Column, form_options, show_rows
from tallygate.commands.api_client import api_options, asked

_COLUMNS: Final = (
    Column("at", "When"),
    Column("actor", "Who"),
    Column("action", "What"),
    Column("subject", "Of"),
    Column("organization", "Organization"),
)


@click.command(short_help="Who changed which organization, credential or admin token, and when.")
@click.option("--org", help="Only of this organization.")
@click.option("--subject", help="Only of this organization, Client ID or admin token.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000), help="The newest so many.")
@form_options
@api_options
def changes(*, org: str | None, subject: str | None, limit: int, as_json: bool, as_csv: bool, **options: Any) -> None:
    """The log of changes, newest first. With --json each comes with what was before and after."""
    rows = asked(lambda client: client.get("/api/audit", org=org, subject=subject, limit=limit), options)["entries"]
    show_rows(rows, _COLUMNS, as_json=as_json, as_csv=as_csv, empty="nothing was changed yet")
