"""The directory, opened for one command that the console's API has not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from tallygate.commands.ledger_session import plain_errors
from tallygate.config.settings import Settings

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook

Options = dict[str, Any]


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
    database = await open_ledger(settings, is_command=True)
    try:
        yield open_directory(settings, database, lambda: holder.current)
    finally:
        await database.close()
