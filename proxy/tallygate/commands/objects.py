"""`tallygate objects`: what organizations own upstream."""

from typing import TYPE_CHECKING, Any, Final, TextIO

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import Column, form_options, json_option, show, show_rows
from tallygate.commands.api_client import actor
from tallygate.commands.directory_session import in_session
from tallygate.commands.settings_options import store_options

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook

_COLUMNS: Final = (
    Column("kind", "Kind"),
    Column("id", "Id"),
    Column("upstream", "Upstream"),
    Column("credential", "Credential"),
    Column("made_at", "Made"),
    Column("tokens", "Tokens", is_amount=True),
    Column("event_id", "Event"),
)
_IDS_AT_ONCE = 10_000


@click.group(short_help="Stored objects upstream: list, adopt, forget.")
def objects() -> None:
    """Files, batches, responses and other objects that upstreams keep, and which organization each belongs to."""


@objects.command("list")
@click.argument("org")
@click.option("--kind", help="Only of this kind, such as file.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000), help="So many at most.")
@click.option("--after", nargs=3, metavar="UPSTREAM KIND ID", help="Those behind this one, in the order of these three.")
@form_options
@store_options
def list_objects(
    org: str,
    *,
    kind: str | None,
    limit: int,
    after: tuple[str, str, str] | None,
    as_json: bool,
    as_csv: bool,
    **options: Any,
) -> None:
    """The objects of the organization ORG."""
    from tallygate.ledger.directory.objects import object_shown

    async def work(book: "DirectoryBook") -> list[dict[str, Any]]:
        return [object_shown(found) for found in await book.objects.list(org, kind=kind, after=after, limit=limit)]

    rows = in_session(work, options)
    show_rows(rows, _COLUMNS, as_json=as_json, as_csv=as_csv, empty=f"{org} has no objects")


def _named(command: Any) -> Any:
    """Add the options that name objects: ids as arguments, or from a file."""
    for option in (
        click.option("--from-file", type=click.File(encoding="utf-8"), help="Ids, one a line; - for standard input."),
        click.option("--upstream", default="default", show_default=True, help="The upstream that keeps them."),
        click.argument("ids", nargs=-1),
        click.argument("kind"),
        click.argument("org"),
    ):
        command = option(command)
    return command


@objects.command("adopt")
@_named
@json_option
@store_options
def adopt(
    org: str, kind: str, *, ids: tuple[str, ...], upstream: str, from_file: TextIO | None, as_json: bool, **options: Any
) -> None:
    """Make the organization ORG the owner of the objects IDS of KIND (file, batch, response, vector_store ...).

    For what it made before the gateway kept account, or past the gateway. Running gateways know it within a second.
    """
    named = _ids(ids, from_file)

    async def work(book: "DirectoryBook") -> int:
        parts = [named[start : start + _IDS_AT_ONCE] for start in range(0, len(named), _IDS_AT_ONCE)]
        return sum([await book.objects.adopt(actor(), org, upstream=upstream, kind=kind, ids=part) for part in parts])

    adopted = in_session(work, options, writes=True)

    def plain(console: Console) -> None:
        console.print(f"{adopted} of {len(named)} adopted by {escape(org)}; the others were its own already")

    show({"org": org, "kind": kind, "upstream": upstream, "adopted": adopted}, as_json=as_json, plain=plain)


@objects.command("forget")
@_named
@json_option
@store_options
def forget(
    org: str,
    kind: str,
    *,
    ids: tuple[str, ...],
    upstream: str,
    from_file: TextIO | None,
    as_json: bool,
    **options: Any,
) -> None:
    """End the ownership of the organization ORG. The objects stay where they are, and nobody can reach them."""
    named = _ids(ids, from_file)

    async def work(book: "DirectoryBook") -> int:
        parts = [named[start : start + _IDS_AT_ONCE] for start in range(0, len(named), _IDS_AT_ONCE)]
        return sum([await book.objects.forget(actor(), org, upstream=upstream, kind=kind, ids=part) for part in parts])

    forgotten = in_session(work, options, writes=True)
    answer = {"org": org, "kind": kind, "upstream": upstream, "forgotten": forgotten}
    show(answer, as_json=as_json, plain=lambda console: console.print(f"{forgotten} of {len(named)} forgotten"))


def _ids(ids: tuple[str, ...], from_file: TextIO | None) -> list[str]:
    read = [line.strip() for line in from_file] if from_file is not None else []
    found = list(dict.fromkeys([*ids, *filter(None, read)]))
    if not found:
        raise click.UsageError("say which: IDS, or --from-file")
    return found
