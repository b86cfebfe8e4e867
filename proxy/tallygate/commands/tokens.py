"""`tallygate tokens`: admin tokens of the console's API."""

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.directory_session import actor, directory_options, in_session, secret, show, table

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook

_COLUMNS = {
    "id": "Id",
    "name": "Name",
    "access": "Access",
    "organizations": "Organizations",
    "expires": "Expires",
    "revoked_at": "Revoked",
}


@click.group(short_help="Admin tokens of the console's API: list, create, revoke.")
def tokens() -> None:
    """Admin tokens: who may see or change which organizations over the console's API."""


@tokens.command("list")
@directory_options
def list_tokens(*, as_json: bool, **options: Any) -> None:
    """All admin tokens, without their secrets."""

    async def work(book: "DirectoryBook") -> list[dict[str, Any]]:
        return [token.shown() for token in await book.tokens.list()]

    rows = in_session(work, options)
    shown = [row | {"organizations": row["organizations"] or "all"} for row in rows]
    show(rows, as_json=as_json, plain=lambda console: table(console, _COLUMNS, shown, empty="no admin tokens"))


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
@directory_options
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
    expires_at_ms = None if expires is None else _instant_ms(expires)

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        from tallygate.ledger.directory.records import Access

        made = await book.tokens.create(
            actor(), name=name, access=Access(access), orgs=None if sees_all else orgs, expires_at_ms=expires_at_ms
        )
        return made.token.shown() | {"token": made.secret}

    found = in_session(work, options, writes=True)

    def plain(console: Console) -> None:
        secret(console, f"The admin token {escape(found['id'])}", found["token"])

    show(found, as_json=as_json, plain=plain)


@tokens.command("revoke")
@click.argument("token_id")
@directory_options
def revoke_token(token_id: str, *, as_json: bool, **options: Any) -> None:
    """End the admin token TOKEN_ID (tok_...) for ever."""

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        return (await book.tokens.revoke(actor(), token_id)).shown()

    found = in_session(work, options, writes=True)
    show(found, as_json=as_json, plain=lambda console: console.print(f"revoked {escape(found['id'])}"))


def _instant_ms(text: str) -> int:
    from tallygate.config.section import instant_ms

    try:
        return instant_ms(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from error
