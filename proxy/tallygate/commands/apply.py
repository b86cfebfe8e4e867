"""`tallygate apply`: brings an organizations file into the database, after showing the difference."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import confirm, json_option, show, yes_option
from tallygate.commands.api_client import actor, api_options, asked, local_options, remote_url
from tallygate.commands.directory_session import in_session
from tallygate.commands.ledger_session import ConfigProblems

if TYPE_CHECKING:
    from tallygate.config.problems import Problems
    from tallygate.config.section import Section
    from tallygate.ledger.directory.book import DirectoryBook

EX_DIFFERENCE = 2
_COLOURS = {"create": "green", "change": "yellow", "rotate": "yellow", "revoke": "red", "delete": "red"}


@click.command(short_help="Bring an organizations file into the database.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--dry-run", is_flag=True, help=f"Only show the difference. Exit code {EX_DIFFERENCE} if there is one, 0 if there is none."
)
@click.option("--prune", is_flag=True, help="Delete organizations and revoke credentials that the file does not have.")
@click.option("--overlap", default="24h", show_default=True, help="How long a key that the file replaces still holds; 0 to end it.")
@yes_option
@json_option
@api_options
def apply(file: Path, *, dry_run: bool, prune: bool, overlap: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Make the database hold what FILE, written as organizations.yaml, says.

    The whole file is checked first; then the changes are made one after the other, each whole.
    """
    from tallygate.config.section import duration_ms
    from tallygate.ledger.directory.apply import apply_step, step_shown, steps_to

    if prune and not dry_run:
        confirm(f"Delete organizations and revoke credentials, for ever, that {file} does not have?", yes=yes)
    try:
        overlap_ms = 0 if overlap in {"0", "0s"} else duration_ms(overlap)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--overlap") from error

    async def work(book: "DirectoryBook") -> list[dict[str, Any]]:
        steps = await steps_to(book, _documents(file, book), prunes=prune)
        if not dry_run:
            for step in steps:
                await apply_step(book, actor(), step, overlap_ms=overlap_ms)
        return [step_shown(step) for step in steps]

    if remote_url(options["url"]) is not None:
        steps = _ask(file, options, prune=prune, overlap=overlap, dry_run=dry_run)
    else:
        steps = in_session(work, local_options(options), writes=not dry_run)
    show(steps, as_json=as_json, plain=lambda console: _print(console, steps, is_done=not dry_run))
    if dry_run and steps:
        sys.exit(EX_DIFFERENCE)


def _documents(file: Path, book: "DirectoryBook") -> list[dict[str, Any]]:
    """The file's entries as given. Raises ConfigError with every problem and its line."""
    from tallygate.config.plain_values import plain_value
    from tallygate.config.problems import Problems
    from tallygate.domain.errors import ConfigError
    from tallygate.ledger.directory.apply import check_document

    problems = Problems()
    document = _read(file, problems)
    check_document(document, book)
    if problems:
        raise ConfigError(problems.texts())
    found: list[dict[str, Any]] = plain_value(document.node_of("organizations"))
    return found


def _read(file: Path, problems: "Problems") -> "Section":
    """The file's mapping. Raises ConfigError if it has none."""
    from tallygate.config.document import FILE_BYTES_MAX, read_document
    from tallygate.domain.errors import ConfigError

    with file.open("rb") as opened:
        document = read_document(str(file), opened.read(FILE_BYTES_MAX + 1), problems)
    if document is None:
        raise ConfigError(problems.texts())
    return document


def _ask(file: Path, options: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    """The steps of a console elsewhere, which checks the file by its own configuration."""
    from tallygate.config.plain_values import plain_value
    from tallygate.config.problems import Problems
    from tallygate.domain.errors import ConfigError

    problems = Problems()
    try:
        document = _read(file, problems)
        body = {"organizations": plain_value(document.node_of("organizations")), **wanted}
    except ConfigError as error:
        raise ConfigProblems("\n".join(error.problems)) from error
    except ValueError as error:  # a number that is none in JSON
        raise click.ClickException(f"{file} has a value that cannot be sent: {error}") from error
    steps: list[dict[str, Any]] = asked(lambda client: client.call("POST", "/api/apply", body=body), options)["steps"]
    return steps


def _print(console: Console, steps: list[dict[str, Any]], *, is_done: bool) -> None:
    for step in steps:
        org, client_id = escape(step["organization"]), step["credential"]
        subject = f"organization {org}" if client_id is None else f"credential {escape(client_id)} of {org}"
        console.print(f"[{_COLOURS[step['verb']]}]{step['verb']}[/] {subject}")
        for mark, colour, fields in (("-", "red", step["before"]), ("+", "green", step["after"])):
            for line in _lines(fields):
                console.print(f"  [{colour}]{mark} {escape(line)}[/]")
    if not steps:
        console.print("no difference")
    elif is_done:
        console.print(f"{len(steps)} change{'s' if len(steps) > 1 else ''} made")
    else:
        console.print(f"{len(steps)} change{'s' if len(steps) > 1 else ''} to make")


def _lines(fields: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if key not in {"id", "credentials"}]
