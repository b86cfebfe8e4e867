"""Declarations of fields as the API's document states them: keys of bodies and answers, and members of lines.

A body or an answer of the admin API has the keys of YAML. A line, as the usage API lists credentials, has attributes with units:
`is_shadow`, `window_seconds`, `limit` in USD and nano-USD.
"""

import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NotRequired, TypedDict, TypeVar

import msgspec

from tallygate.console.api_spend import Money, money
from tallygate.domain.declared import (
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

_JSON_TYPES: Final[Mapping[type[Kind], Any]] = {
    Text: str,
    Flag: bool,
    Usd: str,
    Duration: str,
    Days: int,
    Thousandths: list[float],
    Instant: str,
    TimeZone: str,
    CapabilitySet: list[str],
    ModelPatterns: list[str],
}
_SECOND_MS: Final = 1_000
_Shape = TypeVar("_Shape", bound=type)


def with_keys_of(
    *variants: Sequence[Declared], is_given: bool, is_nullable: bool = True, by: str = "key"
) -> Callable[[_Shape], _Shape]:
    """Give a TypedDict a key for each declared field. A key that one of several variants lacks may be missing.

    is_given      in a body, where each may be left out; is_nullable: or be null, which takes it away
    by            `attribute`, where an answer names each so
    """
    keys: dict[str, Any] = {}
    for key, (declared, is_in_all) in _named(variants, lambda each: str(getattr(each, by))).items():
        may_be_null = is_nullable if is_given else _may_be_none(declared)
        described = _described(declared, _json_type(declared.kind), may_be_null=may_be_null)
        keys[key] = described if is_in_all and not is_given else NotRequired[described]

    def extended(shape: _Shape) -> Any:
        body = {"__annotations__": keys, "__doc__": shape.__doc__, "__module__": shape.__module__}
        return types.new_class(shape.__name__, (shape, TypedDict), {}, lambda namespace: namespace.update(body))

    return extended


def with_members_of(*variants: Sequence[Declared]) -> Callable[[_Shape], _Shape]:
    """Give a Struct a member for each declared field, as lines have them. What one of several variants lacks may be null."""
    members: list[tuple[str, Any]] = []
    for name, (declared, is_in_all) in _named(variants, _member).items():
        kind, may_be_null = _json_type(declared.kind), _may_be_none(declared) or not is_in_all
        match declared.kind:
            case Usd():
                kind = Money
            case Duration(step=step, zero=zero):
                kind = float if step % _SECOND_MS else int
                may_be_null = may_be_null or bool(zero)
        members.append((name, _described(declared, kind, may_be_null=may_be_null)))

    def extended(shape: _Shape) -> Any:
        namespace = {"__doc__": shape.__doc__}
        return msgspec.defstruct(
            shape.__name__, members, bases=(shape,), namespace=namespace, module=shape.__module__, frozen=True, kw_only=True
        )

    return extended


def line_values(fields: Iterable[Declared], value: object, *variants: Sequence[Declared]) -> dict[str, Any]:
    """Members of a line. variants: those that it has; members that are of others alone are null."""
    lacking = {_member(declared): None for variant in variants for declared in variant}
    return lacking | {_member(declared): _line_value(declared, getattr(value, declared.attribute)) for declared in fields}


def _member(declared: Declared) -> str:
    match declared.kind:
        case Flag():
            return f"is_{declared.attribute}"
        case Duration():
            return f"{declared.attribute.removesuffix('_ms')}_seconds"
        case _:
            return declared.attribute.removesuffix("_ms").removesuffix("_nano_usd").removesuffix("_permille")


def _line_value(declared: Declared, value: Any) -> Any:
    match declared.kind:
        case Usd():
            return money(value)
        case Duration(step=step):
            return (value / _SECOND_MS if step % _SECOND_MS else value // _SECOND_MS) or None
        case kind:
            return kind.shown(value)


def _named(variants: Sequence[Sequence[Declared]], name: Callable[[Declared], str]) -> dict[str, tuple[Declared, bool]]:
    """The fields by name, each with whether every variant has it."""
    counts = Counter(name(declared) for variant in variants for declared in variant)
    fields = {name(declared): declared for variant in reversed(variants) for declared in reversed(variant)}
    return {key: (declared, counts[key] == len(variants)) for key, declared in reversed(fields.items())}


def _json_type(kind: Kind) -> Any:
    match kind:
        case WholeNumber(least=least, most=most):
            return Annotated[int, msgspec.Meta(ge=least, le=most)]
        case ChoiceOrText(words=words, with_text=with_text):
            return Literal[tuple(words)] | msgspec.defstruct(with_text.title().replace("_", ""), [(with_text, str)])
        case Choice(words=words):
            return Literal[tuple(words)]
        case _:
            return _JSON_TYPES[type(kind)]


def _may_be_none(declared: Declared) -> bool:
    return declared.default is None and not declared.is_required


def _described(declared: Declared, kind: Any, *, may_be_null: bool) -> Any:
    return Annotated[kind | None if may_be_null else kind, msgspec.Meta(description=declared.kind.help)]
