"""Settings as flags of a command, and the reports of wrong ones."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape

from tallygate.config.settings import Settings, flag_name, secrets_on_command_line
from tallygate.domain.errors import ConfigError

EX_CONFIG: Final = 78
Command = Callable[..., None]


def with_settings(fields: Collection[str]) -> Callable[[Command], Command]:
    """Add a flag for each of these fields of Settings, so that no setting lacks its flag."""

    def decorate(command: Command) -> Command:
        for name in reversed(tuple(fields)):
            field = Settings.model_fields[name]
            default = field.get_default()
            shown = "" if not str(default) or default is None or hasattr(default, "get_secret_value") else f"  [default: {default}]"
            command = click.option(
                flag_name(name),
                name,
                envvar=None,
                metavar=_metavar(field.annotation),
                help=f"{field.description}{shown}",
            )(command)
        return command

    return decorate


def store_options(command: Command) -> Command:
    """Add the settings that locate what `serve` has, which may run meanwhile."""
    for option in (
        click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve."),
        click.option("--redis-url", help="As of serve: running processes are told of changes over it."),
        click.option("--database-url", help="As of serve."),
        click.option("--data-dir", type=click.Path(path_type=Path), help="As of serve.  [default: ./tallygate-data]"),
    ):
        command = option(command)
    return command


def _metavar(annotation: Any) -> str:
    if annotation is int:
        return "N"
    return "PATH" if annotation in {Path, Path | None} else "TEXT"


@contextmanager
def friendly() -> Iterator[None]:
    """Print configuration errors as lines, not as a traceback."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            print_error("error", problem, color="red")
        sys.exit(EX_CONFIG)


def warn_of_secrets(flags: Mapping[str, object]) -> None:
    for warning in secrets_on_command_line(flags):
        print_error("warning", warning, color="yellow")


def print_error(kind: str, text: str, *, color: str) -> None:
    Console(stderr=True, highlight=False).print(f"[{color}]{kind}:[/] {escape(text)}", soft_wrap=True)
