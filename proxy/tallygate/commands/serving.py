"""`tallygate serve`, and its separate roles: `gateway`, `console`, `ledger`."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.markup import escape

from tallygate.app.role import Role
from tallygate.commands.ledger_compare import compare
from tallygate.commands.ledger_copies import backup, copy, restore
from tallygate.commands.settings_options import friendly, print_error, warn_of_secrets, with_settings
from tallygate.config.settings import Settings, flag_name, load_settings, misspelt_variables, variable_name
from tallygate.domain.errors import ConfigError

if TYPE_CHECKING:
    from tallygate.processes.serve import Serving

_SIGNALS: Final = """\b
SIGTERM, Ctrl-C   say not ready, serve on for the drain delay, stop accepting, finish what is open, end (twice: end now)
SIGHUP            reload the configuration
\b
Exit codes: 0 ended as asked, 1 could not start, 3 open requests were cut off, 78 the configuration is wrong.

Each flag is also the variable TALLYGATE_<NAME>; a secret may lie in a file named by TALLYGATE_<NAME>_FILE.
"""
_SERVE_HELP: Final = f"""Run everything on one machine: workers on one port, the console, an embedded Valkey if no Redis is given.

{_SIGNALS}"""
_GATEWAY_HELP: Final = f"""Run the gateway alone: workers on one port, and their health and metrics on another.

Any number may run, on many machines, over one Redis and one database, which --redis-url and --database-url must name.
A ledger must run somewhere: until it has opened an empty Redis, /readyz says no.

{_SIGNALS}"""
_CONSOLE_HELP: Final = f"""Run the console alone: usage API, admin API, and the metrics that are alike at every console.

Any number may run, over the Redis and the database of the gateways, which --redis-url and --database-url must name.

{_SIGNALS}"""
_LEDGER_HELP: Final = f"""Run the ledger alone: it writes usage events to the database, rebuilds limits, sends webhooks.

One is enough; several share the work, and each stands in for the others.
--redis-url and --database-url must name the Redis and the database of the gateways.

{_SIGNALS}"""
# Settings of a process that serves no clients.
_APART: Final = (
    "console_listen",
    "redis_url",
    "database_url",
    "data_dir",
    "config_dir",
    "admin_token",
    "metrics_token",
    "console_hosts",
    "console_url",
    "log_level",
    "log_format",
    "store_deadline_ms",
    "drain_delay_seconds",
    "drain_seconds",
)
_ALL: Final = tuple(Settings.model_fields)
_LOG: Final = logging.getLogger(__name__)


def serving_command(
    role: Role, *, help_text: str, short_help: str, fields: Collection[str], commands: Sequence[click.Command] = ()
) -> click.Command:
    """Make the command of a role. fields: the settings for which it has flags. commands: what else goes by its name."""

    @with_settings(fields)
    @click.pass_context
    def command(context: click.Context, /, **flags: str | None) -> None:
        if context.invoked_subcommand is None:
            sys.exit(_run(role, flags))
        if given := [name for name, value in flags.items() if value is not None]:
            raise click.UsageError(f"{flag_name(given[0])} goes behind {context.invoked_subcommand}, which it is a setting of")

    if not commands:
        return click.command(role.value, help=help_text, short_help=short_help)(command)
    return click.group(role.value, help=help_text, short_help=short_help, invoke_without_command=True, commands=commands)(command)


serve: Final = serving_command(
    Role.SERVE,
    help_text=_SERVE_HELP,
    short_help="Run the gateway, its console, and an embedded Valkey if no Redis is given.",
    fields=_ALL,
)
gateway: Final = serving_command(
    Role.GATEWAY, help_text=_GATEWAY_HELP, short_help="Run the gateway alone, for many machines.", fields=_ALL
)
console: Final = serving_command(
    Role.CONSOLE,
    help_text=_CONSOLE_HELP,
    short_help="Run the console alone: usage API, admin API, metrics.",
    fields=(*_APART, "database_read_url"),
)
ledger: Final = serving_command(
    Role.LEDGER,
    help_text=_LEDGER_HELP,
    short_help="Run the ledger alone: it stores what the gateways count; or back it up, copy it, compare it.",
    fields=_APART,
    commands=(backup, restore, compare, copy),
)


def _run(role: Role, flags: Mapping[str, str | None]) -> int:
    signal.signal(signal.SIGHUP, lambda *_: None)  # to reload what is not read yet; until the supervisor listens it would end us

    from tallygate.processes.closed_directory import TooOpenError
    from tallygate.processes.data_directory import DirectoryInUseError
    from tallygate.processes.listener import ListenError
    from tallygate.processes.serve import serve as serve_role
    from tallygate.telemetry.log import start_logging

    with friendly():
        settings = load_settings(flags)
        _refuse_unusable(role, settings)
        warn_of_secrets(flags)
        for warning in (*misspelt_variables(os.environ), *_misspelt_files(settings)):
            print_error("warning", warning, color="yellow")
        start_logging(process="supervisor", level=settings.log_level, clock=time.monotonic, log_format=settings.log_format)
        try:
            return serve_role(role, settings, flags, on_ready=_shown, is_watched=sys.stdout.isatty())
        except (DirectoryInUseError, TooOpenError, ListenError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            path = error.filename2 or error.filename or settings.data_dir  # a write to a full disk names none
            raise click.ClickException(f"{os.fsdecode(path)} cannot be used: {error.strerror or error}") from error


def _refuse_unusable(role: Role, settings: Settings) -> None:
    """Check the settings here, so that problems appear in the terminal rather than in a child's log. Raises ConfigError."""
    from tallygate.app.configuration import config_problems
    from tallygate.app.stores import ledger_problem, store_problems
    from tallygate.processes.data_directory import directory_problem

    problems = list(config_problems(settings, forwards=role.has_workers, sends_webhooks=role.keeps_ledger, signs_in=role.has_api))
    problems[:0] = store_problems(settings)
    if role.shares_stores:
        problems[:0] = _missing_stores(role, settings)
    problem = directory_problem(settings.data_dir) or (None if problems else asyncio.run(ledger_problem(settings)))
    if problem is not None:
        problems.insert(0, problem)
    if problems:
        raise ConfigError(tuple(problems))


def _misspelt_files(settings: Settings) -> tuple[str, ...]:
    from tallygate.config.load import misspelt_files

    return () if settings.config_dir is None else misspelt_files(settings.config_dir)


def _missing_stores(role: Role, settings: Settings) -> list[str]:
    """Report stores that are not set: nobody else would see a store that the role made for itself."""
    needed = {
        "redis_url": "the Redis or Valkey that it shares with the other roles",
        "database_url": "the database that it shares with the other roles",
    }
    return [
        f"{variable_name(field)} must be set for tallygate {role}: {what} (tallygate serve needs none)"
        for field, what in needed.items()
        if not getattr(settings, field).get_secret_value()
    ]


def _shown(serving: "Serving") -> None:
    """Show it where that can be written: a full disk under standard output is no reason not to serve."""
    try:
        _show(serving)
    except OSError as error:
        fix = "" if serving.admin_token is None else "; for another admin token delete admin_token.sha256 and restart"
        _LOG.error("what serves cannot be shown", extra={"fields": {"reason": f"{error.strerror}{fix}"}})


def _show(serving: "Serving") -> None:
    terminal = Console()
    lines = _lines(serving)
    what = {Role.SERVE: "serves", Role.GATEWAY: "gateway serves"}.get(serving.role, f"{serving.role} runs")
    with_workers = f" with {serving.workers} worker{'s' if serving.workers > 1 else ''}" if serving.workers else ""
    terminal.print(f"[bold]tallygate[/] {version('tallygate')} {what}{with_workers}")
    for name, text in lines:
        terminal.print(f"  {name:<9} {escape(text)}", soft_wrap=True)
    if serving.page_url is not None and "#" in serving.page_url:
        terminal.print("  sign in, once and within 10 minutes:")
        terminal.print(f"  [bold]{escape(serving.page_url)}[/]", soft_wrap=True, highlight=False)
    if serving.admin_token is not None:
        terminal.print(f"  admin token, shown this once: [bold]{serving.admin_token}[/]", soft_wrap=True)


def _lines(serving: "Serving") -> list[tuple[str, str]]:
    store = "embedded Valkey" if serving.has_embedded_store else variable_name("redis_url")
    shown = [] if serving.gateway_url is None else [("gateway", serving.gateway_url)]
    if serving.page_url is not None:
        shown.append(("page", serving.page_url.partition("#")[0]))
    return [
        *shown,
        ("metrics", f"{serving.console_url}/metrics"),
        ("health", f"{serving.console_url}/readyz"),
        ("store", f"{store}, data in {serving.data_dir}"),
    ]
