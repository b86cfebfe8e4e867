"""The directory, opened for one command, and helpers that print its answers."""

import asyncio
import getpass
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tallygate.commands.ledger_session import plain_errors
from tallygate.commands.output_console import output_console
from tallygate.config.settings import Settings

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook

Options = dict[str, Any]


def directory_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --json, and the settings that locate the directory, as of `serve`, which may run meanwhile."""
    for option in (
        click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve."),
        click.option("--redis-url", help="As of serve: running processes are told of changes over it."),
        click.option("--database-url", help="As of serve."),
        click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ):
        command = option(command)
    return command


def in_session(work: Callable[["DirectoryBook"], Awaitable[Any]], options: Options, *, writes: bool = False) -> Any:
    """The result of one command's work on the directory. What the directory refuses is a line, not a traceback."""
    from tallygate.commands.chosen_settings import chosen_settings
    from tallygate.ledger.directory.errors import DirectoryError

    async def opened() -> Any:
        async with _open(chosen_settings(options, writes=writes)) as book:
            return await work(book)

    with plain_errors():
        try:
            return asyncio.run(opened())
        except DirectoryError as error:
            raise click.ClickException("\n".join(error.problems) or error.message) from error


def actor() -> str:
    """The user who runs the command, for the log of changes."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name, as in containers
        return "cli"


def show(found: Any, *, as_json: bool, plain: Callable[[Console], None]) -> None:
    """Print a result as JSON, or with `plain`."""
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        plain(output_console())


def table(console: Console, columns: dict[str, str], rows: list[dict[str, Any]], *, empty: str) -> None:
    """Print a table. columns: heading by key."""
    if not rows:
        console.print(f"[dim]{escape(empty)}[/]")
        return
    found = Table(box=None, pad_edge=False)
    for heading in columns.values():
        found.add_column(heading, overflow="fold")
    for row in rows:
        found.add_row(*(_cell(row.get(key)) for key in columns))
    console.print(found)


def secret(console: Console, what: str, text: str) -> None:
    """Print a secret, once. It has a line of its own, so that programs and people can cut it out."""
    console.print(f"{what}, shown this once:\n")
    console.print(escape(text), style="bold", soft_wrap=True)
    console.print()


def parsed_fields(text: str | None) -> dict[str, Any]:
    """Parse --fields: a JSON object with keys as in organizations.yaml."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter("must be a JSON object, such as '{\"rate_limits\": []}'", param_hint="--fields")
    return found


def _cell(value: Any) -> str:
    if value is None:
        return "[dim]-[/]"
    if isinstance(value, list):
        return escape(", ".join(str(item) for item in value))
    return escape(str(value))


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator["DirectoryBook"]:
    from tallygate.app.configuration import config_holder
    from tallygate.app.console_part import open_directory
    from tallygate.app.stores import open_ledger
    from tallygate.processes.closed_directory import TooOpenError, close_directory

    try:
        close_directory(settings.data_dir)
    except TooOpenError as error:
        raise click.ClickException(str(error)) from error
    holder = config_holder(settings)
    database = await open_ledger(settings)
    try:
        yield open_directory(settings, database, lambda: holder.current)
    finally:
        await database.close()
