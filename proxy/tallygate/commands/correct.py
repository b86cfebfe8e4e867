"""`tallygate correct`: enters the provider's own figures later."""

import asyncio
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click
import msgspec

from tallygate.commands.answers import Column, json_option, show_rows
from tallygate.commands.api_client import actor
from tallygate.commands.ledger_session import LedgerSession, open_session, plain_errors
from tallygate.commands.output_console import output_console

if TYPE_CHECKING:
    from tallygate.ledger.corrections import Corrected, Corrections, Figures

LINES_MAX: Final = 1_000_000
_TOKENS: Final = click.IntRange(min=0)


_COLUMNS: Final = (
    Column("event_id", "Event"),
    Column("org", "Organization"),
    Column("before_usd", "USD before", is_amount=True),
    Column("after_usd", "USD after", is_amount=True),
    Column("difference_usd", "Difference", is_amount=True),
)


@click.command(short_help="Put in what the provider says that events used.")
@click.argument("event_id", required=False)
@click.option("--prompt", type=_TOKENS, help="All input tokens, cached ones included.")
@click.option("--completion", type=_TOKENS, help="All output tokens, reasoning included.")
@click.option("--reasoning", type=_TOKENS, default=0, show_default=True, help="Output tokens spent on reasoning.")
@click.option("--cached", type=_TOKENS, default=0, show_default=True, help="Input tokens read from the provider's cache.")
@click.option("--cache-write", type=_TOKENS, default=0, show_default=True, help="Input tokens written to it.")
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV or JSON Lines of many events."
)
@click.option("--apply/--dry-run", "applies", default=False, help="Enter the corrections. Without --apply nothing is changed.")
@json_option
@click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--database-url", help="As of serve.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
def correct(
    *,
    event_id: str | None,
    prompt: int | None,
    completion: int | None,
    reasoning: int,
    cached: int,
    cache_write: int,
    file: Path | None,
    applies: bool,
    as_json: bool,
    **flags: str | Path | None,
) -> None:
    """Charge EVENT_ID, or the events of a file, by the figures that the provider gives for it.

    Shows the difference; with --apply it is entered as correcting entries. What was entered stays: entries are never changed. Spend
    windows of the limiter keep what they took. `tallygate assumed` lists the events that wait for it.
    """
    from tallygate.ledger.corrections import Figures

    if (event_id is None) == (file is None):
        raise click.UsageError("give an EVENT_ID with --prompt and --completion, or a --file")
    if file is not None:
        figures = read_figures(file)
    elif event_id is None or prompt is None or completion is None:
        raise click.UsageError("--prompt and --completion are needed, as the provider states them")
    else:
        one = Figures(
            event_id=event_id,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=cached,
            cache_write_tokens=cache_write,
            reasoning_tokens=reasoning,
        )
        figures = [one]

    async def correct_all() -> "list[Corrected]":
        async with open_session(flags, writes=True) as session:
            return await _correct(session, figures, applies=applies)

    with plain_errors():
        _show(asyncio.run(correct_all()), applies=applies, as_json=as_json)


def read_figures(file: Path) -> "list[Figures]":
    """Parse the events of a file, each once. Raises click.ClickException, which names the line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            return _figures(file, text)
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file}: is not UTF-8 text") from error


def _figures(file: Path, text: TextIO) -> "list[Figures]":
    from tallygate.ledger.corrections import Figures

    found: dict[str, Figures] = {}
    is_json = text.read(1) == "{"
    text.seek(0)
    rows = _json_rows(text) if is_json else _csv_rows(text)
    line = 0
    try:
        for line, row in rows:
            figures = msgspec.convert({name: value for name, value in row.items() if value != ""}, Figures, strict=is_json)
            figures.check()
            if found.setdefault(figures.event_id, figures) is not figures:
                raise click.ClickException(f"{file}:{line}: event {figures.event_id} is there twice")
            if len(found) > LINES_MAX:
                raise click.ClickException(f"{file}: more than {LINES_MAX} events: cut it into several")
    except UnicodeDecodeError:
        raise
    except _UnreadableRowError as error:
        raise click.ClickException(f"{file}:{error.line}: {error}") from error
    except ValueError as error:
        raise click.ClickException(f"{file}:{line}: {error}") from error
    return list(found.values())


class _UnreadableRowError(ValueError):
    """A row that cannot be parsed at all."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def _csv_rows(text: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(text, strict=True)
    names: list[str] = []
    try:
        for row in reader:
            if not names:
                names = row
                _once([(name, "") for name in names])
            elif row:
                yield reader.line_num, _named(names, row)
    except UnicodeDecodeError:
        raise
    except (csv.Error, ValueError) as error:
        raise _UnreadableRowError(max(reader.line_num, 1), str(error)) from error


def _json_rows(text: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, raw in enumerate(text, start=1):
        if raw.strip():
            try:
                row = json.loads(raw, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                raise _UnreadableRowError(line, f"is not JSON with each name once: {error}") from error
            if not isinstance(row, dict):
                raise _UnreadableRowError(line, "is not a JSON object")
            yield line, row


def _named(names: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    if len(row) > len(names):
        raise ValueError(f"has {len(row)} values, and there are {len(names)} columns")
    return dict(zip(names, row, strict=False))


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The members by name. Raises ValueError for a repeated name, since money depends on it."""
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return members


def corrections_of(session: LedgerSession) -> "Corrections":
    from tallygate.ledger.corrections import Corrections
    from tallygate.ledger.directory.changes import Changes

    async def nobody_to_wake() -> None:
        """Do nothing: organizations and keys stay as they are."""

    changes = Changes(session.database, now_ms=lambda: session.now_ms, on_committed=nobody_to_wake)
    return Corrections(session.database, session.prices, changes)


async def _correct(session: LedgerSession, figures: "Sequence[Figures]", *, applies: bool) -> "list[Corrected]":
    """Check all of them first: a mistake in the last one must not leave the others entered."""
    from tallygate.ledger.corrections import EVENTS_AT_ONCE, UnknownEventError

    corrections = corrections_of(session)
    found: list[Corrected] = []
    for who in [None, actor()] if applies else [None]:
        found.clear()
        for start in range(0, len(figures), EVENTS_AT_ONCE):
            try:
                found += await corrections.correct(figures[start : start + EVENTS_AT_ONCE], now_ms=session.now_ms, actor=who)
            except (UnknownEventError, ValueError) as error:
                raise click.ClickException(str(error)) from error
    return found


def _show(found: "list[Corrected]", *, applies: bool, as_json: bool) -> None:
    from tallygate.domain.money import usd_text

    changed = [each for each in found if each.correction is not None]
    rows = [
        {
            "event_id": each.event_id,
            "org": each.org,
            "before_usd": usd_text(each.before_nano_usd),
            "after_usd": usd_text(each.after_nano_usd),
            "difference_usd": usd_text(each.after_nano_usd - each.before_nano_usd),
        }
        for each in changed
    ]
    totals = {"event_id": "Total", "difference_usd": usd_text(sum(each.after_nano_usd - each.before_nano_usd for each in changed))}
    whole = {"entered": applies, "events": rows}
    empty = "every event is charged so already"
    show_rows(rows, _COLUMNS, as_json=as_json, as_csv=False, empty=empty, totals=totals, whole=whole)
    if rows and not as_json:
        output_console().print("[green]entered[/]" if applies else "nothing was changed; enter it with [bold]--apply[/]")
