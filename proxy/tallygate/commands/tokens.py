"""`tallygate tokens`: admin tokens of the console's API."""

from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import Column, confirm, form_options, json_option, secret, show, show_rows, yes_option
from tallygate.commands.api_client import api_options, asked, quoted

_COLUMNS: Final = (
    Column("id", "Id"),
    Column("name", "Name"),
    Column("access", "Access"),
    Column("organizations", "Organizations"),
    Column("expires", "Expires"),
    Column("revoked_at", "Revoked"),
)


@click.group(short_help="Admin tokens of the console's API: list, create, revoke.")
def tokens() -> None:
    """Admin tokens: who may see or change which organizations over the console's API."""


@tokens.command("list")
@form_options
@api_options
def list_tokens(*, as_json: bool, as_csv: bool, **options: Any) -> None:
    """All admin tokens, without their secrets."""
    rows = asked(lambda client: client.get("/api/tokens"), options)["tokens"]
    shown = [row | {"organizations": row["organizations"] or "all"} for row in rows]
    show_rows(shown, _COLUMNS, as_json=as_json, as_csv=as_csv, empty="no admin tokens", whole=rows)


@tokens.command("create")
@click.argument("name")
@click.option(
    "--access",
    type=click.Choice(["read", "write", "metrics"]),
    default="read",
    show_default=True,
    help="metrics: /metrics of all organizations, and nothing else.",
)
@click.option("--org", "orgs", multiple=True, help="Only this organization; repeatable.")
@click.option("--all", "sees_all", is_flag=True, help="All organizations, now and later.")
@click.option("--expires", metavar="TIME", help="A date (UTC) or a time, from which on it is refused.")
@json_option
@api_options
def create_token(
    name: str, *, access: str, orgs: tuple[str, ...], sees_all: bool, expires: str | None, as_json: bool, **options: Any
) -> None:
    """Make an admin token called NAME, and show it, once."""
    if access == "metrics":
        if orgs:
            raise click.UsageError("/metrics names all organizations: leave --org out")
        sees_all = True
    if bool(orgs) == sees_all:
        raise click.UsageError("say --all, or which with --org")
    body = {"name": name, "access": access, "organizations": None if sees_all else list(orgs), "expires": expires}
    found = asked(lambda client: client.call("POST", "/api/tokens", body=body), options, writes=True)

    def plain(console: Console) -> None:
        secret(console, f"The admin token {escape(found['id'])}", found["token"])

    show(found, as_json=as_json, plain=plain)


@tokens.command("revoke")
@click.argument("token_id")
@yes_option
@json_option
@api_options
def revoke_token(token_id: str, *, yes: bool, as_json: bool, **options: Any) -> None:
    """End the admin token TOKEN_ID (tok_...) for ever."""
    confirm(f"Revoke the admin token {token_id}, for ever?", yes=yes)
    found = asked(lambda client: client.call("POST", f"/api/tokens/{quoted(token_id)}/revoke"), options, writes=True)
    show(found, as_json=as_json, plain=lambda console: console.print(f"revoked {escape(found['id'])}"))
