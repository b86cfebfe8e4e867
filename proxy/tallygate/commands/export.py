"""`tallygate export`: the ledger's entries as a file."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tallygate.commands.api_client import ApiClient, asked, local_options, remote_options, remote_url
from tallygate.commands.ledger_session import LedgerSession, open_session, plain_errors
from tallygate.commands.output_file import output_file
from tallygate.commands.settings_options import print_error
from tallygate.commands.time_range import RangeOptions, range_options, read_range
from tallygate.commands.usage import asked_range

if TYPE_CHECKING:
    from tallygate.domain.organization import Organization
    from tallygate.ledger.export.encoder import Encoder
    from tallygate.ledger.export.selection import Selection
    from tallygate.ledger.history import OrgScope

FORMATS: Final = ("csv", "jsonl", "parquet")  # tallygate.ledger.export.encoder.Format, without importing it for --help
COUNT_MAX: Final = 1_000_000_000  # a longer progress bar is useless


@click.command(short_help="Write the ledger's entries as CSV, JSON Lines or Parquet.")
@click.option("--format", "format_name", type=click.Choice(FORMATS), help="Default: by the suffix of --output, else csv.")
@range_options
@click.option("--org", "orgs", multiple=True, help="Organization; repeatable.  [default: all whose plan includes export]")
@click.option("--credential", "credentials", multiple=True, help="Only of this Client ID; repeatable.")
@click.option("--capability", "capabilities", multiple=True, help="Only of this capability; repeatable.")
@click.option("--model", "models", multiple=True, help="Only of this model; repeatable.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File.  [default: standard output]")
@click.option("--ignore-plan", is_flag=True, help="Also what plans withhold: organizations without export, and past histories.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--database-url", help="As of serve.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
@remote_options
def export(
    *,
    format_name: str | None,
    orgs: tuple[str, ...],
    credentials: tuple[str, ...],
    capabilities: tuple[str, ...],
    models: tuple[str, ...],
    output: Path | None,
    ignore_plan: bool,
    **options: Any,
) -> None:
    """Write the ledger's entries as CSV, JSON Lines or Parquet, in bounded memory.

    A file appears when it is whole. Entries of one event add up; sequence 0 is the original, later ones correct it.
    """
    from tallygate.ledger.export.encoder import Format, FormatUnavailableError
    from tallygate.ledger.export.selection import Selection
    from tallygate.ledger.export.stream import encoder_of
    from tallygate.ledger.history import Dimension

    format_ = Format(format_name or _format_of(output))
    if format_ is Format.PARQUET and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is binary: give --output")
    times = RangeOptions(**{name: options.pop(name) for name in ("from_text", "to_text", "month", "time_zone", "last")})
    if remote_url(options["url"]) is not None:
        if ignore_plan:
            raise click.UsageError("--ignore-plan works where serve runs, not over a console")
        asks = {"format": format_.value, "credential": credentials, "capability": capabilities, "model": models}
        _download(asks, orgs, times, output, options)
        return
    local = local_options(options)
    filters = {Dimension.CREDENTIAL: credentials, Dimension.CAPABILITY: capabilities, Dimension.MODEL: models}

    async def write_file() -> None:
        async with open_session(local) as session:
            organizations = await _organizations(session, orgs, ignore_plan=ignore_plan)
            from_ms, to_ms = read_range(times, organizations, now_ms=session.now_ms)
            selection = Selection(
                scopes=tuple(_scope(organization, session.now_ms, ignore_plan=ignore_plan) for organization in organizations),
                from_ms=from_ms,
                to_ms=to_ms,
                as_of_ms=session.now_ms,
                filters={name: frozenset(values) for name, values in filters.items() if values},
            )
            with output_file(output) as file:
                rows, size = await _write(session, selection, encoder_of(format_), file)
        where = "standard output" if output is None else escape(str(output))
        _stderr().print(f"{rows:,} entries, {size:,} bytes to {where}", soft_wrap=True)

    with plain_errors():
        try:
            asyncio.run(write_file())
        except FormatUnavailableError as error:
            raise click.ClickException(str(error)) from error


def _download(
    asks: dict[str, Any], orgs: tuple[str, ...], times: RangeOptions, output: Path | None, options: dict[str, Any]
) -> None:
    """Write what a console elsewhere exports, as it sends it."""
    from tallygate.ledger.export.encoder import FILE_TYPES, Format

    media = FILE_TYPES[Format(asks["format"])].content_type.partition(";")[0]

    async def fetch(client: ApiClient) -> None:
        start, end, zone = asked_range(times, await client.zoned(orgs), default=None)
        question = {**asks, "from": start, "to": end, "time_zone": zone, "org": orgs}
        with output_file(output) as file:
            size, headers = await client.download("/api/export", question, file, media=media)
        if headers.get("tallygate-export-is-whole") == "false":
            begins = headers.get("tallygate-export-history-from", "")[:30]
            print_error("warning", f"not all of the range: history begins at {begins}", color="yellow")
        where = "standard output" if output is None else escape(str(output))
        _stderr().print(f"{size:,} bytes to {where}", soft_wrap=True)

    asked(fetch, options)


async def _organizations(session: LedgerSession, orgs: Sequence[str], *, ignore_plan: bool) -> "list[Organization]":
    if orgs:
        return [await session.organization(org, needs_export=not ignore_plan) for org in sorted(set(orgs))]
    found = [organization for _, organization in sorted(session.organizations.items()) if ignore_plan or organization.plan.export]
    if not found:
        raise click.ClickException("no organization is on a plan that includes export (the operator may --ignore-plan)")
    return found


def _scope(organization: "Organization", now_ms: int, *, ignore_plan: bool) -> "OrgScope":
    from tallygate.ledger.history import OrgScope
    from tallygate.ledger.retention import visible_from_ms

    return OrgScope(org=organization.id, visible_from_ms=0 if ignore_plan else visible_from_ms(organization, now_ms))


async def _write(session: LedgerSession, selection: "Selection", encoder: "Encoder", file: BinaryIO) -> tuple[int, int]:
    """Write the rows; return how many rows and bytes. The bar is on standard error, and only on a terminal."""
    from tallygate.ledger.export.entry_pages import count_entries
    from tallygate.ledger.export.stream import export_pieces

    stderr = _stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    rows = size = 0
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        total = await count_entries(session.database, selection, at_most=COUNT_MAX) if stderr.is_terminal else None
        bar = progress.add_task("exporting", total=total)
        async for piece in export_pieces(session.database, selection, encoder):
            file.write(piece.data)
            rows, size = rows + piece.rows, size + len(piece.data)
            progress.update(bar, completed=rows)
    return rows, size


def _format_of(output: Path | None) -> str:
    suffix = "" if output is None else output.suffix.removeprefix(".").lower()
    return suffix if suffix in FORMATS else "csv"


def _stderr() -> Console:
    return Console(stderr=True, highlight=False)
