"""`tallygate orgs`: organizations of the database."""

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.declared_options import options_of
from tallygate.commands.directory_session import actor, directory_options, in_session, parsed_fields, show, table
from tallygate.domain.organization import ORGANIZATION_FIELDS
from tallygate.domain.rate_limit import Quantity

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook

_PAGE = 1_000


@click.group(short_help="Organizations: list, show, create, set, delete.")
def orgs() -> None:
    """Organizations: who is billed, on which plan, with which limits. Changes hold in running gateways within a second."""


@orgs.command("list")
@directory_options
def list_organizations(*, as_json: bool, **options: Any) -> None:
    """All organizations, those of organizations.yaml too."""
    from tallygate.ledger.directory.shown import file_shown, stored_shown

    async def work(book: "DirectoryBook") -> list[dict[str, Any]]:
        found = {organization.id: file_shown(organization) for organization in book.config().organizations}
        after = ""
        while rows := await book.organizations.list(after=after, limit=_PAGE):
            for stored, credentials in rows:
                found.setdefault(stored.id, stored_shown(stored, credentials=len(credentials)))
            after = rows[-1][0].id
        return [found[org] for org in sorted(found)]

    rows = in_session(work, options)
    columns = {
        "id": "Id",
        "name": "Name",
        "plan": "Plan",
        "time_zone": "Time zone",
        "credentials": "Credentials",
        "managed_by": "From",
    }
    show(rows, as_json=as_json, plain=lambda console: table(console, columns, rows, empty="no organizations"))


@orgs.command("show")
@click.argument("org")
@directory_options
def show_organization(org: str, *, as_json: bool, **options: Any) -> None:
    """One organization, with its limits in effect."""
    from tallygate.ledger.directory.shown import effective_shown, file_shown

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        in_file = book.rules.in_file(org)
        if in_file is not None:
            return file_shown(in_file) | {"effective": effective_shown(in_file)}
        return _state_shown(await book.organizations.get(org))

    _show_one(in_session(work, options), as_json=as_json)


@orgs.command("create")
@click.argument("org")
@click.option("--plan", required=True, help="A plan of plans.yaml.")
@options_of(ORGANIZATION_FIELDS, is_new=True)
@click.option(
    "--spend-limit",
    "spend_limits",
    metavar="USD[/WINDOW]",
    multiple=True,
    help="Such as 50, over 7 days, or 500/month; up to the plan's maximum; repeatable.",
)
@click.option("--fields", metavar="JSON", help="Further fields as in organizations.yaml, such as rate_limits.")
@directory_options
def create_organization(org: str, *, as_json: bool, fields: str | None, **options: Any) -> None:
    """Make the organization ORG."""
    document = {"id": org, **_given(options), **parsed_fields(fields)}

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        return _state_shown(await book.organizations.create(actor(), document))

    _show_one(in_session(work, options, writes=True), as_json=as_json)


@orgs.command("set")
@click.argument("org")
@click.option("--plan", help="A plan of plans.yaml.")
@options_of(ORGANIZATION_FIELDS)
@click.option(
    "--spend-limit",
    "spend_limits",
    metavar="USD[/WINDOW]",
    multiple=True,
    help="Such as 50, over 7 days, or 500/month; repeatable: they take the place of all its own; `plan`: back to the plan's.",
)
@click.option("--fields", metavar="JSON", help="Further fields as in organizations.yaml; null takes one away.")
@directory_options
def set_organization(org: str, *, as_json: bool, fields: str | None, **options: Any) -> None:
    """Change what is named of the organization ORG, and nothing else."""
    changes = {**_given(options), **parsed_fields(fields)}

    async def work(book: "DirectoryBook") -> dict[str, Any]:
        return _state_shown(await book.organizations.change(actor(), org, changes))

    _show_one(in_session(work, options, writes=True), as_json=as_json)


@orgs.command("delete")
@click.argument("org")
@click.option("--yes", is_flag=True, help="Do not ask.")
@directory_options
def delete_organization(org: str, *, yes: bool, as_json: bool, **options: Any) -> None:
    """Forget the organization ORG and its credentials. What it used stays in the ledger."""
    if not yes:
        click.confirm(f"Delete organization {org} and all of its credentials?", abort=True, err=True)

    async def work(book: "DirectoryBook") -> None:
        await book.organizations.delete(actor(), org)

    in_session(work, options, writes=True)
    show({"id": org, "deleted": True}, as_json=as_json, plain=lambda console: console.print(f"deleted {escape(org)}"))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the fields from the options and return them."""
    keys = ("plan", *(declared.key for declared in ORGANIZATION_FIELDS))
    found = {key: value for key in keys if (value := options.pop(key, None)) is not None}
    limits = options.pop("spend_limits")
    if limits == ("plan",):
        found |= {"spend_limit": None, "spend_limits": None}
    elif len(limits) == 1:
        found["spend_limit"] = _limit_of(limits[0])
    elif limits:
        found["spend_limits"] = [_limit_of(text) for text in limits]
    return found


def _limit_of(text: str) -> dict[str, str]:
    amount, _, window = text.partition("/")
    return {"usd": amount, "window": window} if window else {"usd": amount}


def _state_shown(state: Any) -> dict[str, Any]:
    from tallygate.ledger.directory.shown import effective_shown, stored_shown

    return stored_shown(state.stored, credentials=len(state.credentials)) | {"effective": effective_shown(state.effective)}


def _show_one(found: dict[str, Any], *, as_json: bool) -> None:
    def plain(console: Console) -> None:
        effective = found["effective"]
        console.print(f"[bold]{escape(found['id'])}[/]  {escape(found['name'])}")
        console.print(f"  plan         {escape(found['plan'])}{'' if effective['api_access'] else '  [red](no API access)[/]'}")
        if effective["capabilities"] is not None:
            console.print(f"  includes     {escape(', '.join(effective['capabilities']))}")
        console.print(f"  time zone    {escape(found['time_zone'])}")
        console.print(f"  billing day  {found['billing_day']}")
        console.print(f"  credentials  {found['credentials']}")
        console.print(f"  changed in   {'organizations.yaml' if found['managed_by'] == 'file' else 'the database'}")
        for limit in effective["spend_limits"]:
            lowered = "  (lowered to the plan's maximum)" if limit["name"] in effective["lowered"] else ""
            shadow = "  (shadow)" if limit["shadow"] else ""
            console.print(f"  {limit['name']:<12} {limit['usd']} USD per {limit['window']}{shadow}{lowered}")
        for limit in effective["rate_limits"]:
            units = next(limit[quantity] for quantity in Quantity if quantity in limit)
            console.print(f"  {limit['name']:<12} {units}{'  (shadow)' if limit['shadow'] else ''}")

    show(found, as_json=as_json, plain=plain)
