"""`tallygate objects`: what organizations own upstream."""

from typing import Any, Final, TextIO

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import Column, form_options, json_option, show, show_rows
from tallygate.commands.api_client import ApiClient, api_options, asked, quoted

_COLUMNS: Final = (
    Column("kind", "Kind"),
    Column("id", "Id"),
    Column("upstream", "Upstream"),
    Column("credential", "Credential"),
    Column("made_at", "Made"),
    Column("tokens", "Tokens", is_amount=True),
    Column("event_id", "Event"),
)
_IDS_AT_ONCE: Final = 200  # each has up to 512 characters, some of which take six in JSON


@click.group(short_help="Stored objects upstream: list, adopt, forget.")
def objects() -> None:
    """Files, batches, responses and other objects that upstreams keep, and which organization each belongs to."""


@objects.command("list")
@click.argument("org")
@click.option("--kind", help="Only of this kind, such as file.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000), help="So many at most.")
@click.option("--after", nargs=3, metavar="UPSTREAM KIND ID", help="Those behind this one, in the order of these three.")
@form_options
@api_options
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

    async def fetch(client: ApiClient) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async for each in client.pages(_all(org), "objects", {"kind": kind}, at_most=None if after else limit):
            if after is None or (each["upstream"], each["kind"], each["id"]) > after:
                found.append(each)
            if len(found) == limit:
                break
        return found

    rows = asked(fetch, options)
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
@api_options
def adopt(
    org: str, kind: str, *, ids: tuple[str, ...], upstream: str, from_file: TextIO | None, as_json: bool, **options: Any
) -> None:
    """Make the organization ORG the owner of the objects IDS of KIND (file, batch, response, vector_store ...).

    For what it made before the gateway kept account, or past the gateway. Running gateways know it within a second.
    """
    named = _ids(ids, from_file)

    adopted = asked(
        lambda client: _each_part(client, f"{_all(org)}/adopt", "adopted", named, kind=kind, upstream=upstream),
        options,
        writes=True,
    )

    def plain(console: Console) -> None:
        console.print(f"{adopted} of {len(named)} adopted by {escape(org)}; the others were its own already")

    show({"org": org, "kind": kind, "upstream": upstream, "adopted": adopted}, as_json=as_json, plain=plain)


@objects.command("forget")
@_named
@json_option
@api_options
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

    forgotten = asked(
        lambda client: _each_part(client, f"{_all(org)}/forget", "forgotten", named, kind=kind, upstream=upstream),
        options,
        writes=True,
    )
    answer = {"org": org, "kind": kind, "upstream": upstream, "forgotten": forgotten}
    show(answer, as_json=as_json, plain=lambda console: console.print(f"{forgotten} of {len(named)} forgotten"))


def _all(org: str) -> str:
    return f"/api/organizations/{quoted(org)}/objects"


async def _each_part(client: ApiClient, path: str, counted: str, ids: list[str], *, kind: str, upstream: str) -> int:
    """The number of objects that changed. A call names as many as its body holds."""
    done = 0
    for start in range(0, len(ids), _IDS_AT_ONCE):
        body = {"kind": kind, "upstream": upstream, "ids": ids[start : start + _IDS_AT_ONCE]}
        done += (await client.call("POST", path, body=body))[counted]
    return done


def _ids(ids: tuple[str, ...], from_file: TextIO | None) -> list[str]:
    read = [line.strip() for line in from_file] if from_file is not None else []
    found = list(dict.fromkeys([*ids, *filter(None, read)]))
    if not found:
        raise click.UsageError("say which: IDS, or --from-file")
    return found
