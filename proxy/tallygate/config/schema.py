"""JSON Schemas (draft 2020-12) of declared fields, and of mappings that hold them. `schemas.py` has those of whole files."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from tallygate.config.declared import FRACTION
from tallygate.config.kinds import Decimal, Identifier, Parsed, Words
from tallygate.config.secret_file import CHARS_OF_A_PATH_MAX
from tallygate.config.section import DURATION, ID
from tallygate.domain.declared import (
    NAMES_MAX,
    TEXT_CHARS_MAX,
    CapabilitySet,
    Choice,
    ChoiceOrText,
    Days,
    Declared,
    Duration,
    Flag,
    Instant,
    Kind,
    ModelPatterns,
    Text,
    Thousandths,
    TimeZone,
    Usd,
    WholeNumber,
)
from tallygate.domain.model_patterns import MODEL_PATTERN
from tallygate.domain.money import DECIMAL

Schema = dict[str, Any]
IDENTIFIER: Final[Schema] = {"type": ["string", "number", "boolean"], "pattern": f"^{ID.pattern}$"}  # `7` and `no` are ids too
MONEY: Final[Schema] = {"type": "string", "pattern": f"^{DECIMAL.pattern}$"}
_DURATION: Final = DURATION.pattern
_NO_TEXT: Final = {
    "integer": "1",
    "number": "1.5",
    "boolean": "true",
}  # single values that YAML does not call text, and may be a word


def schema_of(field: Declared, capabilities: Collection[str] = ()) -> Schema:
    """The schema of a field's values, with its help and its default. capabilities: some that exist, to be offered."""
    schema = schema_of_kind(field.kind, capabilities)
    if field.default not in (None, "", ()) and not field.is_required:
        shown = field.kind.shown(field.default)
        schema |= {"default": list(shown) if isinstance(shown, tuple) else shown}
    return schema


def schema_of_kind(kind: Kind, capabilities: Collection[str] = ()) -> Schema:
    return described(kind.help, _values_of(kind, capabilities))


def _values_of(kind: Kind, capabilities: Collection[str]) -> Schema:  # one for each kind
    match kind:
        case Text(chars_max=chars_max):
            return text(chars_max)
        case Flag():
            return {"type": "boolean"}
        case WholeNumber(least=least, most=most):
            return {"type": "integer", "minimum": least, "maximum": most}
        case Usd() | Decimal():
            return MONEY
        case Duration(zero=zero):
            return {"type": "string", "pattern": f"^(?:{_DURATION}{f'|{zero}' if zero else ''})$"}
        case Days():
            return {"type": "string", "pattern": f"^(?:{_DURATION}|unlimited)$"}
        case Thousandths(items_max=items_max):
            return listed(
                {
                    "anyOf": [
                        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                        {"type": "string", "pattern": f"^{FRACTION.pattern}$"},
                    ]
                },
                items_max,
            )
        case ChoiceOrText(words=words, with_text=with_text):
            return {"anyOf": [{"enum": list(words)}, mapping({with_text: text()}, required=[with_text])]}
        case Choice(words=words):
            return {"enum": list(words)}
        case TimeZone():
            return {"type": "string", "pattern": "^[A-Za-z0-9_+/-]+$", "examples": ["UTC", "America/New_York", "Europe/Berlin"]}
        case Instant():
            return {"type": "string", "pattern": "^[0-9]{4}-?W?[0-9]{2}", "examples": ["2026-01-31", "2026-01-31T12:00:00Z"]}
        case CapabilitySet(may_be_all_but=may_be_all_but):
            return _capabilities(sorted(capabilities), may_be_all_but=may_be_all_but)
        case Identifier():
            return IDENTIFIER
        case Parsed(pattern=pattern, example=example):
            schema: Schema = {"type": "string", "pattern": pattern}
            return {**schema, "examples": [example]} if example else schema
        case Words():
            return listed(_word(kind), kind.items_max, least=1 if kind.empty else 0)
        case ModelPatterns():
            return listed({"type": ["string", "number", "boolean"], "pattern": f"^{MODEL_PATTERN.pattern}$"}, NAMES_MAX)
    raise TypeError(f"{type(kind).__name__} has no schema")


def _capabilities(known: list[str], *, may_be_all_but: bool) -> Schema:
    name = {"type": ["string", "number", "boolean"], **({"examples": known} if known else {})}
    if not may_be_all_but:
        return listed(name, NAMES_MAX)
    names = listed(name, NAMES_MAX, least=1)
    return {"anyOf": [names, mapping({"except": names}, required=["except"])]}


def _word(kind: Words) -> Schema:
    if kind.options:
        return {"enum": list(kind.options)}
    types = [name for name, word in _NO_TEXT.items() if _accepts(kind.parse, word)]
    schema: Schema = {"type": ["string", *types]} if types else {"type": "string"}
    schema |= {"minimum": 0} if "integer" in types and not _accepts(kind.parse, "-1") else {}
    return {**schema, "pattern": kind.pattern} if kind.pattern else schema


def _accepts(parse: Callable[[str], object], word: str) -> bool:
    try:
        parse(word)
    except ValueError:
        return False
    return True


def text(chars_max: int = TEXT_CHARS_MAX) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": chars_max}


def listed(item: Schema, most: int, *, least: int = 0, description: str = "") -> Schema:
    schema: Schema = {"type": "array", "items": item, "maxItems": most}
    return described(description, {**schema, "minItems": least} if least else schema)


def described(description: str, schema: Schema) -> Schema:
    return {"description": description, **schema} if description else schema


def mapping(properties: Mapping[str, Schema], *, required: Iterable[str] = (), description: str = "", **rules: Any) -> Schema:
    """A mapping that has these keys alone. rules: further keywords."""
    schema: Schema = {"type": "object", "properties": dict(properties)}
    needed = list(required)
    if needed:
        schema["required"] = needed
    return described(description, {**schema, **rules, "additionalProperties": False})


def named(
    value: Schema, *, names: str = f"^{ID.pattern}$", most: int | None = None, least: int = 0, description: str = ""
) -> Schema:
    """A mapping by names of the operator's own. names: the pattern of them; "": any."""
    schema: Schema = {"type": "object", "additionalProperties": value}
    schema |= {"propertyNames": {"pattern": names}} if names else {}
    schema |= {"maxProperties": most} if most is not None else {}
    return described(description, {**schema, "minProperties": least} if least else schema)


def properties_of(fields: Iterable[Declared], capabilities: Collection[str] = ()) -> dict[str, Schema]:
    return {field.key: schema_of(field, capabilities) for field in fields}


def required_of(fields: Iterable[Declared]) -> list[str]:
    return [field.key for field in fields if field.is_required]


def secret(name: str, what: str) -> dict[str, Schema]:
    """The two keys that name a secret."""
    return {
        f"{name}_env": described(f"The variable that holds {what}.", text()),
        f"{name}_file": described(f"A file whose one line is {what}.", text(CHARS_OF_A_PATH_MAX)),
    }


def one_of(*names: str) -> Schema:
    """The rule that exactly one of these keys is given."""
    return {"oneOf": [{"required": [name]} for name in names]}


def at_most_one_of(*names: str) -> Schema:
    return {"not": {"required": list(names)}}
