"""`tallygate credentials import`: imports keys that callers already have, by the thousand."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tallygate.commands.answers import json_option, show
from tallygate.commands.api_client import actor
from tallygate.commands.apply import EX_DIFFERENCE
from tallygate.commands.directory_session import in_session
from tallygate.commands.settings_options import store_options

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook
    from tallygate.ledger.directory.credential_rows import ImportedKey

_LINES_SHOWN = 10


@click.command("import", short_help="Make credentials of keys that callers have already.")
@click.argument("file", type=click.File("rb"))
@click.option("--plain-keys", is_flag=True, help="FILE has the keys themselves, in a column `key`: hashed here, not kept.")
@click.option(
    "--dry-run", is_flag=True, help=f"Only check, and count. Exit code {EX_DIFFERENCE} if something would be made, 0 if nothing."
)
@json_option
@store_options
def import_credentials(file: BinaryIO, *, plain_keys: bool, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Make credentials of the rows of FILE, CSV with a first line of names or JSON Lines; `-` is standard input.

    Columns: org, id (the Client ID), key_sha256, and if you like name, environment, expires, capabilities, models.
    All rows are checked before anything is made. What is there already stays as it is, so the same file again changes nothing.
    """
    from tallygate.config.problems import Problems
    from tallygate.domain.errors import ConfigError

    named = str(getattr(file, "name", "<stdin>"))

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        problems = Problems()
        keys = _read(file, named, book, problems, hashes_keys=plain_keys)
        with _progress("checking", len(keys)) as on_done:
            plan = await book.imports.plan(keys, problems, named=named, on_done=on_done)
        if problems:
            raise ConfigError((*problems.texts(), "nothing was changed"))
        made = 0
        if not dry_run:
            with _progress("importing", len(plan.fresh)) as on_done:
                made = await book.imports.enter(actor(), plan, named=named, on_done=on_done)
        return {
            "rows": len(keys),
            "organizations": len({key.credential.org for key in keys}),
            "to_create": len(plan.fresh) if dry_run else 0,
            "created": made,
            "unchanged": len(keys) - len(plan.other) - (len(plan.fresh) if dry_run else made),
            "different": len(plan.other),
            "different_lines": plan.other[:_LINES_SHOWN],
        }

    found = in_session(work, options, writes=not dry_run)
    show(found, as_json=as_json, plain=lambda console: _print(console, found))
    if dry_run and found["to_create"]:
        sys.exit(EX_DIFFERENCE)


def _read(file: BinaryIO, named: str, book: "DirectoryBook", problems: Any, *, hashes_keys: bool) -> "list[ImportedKey]":
    from tallygate.ledger.directory.credential_rows import read_credential_rows

    capabilities = book.config().capabilities
    return read_credential_rows(file, named=named, hashes_keys=hashes_keys, capabilities=capabilities, problems=problems)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error, if that is a terminal."""
    stderr = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda count: progress.update(bar, advance=count)


def _print(console: Console, found: dict[str, Any]) -> None:
    for key, text in (("to_create", "to make"), ("created", "made"), ("unchanged", "here already: unchanged")):
        if found[key] or key == "unchanged":
            console.print(f"{found[key]:,} {text}", highlight=False)
    if found["different"]:
        lines = ", ".join(str(line) for line in found["different_lines"])
        more = ", ..." if found["different"] > len(found["different_lines"]) else ""
        console.print(
            f"{found['different']:,} here with the same key and other fields, which stay (lines {lines}{more}): "
            "`credentials set` changes them",
            highlight=False,
            soft_wrap=True,
        )
