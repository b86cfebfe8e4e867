"""`tallygate login` and `logout`: people's sign-ins at the console's page."""

from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import Column, json_option, print_table, show
from tallygate.commands.api_client import actor
from tallygate.commands.directory_session import in_session
from tallygate.commands.settings_options import store_options

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook

_COLUMNS: Final = (
    Column("actor", "Who"),
    Column("name", "Name"),
    Column("by", "By"),
    Column("access", "Access"),
    Column("organizations", "Organizations"),
    Column("signed_in_at", "Signed in"),
    Column("seen_at", "Last seen"),
)


@click.command(short_help="Make a link that signs in at the console's page, once.")
@click.option("--org", "orgs", multiple=True, help="Only this organization; repeatable.  [default: all]")
@click.option("--read-only", is_flag=True, help="Whoever signs in may read, not change.")
@click.option("--name", help="Whose sign-in it is, for the page.  [default: you]")
@json_option
@store_options
def login(*, orgs: tuple[str, ...], read_only: bool, name: str | None, as_json: bool, **options: Any) -> None:
    """Make a link that signs in at the console's page: once, and within 10 minutes.

    Without --org it is for all organizations, for somebody who may do everything. What is changed in the session is logged as
    made by you.
    """
    url = _console_url(options)

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        from tallygate.config.sign_in_link import link_fragment
        from tallygate.domain.instants import instant_text
        from tallygate.ledger.directory.records import Access

        access, shown_name = Access.READ if read_only else Access.WRITE, name or actor().removeprefix("cli:")
        made = await book.sign_ins.create_link(actor(), name=shown_name, access=access, orgs=orgs or None)
        return {
            "url": f"{url}/{link_fragment(made.secret)}",
            "expires_at": instant_text(made.expires_at_ms),
            "name": shown_name,
            "access": access.value,
            "organizations": list(orgs) or None,
        }

    found = in_session(work, options, writes=True)

    def plain(console: Console) -> None:
        may = "to read" if read_only else "to read and change"
        whose = ", ".join(found["organizations"] or ["all organizations"])
        console.print(f"Signs in once, until {found['expires_at']}, {may} {escape(whose)}:\n", soft_wrap=True)
        console.print(escape(found["url"]), style="bold", soft_wrap=True)

    show(found, as_json=as_json, plain=plain)


@click.command(short_help="End sessions at the console's page, or list them.")
@click.argument("who", required=False)
@click.option("--all", "ends_all", is_flag=True, help="Everybody's, and all links that were not opened yet.")
@click.option("--list", "lists", is_flag=True, help="List who is signed in, and end nothing.")
@json_option
@store_options
def logout(who: str | None, *, ends_all: bool, lists: bool, as_json: bool, **options: Any) -> None:
    """End the sessions and unopened links of WHO: a token's id, or another name that --list shows."""
    if [who is not None, ends_all, lists].count(True) != 1:
        raise click.UsageError("name whose sessions end (`--list` shows them), or give --all")

    async def work(book: "DirectoryBook") -> Any:
        if lists:
            return [session.shown() for session in await book.sign_ins.list()]
        return {"sessions_ended": await book.sign_ins.end_all(actor(), who)}

    found = in_session(work, options, writes=not lists)

    def plain(console: Console) -> None:
        if lists:
            rows = [row | {"organizations": row["organizations"] or "all"} for row in found]
            if rows:
                print_table(rows, _COLUMNS)
            else:
                console.print("[dim]nobody is signed in[/]")
        else:
            console.print(f"{found['sessions_ended']} sessions ended")

    show(found, as_json=as_json, plain=plain)


def _console_url(options: dict[str, Any]) -> str:
    """Where the console's page is: at its public address, or that of the one on the data directory, or where one would be."""
    from tallygate.app.role import Role
    from tallygate.commands.settings_options import friendly
    from tallygate.config.settings import load_settings
    from tallygate.processes.listener import local_url
    from tallygate.processes.running_settings import read_running_settings

    with friendly():
        settings = load_settings(options)
        running = read_running_settings(settings.data_dir)
        if running is not None and Role(running.role).has_api:
            return settings.console_url or running.value("console_url") or running.console_url
        return settings.console_url or local_url(settings.console_listen)
