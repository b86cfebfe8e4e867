"""Options of commands, derived from declared fields."""

from collections.abc import Callable, Iterable

import click

from tallygate.domain.declared import Declared, Flag, Instant, Names, WholeNumber


def options_of(terms: Iterable[Declared], *, is_new: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option for each declared term. is_new: of a command that makes what has them, so that defaults are stated."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        for term in reversed(tuple(terms)):
            command = _option(term, _default(term) if is_new else "")(command)
        return command

    return decorated


def _default(term: Declared) -> str:
    text = "all" if isinstance(term.kind, Names) else term.default
    return f"  [default: {text}]" if text else ""


def _option(term: Declared, default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    kind, name = term.kind, f"--{term.key.replace('_', '-')}"
    about = kind.help + default
    match kind:
        case Flag(option=option):
            return click.option(option, term.key, default=None, help=about)
        case Names(one=one):
            return click.option(f"--{one}", term.key, multiple=True, help=about)
        case WholeNumber():
            return click.option(name, term.key, type=int, help=about)
        case Instant():
            return click.option(name, term.key, metavar="TIME", help=about)
        case _:
            return click.option(name, term.key, help=about)
