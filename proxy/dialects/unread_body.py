"""What a JSON body that no dialect reads refers to."""

from typing import Final

import msgspec

from proxy.dialects.body import read_body
from proxy.dialects.references import item_reference, stored_references
from proxy.dialects.vocabulary import Vocabulary
from proxy.domain.stored_object import StoredReference

_ANYTHING: Final = msgspec.json.Decoder()
_VOCABULARY: Final = Vocabulary(())


def references_of_any(body: bytes) -> tuple[StoredReference, ...]:
    """The references of the body; those of a list of `input` as a response reads it. Raises RequestRejectedError.

    A key that is the name of one in another spelling is refused: some servers read it as that.
    """
    read = read_body(body, _ANYTHING)
    _VOCABULARY.check(read)
    whole = read.asked
    given = whole.get("input") if isinstance(whole, dict) else None
    items = [item_reference(item) for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    return tuple(dict.fromkeys((*stored_references(whole), *(item for item in items if item is not None))))
