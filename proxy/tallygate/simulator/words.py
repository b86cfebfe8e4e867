"""The simulated model's text: words of one token each, so that a count of the text equals the number generated."""

from collections.abc import Iterator
from typing import Final

# " " + word is one token in o200k_base and in cl100k_base (a test checks it). Since each begins with a space, no two
# ever merge: n words are n tokens, however they are joined or cut into events.
_TEXT: Final = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were all
her she there would their we him been has when who will no more if out so up said what its about than into them can only other
time new some could these two may first then do any like my now over such our man me even
"""
WORDS: Final = tuple(" " + word for word in _TEXT.split())

# A tool call is its name (one token), these two pieces of JSON (three tokens and one) and words between them.
TOOL_NAME: Final = "search"
TOOL_OPENING: Final = '{"query":"'
TOOL_CLOSING: Final = '"}'
TOOL_FRAME_TOKENS: Final = 5


def words(count: int, start: int = 0) -> Iterator[str]:
    """`count` words, one token each; the same start gives the same words."""
    size = len(WORDS)
    for position in range(start, start + count):
        yield WORDS[position % size]


def text_of(count: int, start: int = 0) -> str:
    """Text of exactly `count` tokens."""
    return "".join(words(count, start))
