"""The settings of a command: its own, and where nothing is given, those of the `serve` that runs on the data directory."""

import os
from collections.abc import Mapping
from typing import Final

import click
from pydantic import SecretStr

from tallygate.commands.settings_options import print_error, warn_of_secrets
from tallygate.config.settings import URL_VARIABLE, Settings, flag_name, load_settings, variable_name
from tallygate.processes.running_settings import STORES, RunningSettings, read_running_settings
from tallygate.processes.valkey import running_url

_COMPARED: Final = {"config_dir": "the configuration", "database_url": "the database", "redis_url": "the Redis"}


def chosen_settings(flags: Mapping[str, object], *, uses_stores: bool = True, writes: bool = False) -> Settings:
    """The settings from flags, variables and `.env`, completed by those that serve, or served last, on the data directory.

    What is taken from there is stated on standard error, and so is what differs from there.

    uses_stores  whether the command needs the addresses of database and Redis
    writes       whether it changes the directory or the ledger: where nothing serves, that is stated too

    Raises ConfigError.
    """
    if uses_stores and os.environ.get(URL_VARIABLE):
        command = click.get_current_context().command_path
        raise click.UsageError(f"`{command}` works where serve runs, not over a console: unset {URL_VARIABLE}")
    warn_of_secrets(flags)
    settings = load_settings(flags)
    running = read_running_settings(settings.data_dir)
    if running is None:
        if writes and "database_url" not in settings.model_fields_set:
            _note(f"nothing serves from {settings.data_dir}: what is changed holds for a `tallygate serve` with this --data-dir")
        return _with_embedded_store(settings, uses_stores=uses_stores)
    given = settings.model_fields_set
    taken = {name for name in running.given if name not in given and (uses_stores or name not in STORES)}
    completed = load_settings({**flags, **{name: running.value(name) for name in taken}})
    _state(running, completed, given, uses_stores=uses_stores)
    return _with_embedded_store(completed, uses_stores=uses_stores and running.is_running)


def _with_embedded_store(settings: Settings, *, uses_stores: bool) -> Settings:
    """The settings, with the address of the embedded store that runs on the data directory if no Redis is given."""
    if not uses_stores or settings.redis_url.get_secret_value():
        return settings
    return settings.model_copy(update={"redis_url": SecretStr(running_url(settings.data_dir / "valkey") or "")})


def _state(running: RunningSettings, settings: Settings, given: set[str], *, uses_stores: bool) -> None:
    compared = [name for name in _COMPARED if uses_stores or name not in STORES]
    does = f"tallygate {running.role} {'runs' if running.is_running else 'last ran'}"
    for name in compared:
        if running.is_running and name in given and running.differs(name, getattr(settings, name)):
            at = running.gateway_url or running.console_url
            theirs = running.given.get(name) or {"config_dir": "the shipped configuration"}.get(name, "that of its data directory")
            print_error(
                "warning",
                f"{_COMPARED[name]} of this command is not that of the tallygate {running.role} at {at}, which uses {theirs}: "
                f"leave {flag_name(name)} and {variable_name(name)} out to use the same",
                color="yellow",
            )
    if "config_dir" not in given:
        where = [running.given.get("config_dir", "the shipped configuration")]
        if uses_stores and "database_url" not in given and "database_url" in running.given:
            where.append(f"database {running.given['database_url']}")
        _note(f"with {', '.join(where)}, as {does} on {settings.data_dir}")


def _note(text: str) -> None:
    print_error("note", text, color="dim")
