"""A chunk that repeats one before it in everything but its text, which is what most of a stream is.

A provider states id, model and the rest again in each chunk. So once one has been decoded, the next ones are compared with it, and
their text is cut out. Nothing is taken for a repetition that the decoder might read otherwise: the two places that may differ are
tried with other texts when the pattern is made, and a text with anything but plain characters is left to the decoder.
"""

import string
from collections.abc import Callable
from typing import Final, Self

PIECE_BYTES_MAX: Final = 64 * 1024
# Padding of varying length is against those who listen for the size of what is said: a member at OpenAI, blanks at Anthropic.
_PADDING: Final = b'"obfuscation":"'
_IN_PADDING: Final = (string.ascii_letters + string.digits).encode()
_BLANK: Final = b" "
_END: Final = b"}\n\n"
# Numbers: CPython looks for one byte at once, and for bytes only after failing to take them for a number.
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_TRIED: Final = (("a", 0), ("other words", 3))  # texts, and bytes of padding


class RepeatedChunk:
    """The bytes around the text of an event, and around its padding."""

    __slots__ = ("_end", "_fillers", "_head", "_is_shown_whole", "_middle", "_shown_middle")

    def __init__(self, head: bytes, middle: bytes, shown_middle: bytes, end: bytes, fillers: bytes) -> None:
        """shown_middle: the middle as the client gets it; fillers: the bytes of which the padding behind it is made."""
        self._is_shown_whole = shown_middle == middle
        self._head = head
        self._middle = middle
        self._shown_middle = shown_middle
        self._end = end
        self._fillers = fillers

    @classmethod
    def of(
        cls, event: bytes, *, opening: bytes, text_of: Callable[[bytes], str | None], shown: Callable[[bytes], bytes] = bytes
    ) -> Self | None:
        """The pattern of a whole event; None if it has none.

        opening   what stands in front of the text, its quote included
        text_of   what the decoder reads of an event; None where it does not take it for the same kind
        shown     the event as the client gets it
        """
        start = event.find(opening) + len(opening)
        stop = event.find(b'"', start)
        if start < len(opening) or stop < start or not event.endswith(_END):
            return None
        padding = event.find(_PADDING, stop)
        if padding >= 0:
            padding += len(_PADDING)
            middle, end, fillers = event[stop:padding], event[event.find(b'"', padding) :], _IN_PADDING
        else:
            middle, end, fillers = event[stop : -len(_END)].rstrip(_BLANK), _END, _BLANK
        head = event[:start]
        if b"\\" in head + middle + end:
            return None
        shown_middles = set()
        for text, size in _TRIED:
            before, after = head + text.encode(), fillers[:1] * size + end
            tried = before + middle + after
            seen = shown(tried)
            if text_of(tried) != text or not (seen.startswith(before) and seen.endswith(after)):
                return None
            shown_middles.add(seen[len(before) : len(seen) - len(after)])
        return cls(head, middle, shown_middles.pop(), end, fillers) if len(shown_middles) == 1 else None

    def begins(self, event: bytes) -> bool:
        """Return whether an event is like this one up to its text."""
        return event.startswith(self._head)

    def read(self, event: bytes) -> tuple[str, bytes] | None:
        """The text of an event that repeats this one, and the event as the client gets it; None for any other."""
        head, middle = self._head, self._middle
        if not event.startswith(head) or len(event) > PIECE_BYTES_MAX:
            return None
        start = len(head)
        stop = event.find(middle, start)
        if stop < 0:
            return None
        content, after, end = event[start:stop], event[stop + len(middle) :], self._end
        if after != end and (not after.endswith(end) or after[: -len(end)].strip(self._fillers)):
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
