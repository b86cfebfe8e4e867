"""`tallygate ledger backup` and `restore`: a copy of `ledger.db` while it is in use, and the way back."""

import sqlite3
from collections.abc import Iterator
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
        columns = (TextColumn("pages"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("")
            found = back_up(ledger, file, lambda total, done: progress.update(task, total=total, completed=done))
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
    from tallygate.processes.data_directory import DataDirectory, DirectoryInUseError

    with plain_errors(), _file_errors():
        settings = _chosen(flags)
        ledger = _ledger_file(settings)
        try:
            DataDirectory(settings.data_dir).lock()  # held until this process ends
        except DirectoryInUseError as error:
            raise click.ClickException(f"{error}: stop it first") from error
        found, aside = put_back(file, ledger, now_s=now_ms() // 1000)
    _show("restored", found, f"the ledger that was there is {aside}" if aside else f"there was no ledger in {settings.data_dir}")


def _chosen(flags: dict[str, Path | str | None]) -> Settings:
    from tallygate.commands.chosen_settings import chosen_settings

    return chosen_settings(flags)


def _ledger_file(settings: Settings) -> Path:
    """Raises click.ClickException if the ledger is no file."""
    from tallygate.app.stores import sqlite_file

    file = sqlite_file(settings)
    if file is None:
        raise click.ClickException("the ledger is in the database of TALLYGATE_DATABASE_URL: use pg_dump and pg_restore")
    return file


@contextmanager
def _file_errors() -> Iterator[None]:
    from tallygate.ledger.file_backup import BackupError

    try:
        yield
    except BackupError as error:
        raise click.ClickException(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(f"the file cannot be copied: {error}") from error


def _show(done: str, found: "Contents", more: str) -> None:
    count = len(found.organizations)
    sums = f"{found.entries:,} entries of {count:,} organization{'' if count == 1 else 's'}, {usd_text(found.nano_usd)} USD"
    output_console().print(f"{done} {sums}; {more}", soft_wrap=True, highlight=False)
