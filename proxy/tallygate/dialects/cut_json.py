"""A JSON object that broke off, made whole again: what was delivered of an answer is generated text, which is not free."""

import re
from typing import Final

import msgspec

# A string stops before an escape that was cut, so that a quote can follow it. Its group is empty where it has no end.
_TOKEN: Final = re.compile(rb'[{}\[\],:]|"(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+("?)', re.DOTALL)
_ENDS: Final = {b"{": b"}", b"[": b"]"}


class ClosedJson(msgspec.Struct, frozen=True):
    """text         JSON: a string ends where it was cut; a key, a number or a word that may have had more to it is left out
    open_member     the top-level member inside which the body broke off; empty if that was beside all of them
    """

    text: bytes
    open_member: bytes


def closed_json(body: bytes) -> ClosedJson | None:
    """`body` with all that is open closed; None if nothing is, so that something else is wrong with it."""
    ends: list[bytes] = []
    kept = 0  # up to here it is valid once the brackets are closed
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
