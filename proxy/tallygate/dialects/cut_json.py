"""Repair of a JSON object that broke off: the delivered part of an answer is generated text, which is not free."""

import re
from typing import Final

import msgspec

# A string stops before an escape that was cut, so that a quote can follow it. Its group is empty if the string has no end.
_TOKEN: Final = re.compile(rb'[{}\[\],:]|"(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+("?)', re.DOTALL)
_ENDS: Final = {b"{": b"}", b"[": b"]"}


class ClosedJson(msgspec.Struct, frozen=True):
    """A repaired object.

    text            JSON: a string ends where it was cut; a key, a number or a word that may be incomplete is left out
    open_member     the top-level member inside which the body broke off; empty if it broke off between members
    """

    text: bytes
    open_member: bytes


def closed_json(body: bytes) -> ClosedJson | None:
    """Close everything that is open in `body`; None if nothing is open, so that the body is malformed in another way."""
    ends: list[bytes] = []
    kept = 0  # up to here the body is valid once the brackets are closed
    tail = b""
    key = before = b""
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in _ENDS:
            ends.append(_ENDS[mark])
            kept = token.end()
        elif mark == b",":
            kept = token.start()
        elif mark in (b"}", b"]"):
            if not ends or ends.pop() != mark:
                return None
            kept = token.end()
        elif mark == b":":
            pass
        elif ends and (ends[-1] == b"]" or before == b":"):
            kept = token.end()
            tail = b"" if token[1] else b'"'
        elif len(ends) == 1:
            key = mark[1:-1]
        before = mark
    if not ends:
        return None
    return ClosedJson(body[:kept] + tail + b"".join(reversed(ends)), key if len(ends) > 1 else b"")
