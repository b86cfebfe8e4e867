"""Server-sent events, read incrementally from bytes (WHATWG HTML, section 9.2).

Every byte belongs to exactly one event's `raw`, in order, so joining them restores the stream. Everything between two blank lines
is an event, with data or not: a comment, or a lone blank line, is an event with empty data.
"""

import re
from typing import Final

import msgspec

EVENT_BYTES_MAX: Final = 8 * 1024 * 1024  # of one event; a longer event is given up and its bytes are passed through
JOINED_BYTES_MAX: Final = 64 * 1024  # of pending bytes copied on each feed; more are searched in place

_BOM: Final = b"\xef\xbb\xbf"
_LF: Final = 10  # numbers: CPython looks for one byte at once, and for bytes only after failing to take them for a number
_CR: Final = 13
# The end of a line, then a blank line. Atomic, so that CRLF is never read as CR and LF.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_BLANK_LINE_BYTES_MAX: Final = 4
_LINE: Final = re.compile(rb"\r\n|\r|\n")


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event.

    raw        its bytes, the blank line included
    data       its data lines, joined by LF; empty if it has none
    name       its event field; empty if it has none, which browsers call "message"
    given_up   a piece of an event that exceeds the maximum, without data or name
    """

    raw: bytes
    data: bytes = b""
    name: bytes = b""
    given_up: bool = False


class SseParser:
    """Cuts a byte stream into events. Split at any byte, the events are the same (an event given up comes in other pieces).

    A CR that ends the bytes so far may be half of a CRLF: an event that ends in it waits for the next byte. Memory is bounded by
    event_bytes_max plus the bytes of one `feed`.
    """

    __slots__ = ("_buffer", "_event_bytes_max", "_giving_up", "_is_at_start", "_joined_bytes_max", "_searched")

    def __init__(self, *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._event_bytes_max = event_bytes_max
        self._joined_bytes_max = min(event_bytes_max, JOINED_BYTES_MAX)
        self._giving_up = False
        self._is_at_start = True
        self._searched = 0  # the buffer holds no end of an event before this

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished event."""
        return len(self._buffer)

    @property
    def is_between_events(self) -> bool:
        """The next byte begins an event, and it is not the first."""
        return not (self._buffer or self._giving_up or self._is_at_start)

    def lone_data(self, data: bytes) -> bytes | None:
        """The data of the one event that `data` is, if no other is open and it has one data line and nothing else; else None.

        Nothing is taken: what is not read by this goes to `feed`.
        """
        if (
            data[:6] != b"data: "
            or data[-2:] != b"\n\n"
            or data.find(b"\n") != len(data) - 2
            or _CR in data
            or len(data) > self._joined_bytes_max
            or not self.is_between_events
        ):
            return None
        return data[6:-2]

    def feed(self, data: bytes) -> list[SseEvent]:
        """Parse bytes and return the events that they complete."""
        buffer = self._buffer
        if len(buffer) + len(data) <= self._joined_bytes_max and not self._giving_up and not self._is_at_start:
            if data[-4:] == b"\r\n\r\n" and data[:6] == b"data: " and data.find(b"\n") == len(data) - 3 and data.count(b"\r") == 2:
                if not buffer:
                    return [SseEvent(data, data[6:-4])]  # one event, as Gemini sends it
            elif _CR not in (joined := bytes(buffer) + data if buffer else data):
                return self._events_by_lf(joined)
        buffer += data
        return self._events(is_over=False)

    def end_stream(self) -> list[SseEvent]:
        """End the stream: an unfinished event counts as finished (the standard drops it, but a provider may have billed it)."""
        return self._events(is_over=True)

    def _events_by_lf(self, joined: bytes) -> list[SseEvent]:
        """Events of the pending bytes and those just fed, none of which is a CR: the usual case, which needs no search."""
        at = joined.rfind(b"\n\n")
        end = at + 2 if at >= 0 else 0
        self._buffer[:] = joined[end:]
        self._searched = 0
        return _whole_events(joined if end == len(joined) else joined[:end]) if end else []

    def _events(self, *, is_over: bool) -> list[SseEvent]:
        buffer = self._buffer
        events: list[SseEvent] = []
        start = 0
        search = self._searched
        while start < len(buffer):
            end = self._event_end(start, max(start, search), is_over=is_over)
            if end < 0:
                break
            events.append(self._event(bytes(buffer[start:end])))
            self._giving_up = False
            start = search = end
        del buffer[:start]
        if is_over and buffer:
            events.append(self._event(bytes(buffer)))
            buffer.clear()
        elif len(buffer) > _BLANK_LINE_BYTES_MAX and (self._giving_up or len(buffer) > self._event_bytes_max):
            self._giving_up = True
            piece = len(buffer) - _BLANK_LINE_BYTES_MAX  # the blank line may have begun
            events.append(SseEvent(bytes(buffer[:piece]), given_up=True))
            del buffer[:piece]
        self._searched = max(0, len(buffer) - _BLANK_LINE_BYTES_MAX)
        return events

    def _event_end(self, start: int, search: int, *, is_over: bool) -> int:
        """The end of the event at `start`; -1 if it is not known yet."""
        buffer = self._buffer
        if buffer[start] in (_LF, _CR) and not self._giving_up:  # a blank line of its own
            end = start + (2 if buffer[start : start + 2] == b"\r\n" else 1)
        else:
            found = _BLANK_LINE.search(buffer, search)
            if found is None:
                return -1
            end = found.end()
        if end == len(buffer) and buffer[-1] == _CR and not is_over:
            return -1
        return end

    def _event(self, raw: bytes) -> SseEvent:
        is_first, self._is_at_start = self._is_at_start, False
        if self._giving_up or len(raw) > self._event_bytes_max:
            return SseEvent(raw, given_up=True)
        return _parsed(raw, raw.removeprefix(_BOM) if is_first else raw)


def _whole_events(data: bytes) -> list[SseEvent]:
    """Events of bytes that begin and end with an event and have no CR, as providers nearly always send them."""
    size = len(data)
    if data.find(b"\n") == size - 2 and data[:6] == b"data: ":
        return [SseEvent(data, data[6:-2])]
    events: list[SseEvent] = []
    start = 0
    while start < size:
        end = start + 1 if data[start] == _LF else data.find(b"\n\n", start) + 2
        raw = data[start:end]
        start = end
        if raw[:6] == b"data: " and raw.find(b"\n") == len(raw) - 2:
            events.append(SseEvent(raw, raw[6:-2]))
        else:
            events.append(_parsed(raw, raw))
    return events


def _parsed(raw: bytes, text: bytes) -> SseEvent:
    """The event of `raw`; `text` is raw without a byte order mark."""
    data: list[bytes] = []
    name = b""
    for line in _LINE.split(text) if _CR in text else text.split(b"\n"):
        if line[:6] == b"data: ":
            data.append(line[6:])
        elif line[:7] == b"event: ":
            name = line[7:]
        else:
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
    return SseEvent(raw, data[0] if len(data) == 1 else b"\n".join(data), name)
