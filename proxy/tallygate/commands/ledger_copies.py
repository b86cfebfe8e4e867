"""`tallygate ledger backup`, `restore` and `copy`: a copy of a ledger in use, the way back, and the move to PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tallygate.commands.ledger_session import plain_errors
from tallygate.commands.output_console import output_console
from tallygate.commands.settings_options import store_options
from tallygate.config.settings import Settings
from tallygate.domain.money import usd_text

if TYPE_CHECKING:
    from tallygate.ledger.file_backup import Contents

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command(short_help="Copy ledger.db into a file while it is in use, and check the copy.")
@_FILE
@store_options
def backup(file: Path, **flags: Path | str | None) -> None:
    """Copy the ledger in the data directory into a new FILE, while it is written and read.

    The copy is of one instant. It is read whole, and its entries and costs are compared with the ledger's, before FILE is there.
    A ledger in PostgreSQL is backed up with pg_dump.
    """
    from tallygate.ledger.file_backup import back_up

    with plain_errors(), _file_errors():
        ledger = _ledger_file(_chosen(flags))
        with _counted_progress("pages") as report:
            found = back_up(ledger, file, report)
    _show("backed up", found, f"checked; {file.stat().st_size / 1e6:,.1f} MB in {file}")


@click.command(short_help="Put a backup in the place of ledger.db while nothing runs.")
@_FILE
@store_options
def restore(file: Path, **flags: Path | str | None) -> None:
    """Check FILE, a copy by `tallygate ledger backup`, and put it in the place of the data directory's ledger.

    Nothing may run on the data directory. The ledger that was there is kept beside it under another name.
    """
    from tallygate.app.clocks import now_ms
    from tallygate.ledger.file_backup import put_back

    with plain_errors(), _file_errors():
        settings = _chosen(flags)
        ledger = _ledger_file(settings)
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _lock_beside(ledger)
        found, aside = put_back(file, ledger, now_s=now_ms() // 1000)
    _show("restored", found, f"the ledger that was there is {aside}" if aside else f"there was no ledger in {settings.data_dir}")


@click.command(short_help="Copy a ledger.db into an empty PostgreSQL, and check the copy.")
@_FILE
@store_options
def copy(file: Path, **flags: Path | str | None) -> None:
    """Copy the ledger in FILE, a ledger.db or a backup, into the database of TALLYGATE_DATABASE_URL, which is to be PostgreSQL.

    All of it arrives in one transaction, or nothing: after a failure simply start again. The numbers of rows, and entries and cost
    of every organization, are compared before it counts. A database that has rows is refused. Nothing may write to FILE meanwhile.
    """

    async def work() -> "Contents":
        from tallygate.ledger.copying import copy_ledger
        from tallygate.ledger.opening import open_database

        settings = _chosen(flags)
        _lock_beside(file)
        target = open_database(settings.database_url.get_secret_value(), settings.data_dir)
        try:
            if target.dialect != "postgresql":
                raise click.ClickException("set TALLYGATE_DATABASE_URL, or its _FILE, to the PostgreSQL to copy to")
            await target.migrate()
            with _counted_progress("rows") as report:
                return await copy_ledger(file, target, report)
        finally:
            await target.close()

    with plain_errors(), _file_errors():
        found = asyncio.run(work())
    _show("copied", found, "checked: rows, entries and costs are equal")


@contextmanager
def _counted_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error: how many of so many are done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("")
        yield lambda total, done: progress.update(task, total=total, completed=done)


def _chosen(flags: dict[str, Path | str | None]) -> Settings:
    """The settings of a command that copies a ledger. Raises ConfigError."""
    from tallygate.commands.chosen_settings import chosen_settings

    return chosen_settings(flags)


def _lock_beside(ledger: Path) -> None:
    """Hold the lock of the ledger's data directory until this process ends. Raises click.ClickException if somebody runs there."""
    from tallygate.processes.data_directory import DataDirectory, DirectoryInUseError

    if not ledger.parent.is_dir():
        raise click.ClickException(f"there is no {ledger}")
    try:
        DataDirectory(ledger.parent).lock()
    except DirectoryInUseError as error:
        raise click.ClickException(f"{error}: stop it first") from error


def _ledger_file(settings: Settings) -> Path:
    """Raises click.ClickException if the ledger is no file."""
    from tallygate.app.stores import sqlite_file

    file = sqlite_file(settings)
    if file is None:
        raise click.ClickException("the ledger is in the database of TALLYGATE_DATABASE_URL: use pg_dump and pg_restore")
    return file


@contextmanager
def _file_errors() -> Iterator[None]:
    """Print what is wrong with a file as a line."""
    from tallygate.ledger.file_backup import BackupError

    try:
        yield
    except BackupError as error:
        raise click.ClickException(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(f"the file cannot be copied: {error}") from error


def _show(done: str, found: "Contents", more: str) -> None:
    """Print what was copied, in one line."""
    count = len(found.organizations)
    sums = f"{found.entries:,} entries of {count:,} organization{'' if count == 1 else 's'}, {usd_text(found.nano_usd)} USD"
    output_console().print(f"{done} {sums}; {more}", soft_wrap=True, highlight=False)
