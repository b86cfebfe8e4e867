"""Counts of texts that come again: system prompts and histories are sent with every request of a conversation."""

from collections import OrderedDict
from hashlib import blake2b
from threading import Lock
from typing import Final

from tallygate.tokens.vocabulary import EncodingName

CHARS_MIN: Final = 256  # a shorter text is counted about as fast as it is looked up
CHARS_MAX: Final = 65_536  # a longer one would take too long to digest on the event loop


class CountMemory:
    """Token counts by digest of the text, at most `size_max`, the least recently used go first. It keeps no text.

    A digest of 128 bits: two texts of one digest do not occur. Safe to use from several threads.
    """

    def __init__(self, size_max: int) -> None:
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._size_max = size_max
        self._lock = Lock()

    def key(self, text: str, name: EncodingName) -> bytes | None:
        """The key of a text; None if it is not worth remembering."""
        if not CHARS_MIN <= len(text) <= CHARS_MAX or not self._size_max:
            return None
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=name.value.encode()).digest()

    def get(self, key: bytes) -> int | None:
        with self._lock:
            count = self._counts.get(key)
            if count is not None:
                self._counts.move_to_end(key)
            return count

    def put(self, key: bytes, count: int) -> None:
        with self._lock:
            self._counts[key] = count
            self._counts.move_to_end(key)
            if len(self._counts) > self._size_max:
                self._counts.popitem(last=False)
