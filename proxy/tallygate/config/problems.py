"""The problems of a configuration, reported all at once."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

PROBLEMS_MAX = 100  # beyond it the list counts the rest: a file of the wrong kind has one problem a line


@dataclass(slots=True)
class Problems:
    """Collects problems as "file:line: what is wrong, and the fix", in the order found."""

    lines: list[str] = field(default_factory=list)
    dropped: int = 0

    def add(self, file: str, line: int, text: str, *, path: str = "") -> None:
        """Add a problem. path: of the field at fault, with which `text` begins; for callers that show fields rather than lines."""
        del path
        if len(self.lines) < PROBLEMS_MAX:
            self.lines.append(f"{file}:{line}: {text}")
        else:
            self.dropped += 1

    def __bool__(self) -> bool:
        return bool(self.lines)

    def texts(self) -> tuple[str, ...]:
        if self.dropped:
            return (*self.lines, f"and {self.dropped} more")
        return tuple(self.lines)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: ", did you mean 'window'?" or, failing that, the known words."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f", did you mean {close[0]!r}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known: {shown}" if names else ""
