"""Traces of keys to the gateway in texts that would go upstream: of the caller's own, or of any that tallygate issued."""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import unquote_to_bytes

from multidict import MultiMapping

from tallygate.gateway.callers.keys import KEY_HEADERS

# `tg_<client id>_<secret>` of callers (config/directory.py), and `tga_...`, `tgs_...` and `tgl_...` of the console: whole or cut,
# wherever they stand in the text.
_ISSUED: Final = re.compile(rb"(?:tg_[A-Za-z0-9._-]{1,64}_|tg[asl]_)[A-Za-z0-9]{8}")
_ISSUED_MARK: Final = b"tg"
_PERCENT: Final = ord("%")  # as a number: CPython looks for one byte at once, and for bytes only after failing to take them for one
_CHARS_MIN: Final = 8  # a shorter word of the caller's may stand in any text by chance
_SCHEMES: Final = frozenset({b"bearer", b"basic", b"token", b"key", b"apikey"})


def key_words(value: bytes) -> list[bytes]:
    """The key in a key header's value: `Bearer <key>` or the key alone."""
    return [word for word in value.split() if word.lower() not in _SCHEMES]


def presented_keys(headers: MultiMapping[str], query_key: str = "") -> list[bytes]:
    """The words of a request's key headers, and the key in its `?key=`."""
    values = [value for name in KEY_HEADERS for value in headers.getall(name, ())]
    found = [word for value in values for word in key_words(value.encode("utf-8", "surrogateescape"))]
    return [*found, query_key.encode("utf-8", "surrogateescape")] if query_key else found


def may_give_away(values: bytes, presented: Collection[bytes]) -> bool:
    """Return whether any of the values, joined in one text, may contain a key: a quick check, which usually fails."""
    if _PERCENT in values or values.find(_ISSUED_MARK) >= 0:
        return True
    for key in presented:  # noqa: SIM110 - at each request: any() takes three times as long
        if values.find(key) >= 0:
            return True
    return False


def gives_away(value: bytes, presented: Collection[bytes]) -> bool:
    """Return whether a key stands in a value, percent-encoded or not. presented: the words of the caller's own key headers."""
    if b"%" in value and gives_away(unquote_to_bytes(value).replace(b"%", b""), presented):
        return True
    if _ISSUED_MARK in value and _ISSUED.search(value) is not None:
        return True
    return any(key == value or (len(key) >= _CHARS_MIN and key in value) for key in presented)
