"""The names of members that a dialect reads, and a guard against the same names in another spelling.

Some servers ignore the case of keys (Go's encoding/json, .NET, Jackson if so configured), and protobuf's JSON mapping accepts both
`max_tokens` and `maxTokens`. They must read the same members that are priced, so a body with such a name is refused.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from tallygate.dialects.body import ParsedBody
from tallygate.dialects.references import DATA, REFERENCE_NAMES, folded, is_call
from tallygate.domain.errors import RequestRejectedError

# Members whose objects have keys of the client's choice, but values that may be read.
_NAMED_BY_CLIENT: Final = frozenset({"variables", "logit_bias", "headers", "chat_template_kwargs"})
_NAMES_REMEMBERED_MAX: Final = 4096
_SHOWN_CHARS_MAX: Final = 100
KEY_BYTES_MAX: Final = 256  # a longer key is no spelling of a name, and is not cached


class Vocabulary:
    """The names that one dialect acts on, at any depth."""

    __slots__ = ("_by_fold", "_keys")

    def __init__(self, names: Iterable[str]) -> None:
        known = REFERENCE_NAMES.union(names)
        self._keys = frozenset(f'"{name}":'.encode() for name in known)
        self._by_fold = {folded(name): name for name in known} | {folded(name): name for name in names}

    def check(self, body: ParsedBody[Any]) -> None:
        """Refuse a name, outside of data, that differs from one of these only in its spelling. Raises RequestRejectedError.

        Bodies without such a name, which are nearly all, are not walked.
        """
        by_fold = self._by_fold
        strange = body.keys_anywhere - self._keys
        if any(len(key) <= KEY_BYTES_MAX and folded_key(key) in by_fold for key in strange):
            self._walk(body.decoded(), "")

    def _walk(self, value: object, path: str) -> None:
        path = path[:_SHOWN_CHARS_MAX]  # a long key would be copied for each name below it
        if isinstance(value, list):
            for index, each in enumerate(value):
                if isinstance(each, (dict, list)):
                    self._walk(each, f"{path}[{index}]")
        elif isinstance(value, dict):
            is_element = path.endswith("]")
            for name, inner in value.items():
                place = f"{path}.{name}" if path else name
                self._check(name, place)
                if isinstance(inner, (dict, list)) and name not in DATA and not (name == "input" and is_element and is_call(value)):
                    if name in _NAMED_BY_CLIENT and isinstance(inner, dict):
                        for key, named in inner.items():
                            self._walk(named, f"{place}.{key}")
                    else:
                        self._walk(inner, place)

    def _check(self, name: str, place: str) -> None:
        known = self._by_fold.get(folded(name))
        if known is not None and f'"{name}":'.encode(errors="surrogatepass") not in self._keys:
            shown = place[:_SHOWN_CHARS_MAX]
            raise RequestRejectedError(
                f"Unknown member '{shown}': some servers would read it as '{known}'. Spell it so, or leave it out.", param=shown
            )


@lru_cache(_NAMES_REMEMBERED_MAX)
def folded_key(key: bytes) -> str:
    """Fold a key in the form of `ParsedBody.keys`."""
    try:
        return folded(msgspec.json.decode(key[:-1], type=str))
    except msgspec.DecodeError:
        return ""
