"""The `tallygate` command. It parses and prints; the modules that do the work are imported when their command runs."""

import asyncio
import errno
import json
import os
import re
import secrets
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tallygate.commands.answers import json_option
from tallygate.commands.apply import apply
from tallygate.commands.assumed import assumed
from tallygate.commands.audit import audit
from tallygate.commands.changes import changes
from tallygate.commands.correct import correct
from tallygate.commands.credentials import credentials
from tallygate.commands.event import event
from tallygate.commands.events import events
from tallygate.commands.export import export
from tallygate.commands.from_litellm import from_litellm
from tallygate.commands.init import init
from tallygate.commands.invoice import invoice
from tallygate.commands.login import login, logout
from tallygate.commands.models import models
from tallygate.commands.objects import objects
from tallygate.commands.orgs import orgs
from tallygate.commands.plans import plans
from tallygate.commands.prices import prices
from tallygate.commands.reprice import reprice
from tallygate.commands.schema import schema
from tallygate.commands.serving import console, gateway, ledger, serve
from tallygate.commands.settings_options import friendly, with_settings
from tallygate.commands.spend import spend
from tallygate.commands.tokens import tokens
from tallygate.commands.usage import usage
from tallygate.commands.webhooks import webhooks
from tallygate.config.settings import Settings, misspelt_variables
from tallygate.domain.errors import StoreError

_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)  # as in organizations.yaml
_ANY_UPSTREAM: Final = "http://upstream.invalid"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HELP: Final = """A metering gateway for AI APIs: exact token counts, limits that hold, Prometheus metrics.

\b
Try it, with nothing but this package (a mock AI API is included):
  tallygate demo
\b
Put it in front of your AI API, then point your SDK's base URL at http://127.0.0.1:8080:
  tallygate init gloo     # or openai, anthropic, gemini, openai-compatible; prints a key, and what to type next
  tallygate check --config-dir config
  tallygate serve --config-dir config

Secrets are variables or files, never flags, which every user of the machine can see.
Settings are flags of `serve`, TALLYGATE_* variables, or lines of a .env file, in this order of precedence.
"""


class _Commands(click.Group):
    """Commands that say in a line, and not in a traceback, that what they print has no room on its disk.

    Standard streams that are closed lead nowhere, or the next file that is opened would be taken for one of them.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # each open takes the lowest number that is free
            if getattr(sys, name) is None:
                nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - for as long as the process runs
                os.set_inheritable(nowhere.fileno(), True)
                setattr(sys, name, nowhere)
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise click.ClickException(f"the output cannot be written: {error.strerror}") from error


@click.group(cls=_Commands, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tallygate", message="tallygate %(version)s")
def main() -> None:
    """Entry point of the `tallygate` script."""


@main.command(short_help="Print every problem of the configuration, with file and line.")
@click.option(
    "--config-dir", type=click.Path(path_type=Path), help="Directory of plans.yaml and its siblings.  [default: as for serve]"
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="That of the gateway, for models that lack a price.")
def check(config_dir: Path | None, data_dir: Path | None) -> None:
    """Check settings and configuration; print every problem with its file and line. Exit code 1 if there is one.

    Notes say how old list prices are, and which models were asked for in the last days that have no price.
    """
    from tallygate.app.configuration import config_problems, upstream_urls
    from tallygate.commands.chosen_settings import chosen_settings
    from tallygate.commands.price_notes import price_notes
    from tallygate.config.load import misspelt_files

    with friendly():
        settings = chosen_settings({"config_dir": config_dir, "data_dir": data_dir}, uses_stores=False)
        if not settings.upstream_url:  # often unknown where files are checked
            settings = settings.model_copy(update={"upstream_url": _ANY_UPSTREAM})
        problems = (*config_problems(settings), *misspelt_variables(os.environ))
    if settings.config_dir is not None:
        for note in misspelt_files(settings.config_dir):
            _errors().print(f"[yellow]note:[/] {escape(note)}")
    for problem in problems:
        click.echo(problem)
    if problems:
        _errors().print(f"[red]{len(problems)} problem{'s' if len(problems) > 1 else ''}[/]")
        sys.exit(1)
    where = settings.config_dir or "the shipped configuration"
    Console().print(f"[green]ok[/] {escape(str(where))}")
    for note in price_notes(settings, datetime.now(UTC)):
        _errors().print(f"[yellow]note:[/] {escape(note)}")
    if _ANY_UPSTREAM in upstream_urls(settings):
        _errors().print("[yellow]note:[/] TALLYGATE_UPSTREAM_URL is not set here; serve needs it, or a base_url in upstreams.yaml")


@main.group(short_help="Make keys for callers.")
def keys() -> None:
    """Keys of callers."""


@keys.command("new")
@click.argument("client_id")
def new_key(client_id: str) -> None:
    """Make a key for the credential CLIENT_ID. It is shown once; the configuration keeps only its digest."""
    from tallygate.config.directory import generate_key

    if not _CLIENT_ID.fullmatch(client_id):
        raise click.BadParameter("1 to 64 of A-Z a-z 0-9 . _ -", param_hint="CLIENT_ID")
    issued = generate_key(client_id, secrets.token_bytes)
    click.echo(f"{issued.api_key}\n")
    click.echo("This key is shown once. Give it to the caller, and put its digest under the organization in organizations.yaml:\n")
    click.echo(f"    credentials:\n      - id: {client_id}\n        key_sha256: {issued.key_sha256.hex()}")


@main.command(short_help="Examine versions, configuration, Redis and upstreams.")
@json_option
@click.option("--acl", "shows_acl", is_flag=True, help="Print the Redis command that makes a user with the least permissions.")
@with_settings(Settings.model_fields)
def doctor(*, as_json: bool, shows_acl: bool, **flags: str | None) -> None:
    """Look at what serving needs: versions, configuration, store, database, upstreams. Exit code 1 if something is wrong."""
    from tallygate.commands.chosen_settings import chosen_settings
    from tallygate.config.settings import load_settings
    from tallygate.doctor.examination import examine
    from tallygate.doctor.stores import least_access

    if shows_acl:
        with friendly():
            click.echo(least_access(load_settings(flags)))
        return
    with friendly():
        findings = examine(chosen_settings(flags))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        sys.exit(0 if all(finding.is_good for finding in findings) else 1)
    table = Table("", "Check", Column("Finding", overflow="fold"), box=None, pad_edge=False)
    for finding in findings:
        table.add_row({True: "[green]ok[/]", False: "[red]bad[/]"}[finding.is_good], finding.check, escape(finding.text))
    Console().print(table)
    sys.exit(0 if all(finding.is_good for finding in findings) else 1)


@main.group(short_help="Look after the limiter's store.")
def limiter() -> None:
    """The limiter's store, while the gateway runs."""


@limiter.command("reopen", short_help="Admit spending again after the store has lost its data.")
@click.option("--accept-loss", is_flag=True, help="Forget what was spent before: spend limits begin at zero.")
@with_settings(Settings.model_fields)
def reopen(*, accept_loss: bool, **flags: str | None) -> None:
    """Admit spending again after the store has lost its data.

    A store without its data refuses what a spend limit bounds, since nothing says what was spent. Restore its data if you can.
    If you cannot, this begins every spend limit at zero. Settlements that wait in spools are entered afterwards.
    """
    from tallygate.app.stores import lost_partitions, reopen_limiter
    from tallygate.commands.chosen_settings import chosen_settings

    with friendly():
        settings = chosen_settings(flags)
        if not settings.redis_url.get_secret_value():
            raise click.ClickException(
                f"no store runs on {settings.data_dir}: give --redis-url, or the --data-dir of a running serve"
            )
        try:
            if accept_loss:
                click.echo(f"reopened {asyncio.run(reopen_limiter(settings))} partitions")
                return
            lost = asyncio.run(lost_partitions(settings))
        except StoreError as error:
            raise click.ClickException(str(error)) from error
    if lost:
        raise click.ClickException(
            f"{lost} partitions have lost what was spent, and admit no spending. To begin their limits at zero: --accept-loss"
        )
    click.echo("no partition has lost its data")


@main.command(short_help="Watch it count, with a mock AI API.")
@click.option("--exit", "exits", is_flag=True, help="End after the table instead of staying up.")
@click.option("--requests", default=300, show_default=True, type=click.IntRange(10, 100_000), help="Requests to send.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(0, 90), help="Days of history to begin with.")
@click.option(
    "--profile",
    default="openai",
    show_default=True,
    type=click.Choice(("openai", "gloo")),
    help="Whose API is simulated and called.",
)
def demo(*, exits: bool, requests: int, days: int, profile: str) -> None:
    """Watch it count: a mock AI API, the gateway in front of it, three organizations and their clients.

    The clients are the real openai SDK where it is installed (pip install 'tallygate[demo]'), which adds sockets, files, batches,
    images and sound to the traffic; else they speak plain HTTP.

    Shows what the gateway counted beside what the mock API served; the difference is zero. The usage page has a month of history
    too, which was never served: its requests are made up, and priced and entered as real ones are.
    """
    from tallygate.demo.demo import DemoError, run_demo

    try:
        code = run_demo(requests=requests, days=days, stays_up=not exits, profile=profile)
    except DemoError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


@main.command(
    short_help="Run the mock AI API alone.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulator(arguments: tuple[str, ...]) -> None:
    """Run the mock AI API alone: OpenAI-, Anthropic-, Gemini- and Gloo-shaped endpoints that count what they serve."""
    from tallygate.simulator.__main__ import main as simulate

    simulate.main(args=list(arguments), prog_name="tallygate simulator")


@main.command("version")
def show_version() -> None:
    """Print the version."""
    click.echo(f"tallygate {version('tallygate')}")


main.add_command(init)
main.add_command(serve)
main.add_command(gateway)
main.add_command(console)
main.add_command(ledger)
main.add_command(audit)
main.add_command(export)
main.add_command(invoice)
main.add_command(orgs)
main.add_command(objects)
main.add_command(credentials)
main.add_command(tokens)
main.add_command(login)
main.add_command(logout)
main.add_command(apply)
main.add_command(from_litellm)
main.add_command(changes)
main.add_command(prices)
main.add_command(reprice)
main.add_command(schema)
main.add_command(assumed)
main.add_command(correct)
main.add_command(usage)
main.add_command(spend)
main.add_command(events)
main.add_command(event)
main.add_command(plans)
main.add_command(models)
main.add_command(webhooks)


def _errors() -> Console:
    return Console(stderr=True, highlight=False)
