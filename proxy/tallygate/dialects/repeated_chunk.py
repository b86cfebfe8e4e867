"""A chunk that repeats one before it in everything but its text, which is what most of a stream is.

A provider states id, model and the rest again in each chunk. So once one has been decoded, the next ones are compared with it, and
their text is cut out. Nothing is taken for a repetition that the decoder might read otherwise: the two places that may differ are
tried with other texts when the pattern is made, and a text with anything but plain characters is left to the decoder.
"""

from collections.abc import Callable
from typing import Final, Self

PIECE_BYTES_MAX: Final = 64 * 1024
_CONTENT: Final = b'"content":"'
_PADDING: Final = b'"obfuscation":"'  # of varying length, against those who listen for the size of what is said (OpenAI's streams)
# Numbers: CPython looks for one byte at once, and for bytes only after failing to take them for a number.
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_TRIED: Final = (("a", b""), ("other words", b"Xy3"))


class RepeatedChunk:
    """The bytes around the text of an event."""

    __slots__ = ("_head", "_is_shown_whole", "_middle", "_padded_end", "_shown_middle")

    def __init__(self, head: bytes, middle: bytes, shown_middle: bytes, padded_end: bytes) -> None:
        """shown_middle: the middle as the client gets it; padded_end: what follows the padding, empty where there is none."""
        self._is_shown_whole = shown_middle == middle
        self._head = head
        self._middle = middle
        self._shown_middle = shown_middle
        self._padded_end = padded_end

    @classmethod
    def of(cls, event: bytes, text_of: Callable[[bytes], str | None], shown: Callable[[bytes], bytes]) -> Self | None:
        """The pattern of a whole event; None if it has none.

        text_of   what the decoder reads of an event; None where it does not take it for the same kind
        shown     the event as the client gets it
        """
        start = event.find(_CONTENT) + len(_CONTENT)
        end = event.find(b'"', start)
        padding = event.find(_PADDING, end) + len(_PADDING)
        padded_end = b""
        if padding < end:
            padding = len(event)
        else:
            padded_end = event[event.find(b'"', padding) :]
        head, middle = event[:start], event[end:padding]
        if end < start or start < len(_CONTENT) or b"\\" in head + middle + padded_end:
            return None
        shown_middles = set()
        for text, filler in _TRIED:
            before, after = head + text.encode(), (filler if padded_end else b"") + padded_end
            tried = before + middle + after
            seen = shown(tried)
            if text_of(tried) != text or not (seen.startswith(before) and seen.endswith(after)):
                return None
            shown_middles.add(seen[len(before) : len(seen) - len(after)])
        return cls(head, middle, shown_middles.pop(), padded_end) if len(shown_middles) == 1 else None

    def read(self, event: bytes) -> tuple[str, bytes] | None:
        """The text of an event that repeats this one, and the event as the client gets it; None for any other."""
        head, middle = self._head, self._middle
        if not event.startswith(head) or len(event) > PIECE_BYTES_MAX:
            return None
        start = len(head)
        end = event.find(middle, start)
        if end < 0:
            return None
        content, after = event[start:end], event[end + len(middle) :]
        padded_end = self._padded_end
        if after != padded_end:
            filler = after.removesuffix(padded_end) if padded_end else b""
            if not filler.isalnum() or filler + padded_end != after:
                return None
        if _QUOTE in content or _BACKSLASH in content:
            return None
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return None
        if not text.isprintable():
            return None
        return text, event if self._is_shown_whole else head + content + self._shown_middle + after
