"""`tallygate orgs`: organizations of the database."""

from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import Column, confirm, form_options, json_option, show, show_rows, yes_option
from tallygate.commands.api_client import api_options, asked, quoted
from tallygate.commands.declared_options import options_of, parsed_fields
from tallygate.domain.organization import ORGANIZATION_FIELDS
from tallygate.domain.rate_limit import Quantity

_ALL: Final = "/api/organizations"
_COLUMNS: Final = (
    Column("id", "Id"),
    Column("name", "Name"),
    Column("plan", "Plan"),
    Column("time_zone", "Time zone"),
    Column("credentials", "Credentials", is_amount=True),
    Column("managed_by", "From"),
)


@click.group(short_help="Organizations: list, show, create, set, delete.")
def orgs() -> None:
    """Organizations: who is billed, on which plan, with which limits. Changes hold in running gateways within a second."""


@orgs.command("list")
@form_options
@api_options
def list_organizations(*, as_json: bool, as_csv: bool, **options: Any) -> None:
    """All organizations, those of organizations.yaml too."""
    rows = asked(lambda client: client.organizations(), options)
    show_rows(rows, _COLUMNS, as_json=as_json, as_csv=as_csv, empty="no organizations")


@orgs.command("show")
@click.argument("org")
@json_option
@api_options
def show_organization(org: str, *, as_json: bool, **options: Any) -> None:
    """One organization, with its limits in effect."""
    _show_one(asked(lambda client: client.get(_path(org)), options), as_json=as_json)


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
@json_option
@api_options
def create_organization(org: str, *, as_json: bool, fields: str | None, **options: Any) -> None:
    """Make the organization ORG."""
    document = {"id": org, **_given(options), **parsed_fields(fields)}
    _show_one(asked(lambda client: client.call("POST", _ALL, body=document), options, writes=True), as_json=as_json)


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
@json_option
@api_options
def set_organization(org: str, *, as_json: bool, fields: str | None, **options: Any) -> None:
    """Change what is named of the organization ORG, and nothing else."""
    changes = {**_given(options), **parsed_fields(fields)}
    _show_one(asked(lambda client: client.call("PATCH", _path(org), body=changes), options, writes=True), as_json=as_json)


@orgs.command("delete")
@click.argument("org")
@yes_option
@json_option
@api_options
def delete_organization(org: str, *, yes: bool, as_json: bool, **options: Any) -> None:
    """Forget the organization ORG and its credentials. What it used stays in the ledger."""
    confirm(f"Delete organization {org} and all of its credentials?", yes=yes)
    found = asked(lambda client: client.call("DELETE", _path(org)), options, writes=True)
    show(found, as_json=as_json, plain=lambda console: console.print(f"deleted {escape(org)}"))


def _path(org: str) -> str:
    return f"{_ALL}/{quoted(org)}"


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


def _show_one(found: dict[str, Any], *, as_json: bool) -> None:
    def plain(console: Console) -> None:
        effective = found["effective"]
        console.print(f"[bold]{escape(found['id'])}[/]  {escape(found['name'])}")
        console.print(f"  plan            {escape(found['plan'])}{'' if effective['api_access'] else '  [red](no API access)[/]'}")
        if effective["capabilities"] is not None:
            console.print(f"  includes        {escape(', '.join(effective['capabilities']))}")
        console.print(f"  time zone       {escape(found['time_zone'])}")
        console.print(f"  billing day     {found['billing_day']}")
        console.print(f"  credentials     {found['credentials']}")
        console.print(f"  changed in      {'organizations.yaml' if found['managed_by'] == 'file' else 'the database'}")
        for limit in effective["spend_limits"]:
            lowered = "  (lowered to the plan's maximum)" if limit["name"] in effective["lowered"] else ""
            shadow = "  (shadow)" if limit["shadow"] else ""
            console.print(f"  {limit['name']:<15} {limit['usd']} USD per {limit['window']}{shadow}{lowered}")
        for limit in effective["rate_limits"]:
            units = next(limit[quantity] for quantity in Quantity if quantity in limit)
            console.print(f"  {limit['name']:<15} {units}{'  (shadow)' if limit['shadow'] else ''}")

    show(found, as_json=as_json, plain=plain)
