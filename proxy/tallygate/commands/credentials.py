"""`tallygate credentials`: callers' keys."""

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.declared_options import options_of
from tallygate.commands.directory_session import actor, directory_options, in_session, parsed_fields, secret, show, table
from tallygate.commands.import_credentials import import_credentials
from tallygate.domain.organization import CREDENTIAL_FIELDS

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook

_COLUMNS = {
    "id": "Client ID",
    "name": "Name",
    "environment": "Environment",
    "status": "Status",
    "expires": "Expires",
    "old_key_until": "Old key until",
    "last_used_at": "Last used",
}


@click.group(short_help="Credentials: list, create, import, set, rotate, revoke.")
def credentials() -> None:
    """Credentials: who may call for an organization, and what. A key is shown once, by the command that makes it."""


credentials.add_command(import_credentials)


@credentials.command("list")
@click.argument("org")
@directory_options
def list_credentials(org: str, *, as_json: bool, **options: Any) -> None:
    """The credentials of the organization ORG."""
    from tallygate.ledger.directory.shown import file_credential_shown

    async def work(book: "DirectoryBook") -> list[dict[str, Any]]:
        in_file = book.rules.in_file(org)
        if in_file is not None:
            return [file_credential_shown(credential, book.now_ms()) for credential in in_file.credentials]
        return [credential.shown(book.now_ms()) for credential in await book.credentials.list(org)]

    rows = in_session(work, options)
    show(rows, as_json=as_json, plain=lambda console: table(console, _COLUMNS, rows, empty=f"{org} has no credentials"))


@credentials.command("create")
@click.argument("org")
@click.argument("client_id")
@options_of((declared for declared in CREDENTIAL_FIELDS if declared.key != "enabled"), is_new=True)
@click.option("--key-sha256", metavar="HEX", help="Digest of a key that the caller has already.")
@click.option("--no-key", is_flag=True, help="Only signed tokens that name its Client ID identify it.")
@click.option("--fields", metavar="JSON", help="Further fields as in organizations.yaml, such as rate_limits.")
@directory_options
def create_credential(org: str, client_id: str, *, no_key: bool, fields: str | None, as_json: bool, **options: Any) -> None:
    """Make the credential CLIENT_ID of the organization ORG, and show its key, once."""
    document = {"id": client_id, "has_key": not no_key, **_given(options), **parsed_fields(fields)}

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        made = await book.credentials.create(actor(), org, document)
        return _with_key(made.stored.shown(book.now_ms()), made.api_key)

    _show_made(in_session(work, options, writes=True), as_json=as_json)


@credentials.command("set")
@click.argument("org")
@click.argument("client_id")
@options_of(CREDENTIAL_FIELDS)
@click.option("--fields", metavar="JSON", help="Further fields as in organizations.yaml; null takes one away.")
@directory_options
def set_credential(org: str, client_id: str, *, fields: str | None, as_json: bool, **options: Any) -> None:
    """Change what is named of a credential, and nothing else."""
    changes = {**_given(options), **parsed_fields(fields)}

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        return (await book.credentials.change(actor(), org, client_id, changes)).stored.shown(book.now_ms())

    _show_made(in_session(work, options, writes=True), as_json=as_json)


@credentials.command("rotate")
@click.argument("org")
@click.argument("client_id")
@click.option("--overlap", default="24h", show_default=True, help="How long the key before still holds; 0 to end it now.")
@click.option("--key-sha256", metavar="HEX", help="Digest of a new key that the caller has already.")
@directory_options
def rotate_credential(org: str, client_id: str, *, overlap: str, key_sha256: str | None, as_json: bool, **options: Any) -> None:
    """Give a credential another key, and show it, once."""
    overlap_ms = _overlap_ms(overlap)

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        made = await book.credentials.rotate(actor(), org, client_id, overlap_ms=overlap_ms, key_sha256=key_sha256)
        return _with_key(made.stored.shown(book.now_ms()), made.api_key)

    _show_made(in_session(work, options, writes=True), as_json=as_json)


@credentials.command("revoke")
@click.argument("org")
@click.argument("client_id")
@directory_options
def revoke_credential(org: str, client_id: str, *, as_json: bool, **options: Any) -> None:
    """End a credential for ever: its keys, and the tokens that name it."""

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        return (await book.credentials.revoke(actor(), org, client_id)).shown(book.now_ms())

    _show_made(in_session(work, options, writes=True), as_json=as_json)


@credentials.command("release")
@click.argument("client_id")
@directory_options
def release_client_id(client_id: str, *, as_json: bool, **options: Any) -> None:
    """Give a Client ID free again that was revoked or disabled when its organization was deleted."""

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        await book.credentials.release(actor(), client_id)
        return {"id": client_id}

    found = in_session(work, options, writes=True)
    show(found, as_json=as_json, plain=lambda console: console.print(f"released {escape(found['id'])}"))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the fields from the options and return them."""
    found = {}
    for key in (*(declared.key for declared in CREDENTIAL_FIELDS), "key_sha256"):
        value = options.pop(key, None)
        if value not in (None, ()):
            found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _overlap_ms(text: str) -> int:
    from tallygate.config.section import duration_ms

    try:
        return 0 if text in {"0", "0s"} else duration_ms(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--overlap") from error


def _with_key(shown: dict[str, Any], api_key: str | None) -> dict[str, Any]:
    return shown if api_key is None else shown | {"api_key": api_key}


def _show_made(found: dict[str, Any], *, as_json: bool) -> None:
    def plain(console: Console) -> None:
        if "api_key" in found:
            secret(console, f"The key of {escape(found['id'])}", found["api_key"])
        table(console, _COLUMNS, [found], empty="")

    show(found, as_json=as_json, plain=plain)
