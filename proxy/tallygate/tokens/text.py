"""Counting the tokens of texts of any size and content, in time that grows with their length alone."""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

import tiktoken

SLICE_CHARS: Final = 32_768  # a text is encoded in slices: tiktoken's regex overflows its stack on about a million blanks
EXACT_CHARS_MAX: Final = 4_000_000  # beyond it, the rest of a text is extrapolated from its beginning
_SEAM_CHARS: Final = 512  # distance from a slice's end within which a seam is searched
_SEAM: Final = re.compile(r"(?<=\S) ")


def slices(text: str, size: int = SLICE_CHARS) -> Iterator[str]:
    """`text` in pieces of at most `size` characters whose counts add up to the count of the whole.

    A piece ends before a blank that follows a visible character: no split pattern lets a token cross that point, so the sum is
    exact. Without such a place, as in a long run without blanks, the cut falls anywhere and may change the count by one token.
    """
    start, length = 0, len(text)
    while length - start > size:
        end = start + size
        seam = None
        # the window must include the character after the last cut's blank, so that each piece has at least one
        for seam in _SEAM.finditer(text, max(start + 1, end - _SEAM_CHARS), end):  # noqa: B007 - the last one counts
            pass
        cut = end if seam is None else seam.start()
        yield text[start:cut]
        start = cut
    yield text[start:]


def count(text: str, encoding: tiktoken.Encoding) -> int:
    """Count `text`. Special tokens count as plain text, and a lone surrogate as U+FFFD. Never raises."""
    if len(text) <= SLICE_CHARS:
        return len(encoding.encode_ordinary(text))
    counting = count_in_steps(text, encoding)
    while True:
        try:
            next(counting)
        except StopIteration as end:
            tokens: int = end.value
            return tokens


def count_in_steps(text: str, encoding: tiktoken.Encoding) -> Generator[None, None, int]:
    """Count as `count` does, with a pause after every slice of a long text."""
    length = len(text)
    if length <= SLICE_CHARS:
        return len(encoding.encode_ordinary(text))
    counted = 0
    for piece in slices(text[:EXACT_CHARS_MAX]):
        counted += len(encoding.encode_ordinary(piece))
        yield
    return counted if length <= EXACT_CHARS_MAX else -(-counted * length // EXACT_CHARS_MAX)


def count_all(
    texts: Sequence[str], encoding: tiktoken.Encoding, form: Callable[[str], str] = str
) -> Generator[None, None, list[int]]:
    """The count of each text in the form that the model reads, with a pause after every slice, or as much of short texts."""
    counts = []
    chars = 0
    for text in texts:
        counts.append((yield from count_in_steps(form(text), encoding)))
        chars += len(text)
        if chars >= SLICE_CHARS:
            chars = 0
            yield
    return counts


def upper_bound(text: str) -> int:
    """An upper bound for any byte-level tokenizer: one token for each byte of UTF-8, computed without encoding `text`."""
    return len(text) if text.isascii() else 4 * len(text)
