"""Options of commands, derived from declared fields."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import click

from tallygate.domain.declared import Declared, Flag, Instant, Names, WholeNumber


def options_of(fields: Iterable[Declared], *, is_new: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for each declared field. is_new: for a command that creates an entry, so that help states the defaults."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        for declared in reversed(tuple(fields)):
            command = _option(declared, _default(declared) if is_new else "")(command)
        return command

    return decorated


def _default(declared: Declared) -> str:
    text = "all" if isinstance(declared.kind, Names) else declared.default
    return f"  [default: {text}]" if text else ""


def _option(declared: Declared, default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    kind, name = declared.kind, f"--{declared.key.replace('_', '-')}"
    about = kind.help + default
    match kind:
        case Flag(option=option):
            return click.option(option, declared.key, default=None, help=about)
        case Names(one=one):
            return click.option(f"--{one}", declared.key, multiple=True, help=f"{kind.help} Repeatable.{default}")
        case WholeNumber():
            return click.option(name, declared.key, type=int, help=about)
        case Instant():
            return click.option(name, declared.key, metavar="TIME", help=about)
        case _:
            return click.option(name, declared.key, help=about)


def parsed_fields(text: str | None) -> dict[str, Any]:
    """Parse --fields: a JSON object with keys as in organizations.yaml."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter("must be a JSON object, such as '{\"rate_limits\": []}'", param_hint="--fields")
    return found
