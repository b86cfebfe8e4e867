"""Lenient parsing of answers. Nothing here raises: an answer that cannot be parsed must still be relayed."""

import json
from typing import Final, TypeVar

import msgspec

NAME_CHARS_MAX: Final = 256  # of a model's name in an answer; the rest is cut

Shape = TypeVar("Shape")


def lenient_decode(data: bytes, decoder: "msgspec.json.Decoder[Shape]") -> Shape | None:
    """Decode `data` as the decoder's type; None if that fails.

    The type should leave every field open (`Any`), so that no odd value hides the others. Lone surrogates, NaN, Infinity and bytes
    that are not UTF-8, which some providers send, are replaced, and a byte order mark or a NUL around it is passed over.
    """
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        text = data.decode(json.detect_encoding(data), errors="replace").strip("\ufeff\0 \t\r\n")
        value = json.loads(text, parse_constant=lambda _: None)
        return decoder.decode(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def name_or_none(value: object) -> str | None:
    """A model's name, None for anything but a string with content."""
    return value[:NAME_CHARS_MAX] if isinstance(value, str) and value else None


def items_of(value: object) -> list[object]:
    """The list itself; empty for anything else."""
    return value if isinstance(value, list) else []


def member(value: object, key: str) -> object:
    """value[key]; None if value is no object or has no such member."""
    return value.get(key) if isinstance(value, dict) else None


def lenient_json_text(value: object) -> str:
    """A decoded value as compact JSON; empty if it is nested too deep to be written."""
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return ""


def is_positive(value: object) -> bool:
    """Return whether a count states something: not absent, zero, or less. What is no number at all states nothing either way."""
    return bool(value) and (not isinstance(value, int | float) or value > 0)
