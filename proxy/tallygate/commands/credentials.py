"""`tallygate credentials`: callers' keys."""

from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import (
    Column,
    confirm,
    form_options,
    json_option,
    print_table,
    secret,
    show,
    show_rows,
    yes_option,
)
from tallygate.commands.api_client import api_options, asked, quoted
from tallygate.commands.declared_options import options_of, parsed_fields
from tallygate.commands.import_credentials import import_credentials
from tallygate.domain.organization import CREDENTIAL_FIELDS

_COLUMNS: Final = (
    Column("id", "Client ID"),
    Column("name", "Name"),
    Column("environment", "Environment"),
    Column("status", "Status"),
    Column("expires", "Expires"),
    Column("old_key_until", "Old key until"),
    Column("last_used_at", "Last used"),
)


@click.group(short_help="Credentials: list, create, import, set, rotate, revoke.")
def credentials() -> None:
    """Credentials: who may call for an organization, and what. A key is shown once, by the command that makes it."""


credentials.add_command(import_credentials)


@credentials.command("list")
@click.argument("org")
@form_options
@api_options
def list_credentials(org: str, *, as_json: bool, as_csv: bool, **options: Any) -> None:
    """The credentials of the organization ORG."""
    rows = asked(lambda client: client.get(_all(org)), options)["credentials"]
    show_rows(rows, _COLUMNS, as_json=as_json, as_csv=as_csv, empty=f"{org} has no credentials")


@credentials.command("create")
@click.argument("org")
@click.argument("client_id")
@options_of((declared for declared in CREDENTIAL_FIELDS if declared.key != "enabled"), is_new=True)
@click.option("--key-sha256", metavar="HEX", help="Digest of a key that the caller has already.")
@click.option("--no-key", is_flag=True, help="Only signed tokens that name its Client ID identify it.")
@click.option("--fields", metavar="JSON", help="Further fields as in organizations.yaml, such as rate_limits.")
@json_option
@api_options
def create_credential(org: str, client_id: str, *, no_key: bool, fields: str | None, as_json: bool, **options: Any) -> None:
    """Make the credential CLIENT_ID of the organization ORG, and show its key, once."""
    document = {"id": client_id, "has_key": not no_key, **_given(options), **parsed_fields(fields)}
    _show_made(asked(lambda client: client.call("POST", _all(org), body=document), options, writes=True), as_json=as_json)


@credentials.command("set")
@click.argument("org")
@click.argument("client_id")
@options_of(CREDENTIAL_FIELDS)
@click.option("--fields", metavar="JSON", help="Further fields as in organizations.yaml; null takes one away.")
@json_option
@api_options
def set_credential(org: str, client_id: str, *, fields: str | None, as_json: bool, **options: Any) -> None:
    """Change what is named of a credential, and nothing else."""
    changes = {**_given(options), **parsed_fields(fields)}
    path = f"{_all(org)}/{quoted(client_id)}"
    _show_made(asked(lambda client: client.call("PATCH", path, body=changes), options, writes=True), as_json=as_json)


@credentials.command("rotate")
@click.argument("org")
@click.argument("client_id")
@click.option("--overlap", default="24h", show_default=True, help="How long the key before still holds; 0 to end it now.")
@click.option("--key-sha256", metavar="HEX", help="Digest of a new key that the caller has already.")
@json_option
@api_options
def rotate_credential(org: str, client_id: str, *, overlap: str, key_sha256: str | None, as_json: bool, **options: Any) -> None:
    """Give a credential another key, and show it, once."""
    body = {"overlap": overlap} | ({} if key_sha256 is None else {"key_sha256": key_sha256})
    path = f"{_all(org)}/{quoted(client_id)}/rotate"
    _show_made(asked(lambda client: client.call("POST", path, body=body), options, writes=True), as_json=as_json)


@credentials.command("revoke")
@click.argument("org")
@click.argument("client_id")
@yes_option
@json_option
@api_options
def revoke_credential(org: str, client_id: str, *, yes: bool, as_json: bool, **options: Any) -> None:
    """End a credential for ever: its keys, and the tokens that name it."""
    confirm(f"Revoke {client_id} of {org}, for ever?", yes=yes)
    path = f"{_all(org)}/{quoted(client_id)}/revoke"
    _show_made(asked(lambda client: client.call("POST", path), options, writes=True), as_json=as_json)


@credentials.command("release")
@click.argument("client_id")
@json_option
@api_options
def release_client_id(client_id: str, *, as_json: bool, **options: Any) -> None:
    """Give a Client ID free again that was revoked or disabled when its organization was deleted."""
    path = f"/api/client-ids/{quoted(client_id)}/release"
    found = asked(lambda client: client.call("POST", path), options, writes=True)
    show(found, as_json=as_json, plain=lambda console: console.print(f"released {escape(found['id'])}"))


def _all(org: str) -> str:
    return f"/api/organizations/{quoted(org)}/credentials"


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the fields from the options and return them."""
    found = {}
    for key in (*(declared.key for declared in CREDENTIAL_FIELDS), "key_sha256"):
        value = options.pop(key, None)
        if value not in (None, ()):
            found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _show_made(found: dict[str, Any], *, as_json: bool) -> None:
    def plain(console: Console) -> None:
        if "api_key" in found:
            secret(console, f"The key of {escape(found['id'])}", found["api_key"])
        print_table([found], _COLUMNS)

    show(found, as_json=as_json, plain=plain)
