"""Answers of commands: tables for people, JSON and CSV for programs. Amounts are at the right and never cut."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tallygate.commands.output_console import output_console

_TEXT_MIN: Final = 6  # columns that a folded text has at least
_GAP: Final = 2
Row = Mapping[str, Any]


class Column(NamedTuple):
    """is_amount: of digits, which are grouped, at the right, and never cut. Other text is folded where the terminal is narrow."""

    key: str
    heading: str
    is_amount: bool = False


def form_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --json and --csv."""
    return json_option(click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a line of names.")(command))


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def show(found: Any, *, as_json: bool, plain: Callable[[Console], None]) -> None:
    """Print one result as JSON, or with `plain`."""
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        plain(output_console())


def secret(console: Console, what: str, text: str) -> None:
    """Print a secret, once. It has a line of its own, so that programs and people can cut it out."""
    console.print(f"{what}, shown this once:\n")
    console.print(escape(text), style="bold", soft_wrap=True)
    console.print()


def show_rows(
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    as_json: bool,
    as_csv: bool,
    empty: str,
    totals: Row | None = None,
    whole: object = None,
) -> None:
    """Print rows in the form that was asked for. totals: a last row of a table. whole: what JSON has; the rows by default."""
    check_form(as_json=as_json, as_csv=as_csv)
    if as_json:
        click.echo(json.dumps(rows if whole is None else whole, indent=2, ensure_ascii=False))
    elif as_csv:
        print_csv(rows, columns)
    elif rows:
        print_table(rows, columns, totals=totals)
    else:
        output_console().print(f"[dim]{escape(empty)}[/]")


def check_form(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")


def print_csv(rows: Iterable[Row], columns: Sequence[Column], *, has_head: bool = True) -> None:
    """Print CSV whose texts no spreadsheet evaluates, as exports have it."""
    from tallygate.ledger.export.csv_rows import safe_text

    writer = csv.writer(sys.stdout, lineterminator="\n")
    if has_head:
        writer.writerow([column.key for column in columns])
    for row in rows:
        cells = [_plain(row.get(column.key)) for column in columns]
        writer.writerow([text if column.is_amount else safe_text(text) for text, column in zip(cells, columns, strict=True)])


def print_table(rows: Iterable[Row], columns: Sequence[Column], *, totals: Row | None = None) -> None:
    """Print a table. Where the terminal is too narrow for its amounts, lines are longer than it rather than cut."""
    found = [[_cell(row.get(column.key), column) for column in columns] for row in rows]
    last = None if totals is None else [_cell(totals[c.key], c) if c.key in totals else "" for c in columns]
    every = found if last is None else [*found, last]
    widths = [max([len(column.heading), *(len(line[at]) for line in every)]) for at, column in enumerate(columns)]
    table = Table(box=None, pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        least = width if column.is_amount else min(width, _TEXT_MIN)
        table.add_column(
            column.heading,
            justify="right" if column.is_amount else "left",
            overflow="fold",
            no_wrap=column.is_amount,
            min_width=least,
        )
    for line in found:
        table.add_row(*map(escape, line))
    if last is not None:
        table.add_row(*(f"[bold]{escape(text)}[/]" if text else "" for text in last))
    console = output_console()
    least_width = sum(width if c.is_amount else min(width, _TEXT_MIN) for c, width in zip(columns, widths, strict=True))
    needed = least_width + _GAP * (len(columns) - 1)
    if console.width < needed:
        console = Console(highlight=False, width=needed)
    console.print(table)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone. Raises click.Abort if the answer is no."""
    if yes:
        return
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        if not sys.stdin.isatty():
            raise click.ClickException("nothing was changed, since nobody said yes: give --yes") from None
        raise


yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask.")


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)


def _cell(value: Any, column: Column) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if column.is_amount and isinstance(value, int):
        return f"{value:,}"
    return str(value)
