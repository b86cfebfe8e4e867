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
from tallygate.commands.api_client import actor
from tallygate.commands.directory_session import in_session
from tallygate.commands.settings_options import store_options

if TYPE_CHECKING:
    from tallygate.ledger.directory.apply import Step
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
@store_options
def apply(file: Path, *, dry_run: bool, prune: bool, overlap: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Make the database hold what FILE, written as organizations.yaml, says.

    The whole file is checked first; then the changes are made one after the other, each whole.
    """
    from tallygate.config.section import duration_ms
    from tallygate.ledger.directory.apply import apply_step, steps_to

    if prune and not dry_run:
        confirm(f"Delete organizations and revoke credentials, for ever, that {file} does not have?", yes=yes)
    try:
        overlap_ms = 0 if overlap in {"0", "0s"} else duration_ms(overlap)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--overlap") from error

    async def work(book: "DirectoryBook") -> "list[Step]":
        steps = await steps_to(book, _documents(file, book), prunes=prune)
        if not dry_run:
            for step in steps:
                await apply_step(book, actor(), step, overlap_ms=overlap_ms)
        return steps

    steps = in_session(work, options, writes=not dry_run)
    show([_shown(step) for step in steps], as_json=as_json, plain=lambda console: _print(console, steps, is_done=not dry_run))
    if dry_run and steps:
        sys.exit(EX_DIFFERENCE)


def _documents(file: Path, book: "DirectoryBook") -> list[dict[str, Any]]:
    """The file's entries as given. Raises ConfigError with every problem and its line."""
    from tallygate.config.document import FILE_BYTES_MAX, read_document
    from tallygate.config.organizations import read_organizations
    from tallygate.config.plain_values import plain_value
    from tallygate.config.problems import Problems
    from tallygate.domain.errors import ConfigError

    problems, config = Problems(), book.config()
    with file.open("rb") as opened:
        document = read_document(str(file), opened.read(FILE_BYTES_MAX + 1), problems)
    if document is None:
        raise ConfigError(problems.texts())
    organizations = read_organizations(document, plans=config.stated_plans, capabilities=config.capabilities, needs_keys=False)
    for organization in organizations:
        if book.rules.in_file(organization.id) is not None:
            document.place.problem(f"has {organization.id!r}, which stands in organizations.yaml of the configuration too")
        for credential in organization.credentials:
            if credential.old_key_sha256:
                document.place.problem(
                    f"gives {credential.id!r} an old key: replace key_sha256, and apply keeps the old one for --overlap"
                )
    if problems:
        raise ConfigError(problems.texts())
    found: list[dict[str, Any]] = plain_value(document.node_of("organizations"))
    return found


def _shown(step: "Step") -> dict[str, Any]:
    return {
        "verb": step.verb.value,
        "organization": step.org,
        "credential": step.client_id or None,
        "before": dict(step.before),
        "after": dict(step.after),
    }


def _print(console: Console, steps: "list[Step]", *, is_done: bool) -> None:
    for step in steps:
        console.print(f"[{_COLOURS[step.verb.value]}]{step.verb.value}[/] {escape(step.subject)}")
        for mark, colour, fields in (("-", "red", step.before), ("+", "green", step.after)):
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
