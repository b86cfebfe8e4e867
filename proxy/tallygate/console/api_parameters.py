"""Parameters of the console's API: declared once, parsed strictly. Any mistake is a 400 that names the parameter."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final

from multidict import MultiMapping

from tallygate.console.api_errors import invalid_parameter

TEXT_CHARS_MAX: Final = 256  # of one value, unless stated otherwise
VALUES_MAX: Final = 100  # of one parameter that may be repeated


class Place(StrEnum):
    QUERY = "query"
    PATH = "path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter.

    read      parses its text; raises ValueError, which states what it must be
    schema    JSON Schema of one value, for the OpenAPI document
    is_list   may be repeated, also as `name[]`; its values are a tuple, in the order given, each once
    is_set    for a list: values may also be given in one text, separated by commas, and each only once
    default   the value if it is not given
    """

    name: str
    description: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"}, hash=False)
    place: Place = Place.QUERY
    is_required: bool = False
    is_list: bool = False
    is_set: bool = False
    default: Any = None


def read_parameters(declared: Sequence[Parameter], given: Mapping[Place, Mapping[str, str]]) -> dict[str, Any]:
    """Every declared parameter's value. Raises ApiError for one that is wrong, missing, given twice, or not declared."""
    values: dict[str, Any] = {}
    query = given[Place.QUERY]
    names = {name for parameter in declared for name in _names(parameter)}
    for name in query:
        if name not in names:
            raise invalid_parameter(_shown(name), "unknown parameter")
    for parameter in declared:
        texts = _texts(parameter, given[parameter.place])
        if not texts:
            if parameter.is_required:
                raise invalid_parameter(parameter.name, "is required")
            values[parameter.name] = () if parameter.is_list else parameter.default
        elif parameter.is_list:
            values[parameter.name] = _read_list(parameter, texts)
        elif len(texts) > 1:
            raise invalid_parameter(parameter.name, "may be given once")
        else:
            values[parameter.name] = _read(parameter, texts[0])
    return values


def text(name: str, description: str, *, chars_max: int = TEXT_CHARS_MAX, **options: Any) -> Parameter:
    schema = {"type": "string", "minLength": 1, "maxLength": chars_max}
    return Parameter(name=name, description=description, read=partial(_plain_text, chars_max), schema=schema, **options)


def texts(name: str, description: str, **options: Any) -> Parameter:
    return text(name, description, is_list=True, **options)


def integer(name: str, description: str, *, least: int, most: int, **options: Any) -> Parameter:
    def read(value: str) -> int:
        # only ASCII digits: int() also accepts "1_000", " 7" and digits of other scripts
        if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 20 and least <= int(value) <= most):
            raise ValueError(f"must be a whole number between {least} and {most}")
        return int(value)

    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Parameter(name=name, description=description, read=read, schema=schema, **options)


def choice(name: str, description: str, options: Iterable[str], **more: Any) -> Parameter:
    allowed = tuple(options)

    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    schema = {"type": "string", "enum": list(allowed)}
    return Parameter(name=name, description=description, read=read, schema=schema, **more)


def choices(name: str, description: str, options: Iterable[str], **more: Any) -> Parameter:
    return choice(name, description, options, is_list=True, **more)


def _plain_text(chars_max: int, value: str) -> str:
    if not 0 < len(value) <= chars_max:
        raise ValueError(f"must have 1 to {chars_max} characters")
    if "\0" in value or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
        raise ValueError("must be text")
    return value


def _read(parameter: Parameter, value: str) -> Any:
    try:
        return parameter.read(value)
    except ValueError as error:
        raise invalid_parameter(parameter.name, str(error)) from error


def _read_list(parameter: Parameter, texts: Sequence[str]) -> tuple[Any, ...]:
    given = [part for text in texts for part in text.split(",")] if parameter.is_set else texts
    if len(given) > VALUES_MAX:
        raise invalid_parameter(parameter.name, f"at most {VALUES_MAX} values, got {len(given)}")
    values = tuple(dict.fromkeys(_read(parameter, text) for text in given))
    if parameter.is_set and len(values) < len(given):
        raise invalid_parameter(parameter.name, "names one thing twice")
    return values


def _names(parameter: Parameter) -> tuple[str, ...]:
    if parameter.place is not Place.QUERY:
        return ()
    return (parameter.name, f"{parameter.name}[]") if parameter.is_list else (parameter.name,)


def _texts(parameter: Parameter, given: Mapping[str, str]) -> list[str]:
    if isinstance(given, MultiMapping):
        return [value for name in _names(parameter) for value in given.getall(name, ())]
    return [given[parameter.name]] if parameter.name in given else []


def _shown(name: str) -> str:
    """An unknown name in a form that is safe to show."""
    return "".join(char if char.isprintable() else "\ufffd" for char in name[:64])
