"""The members of a request's body that a dialect acts on, declared once by a Struct, and what is refused beside them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Generic, TypeVar

import msgspec

from tallygate.dialects.body import ENTRIES_MAX, ParsedBody, keys_of, parse_body
from tallygate.dialects.other_api_fields import OtherApiFields
from tallygate.dialects.prompt_parts import PromptParts
from tallygate.dialects.vocabulary import Vocabulary

Fields = TypeVar("Fields", bound=msgspec.Struct)


class RequestMembers(Generic[Fields]):
    """Reads bodies of one API.

    shape     the members acted on
    inside    names of members of inner objects that decide how a part is read
    own       other APIs' fields for the maximum and the model that are let through: as a rule those that are acted on
    has_names_of_callers   its inner objects have names of the callers' choice, which may be spelled as they like
    """

    __slots__ = ("_decoder", "_has_names_of_callers", "_keys", "_other_api_fields", "_vocabulary", "names")

    def __init__(
        self,
        shape: type[Fields],
        *,
        inside: Iterable[str] = (),
        own: Iterable[str] | None = None,
        has_names_of_callers: bool = False,
    ) -> None:
        self.names = frozenset(shape.__struct_fields__)
        self._keys = keys_of(self.names)
        self._decoder = msgspec.json.Decoder(shape)
        self._vocabulary = Vocabulary((*self.names, *inside))
        self._other_api_fields = OtherApiFields(self.names if own is None else own)
        self._has_names_of_callers = has_names_of_callers

    def parse(self, body: bytes, *, entries_max: int = ENTRIES_MAX) -> ParsedBody[Fields]:
        """Decode a body. Raises RequestRejectedError, as it does for other spellings of these names and for other APIs' fields."""
        parsed = parse_body(body, self._decoder, entries_max=entries_max)
        self._vocabulary.check(replace(parsed, keys_anywhere=parsed.keys) if self._has_names_of_callers else parsed)
        self._other_api_fields.check(parsed.keys)
        return parsed

    def decode(self, body: bytes) -> Fields:
        """Decode a body that was parsed before."""
        return self._decoder.decode(body)

    def all_if_unknown(self, parsed: ParsedBody[Fields]) -> dict[str, Any]:
        """Return all members if there are any that are not acted on, else none."""
        return parsed.decoded_if_unknown(self._keys)

    def add_unknown(self, parsed: ParsedBody[Fields], parts: PromptParts) -> None:
        """Add the text of the members that are not acted on: they may still reach the model."""
        parts.add_unknown_members(self.all_if_unknown(parsed), self.names, is_request=True)
