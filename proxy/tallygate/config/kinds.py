"""Kinds of fields that only files have, beside those of `domain/declared.py`: how each is given. `declared.py` reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tallygate.config.section import EMPTY
from tallygate.domain.declared import NAMES_MAX, Declared, Kind


@dataclass(frozen=True, slots=True)
class Identifier(Kind):
    """An id of ours; "" if none is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Kind):
    """Text that `parse` accepts, which raises ValueError. pattern: of every text that it accepts; example: one of them."""

    parse: Callable[[str], Any]
    pattern: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decimal(Kind):
    """A quoted decimal that `parse` accepts, so that it stays exact: a ratio, a percentage, USD."""

    parse: Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Kind):
    """A list of texts that `parse` accepts, as a tuple; the default if none is given.

    items_max   how many
    empty       the problem of an empty list; "": there is none
    options     the only words that `parse` accepts
    """

    parse: Callable[[str], str]
    items_max: int = NAMES_MAX
    empty: str = EMPTY
    pattern: str = ""
    options: tuple[str, ...] = ()


def declare(name: str, kind: Kind, default: Any = "", *, is_required: bool = False) -> Declared:
    """The declaration of a key that is no field of a dataclass by itself."""
    return Declared(attribute=name, key=name, kind=kind, default=default, is_required=is_required)
