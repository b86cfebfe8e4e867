"""Common parts of response meters: how a body is taken apart, and its bounds. Dialects add what the pieces mean."""

import re
from typing import Final

from tallygate.dialects.cut_json import closed_json
from tallygate.dialects.dialect import MeterReading
from tallygate.dialects.json_objects import JsonObjects
from tallygate.dialects.sse import EVENT_BYTES_MAX, SseEvent, SseParser

JSON_BYTES_MAX: Final = 16 * 1024 * 1024  # of a JSON answer; of a longer one, only the tail is searched for the usage object
JSON_TAIL_BYTES: Final = 64 * 1024
OBJECTS_MAX: Final = 10_000  # in a row or in an array, of a body that should be one; of more, the first are read
_PIECE_BYTES: Final = 65_536
TEXT_CHARS_MAX: Final = 4 * 1024 * 1024  # of generated text that is not counted yet; more text is dropped and flagged

EVENT_GIVEN_UP: Final = "event_too_large"
EVENT_UNREADABLE: Final = "event_unreadable"
BODY_TOO_LARGE: Final = "body_too_large"
BODY_UNREADABLE: Final = "body_unreadable"
TEXT_DROPPED: Final = "text_dropped"


def add_text(reading: MeterReading, text: object) -> None:
    """Keep generated text; anything but a string is ignored."""
    if not isinstance(text, str) or not text:
        return
    if reading.text_chars + len(text) > TEXT_CHARS_MAX:
        reading.flags.add(TEXT_DROPPED)
        return
    reading.has_text_after_usage = True
    reading.text.append(text)
    reading.text_chars += len(text)


class UnreadMeter:
    """Relays a body that is not the dialect's, and reports only its length."""

    __slots__ = ("reading",)

    def __init__(self) -> None:
        self.reading = MeterReading()

    def feed(self, data: bytes) -> bytes:
        self.reading.unread_bytes += len(data)
        return data

    def end_body(self) -> bytes:
        return b""


class NoMeter:
    """Relays an answer without metering it. It has no state, so one instance serves all."""

    __slots__ = ("reading",)

    def __init__(self) -> None:
        self.reading = MeterReading(is_unread=True)

    def feed(self, data: bytes) -> bytes:
        return data

    def end_body(self) -> bytes:
        return b""


NO_METER: Final = NoMeter()


class EventStreamMeter:
    """Reads an event stream. A dialect overrides `_read` and, if the end of the stream has a meaning, `_settle`.

    Without hiding, bytes are relayed as they come. With hiding, only whole events are, and the unfinished one is held back.
    """

    __slots__ = ("_hides", "_parser", "reading")

    def __init__(self, *, hides: bool = False, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.reading = MeterReading(is_events=True)
        self._hides = hides
        self._parser = SseParser(event_bytes_max=event_bytes_max)

    def feed(self, data: bytes) -> bytes:
        events = self._parser.feed(data)
        if self._hides:
            return b"".join([self._meter_event(event) for event in events])
        for event in events:
            self._meter_event(event)
        return data

    def end_body(self) -> bytes:
        self.reading.ends_inside = self._parser.pending_bytes > 0
        shown = b"".join([self._meter_event(event) for event in self._parser.end_stream()])
        self._settle()
        return shown if self._hides else b""

    def _meter_event(self, event: SseEvent) -> bytes:
        """Read one event; return its bytes for the client, which matter only if the meter hides."""
        if event.given_up:
            self.reading.flags.add(EVENT_GIVEN_UP)
        elif event.data:
            return self._read(event)
        return event.raw

    def _read(self, event: SseEvent) -> bytes:
        """Read an event that has data; return the bytes to send to the client."""
        raise NotImplementedError

    def _settle(self) -> None:
        """Complete the reading at the end of the stream."""


class JsonMeter:
    """Reads a JSON body once it is whole. A dialect overrides `_read` and names its usage member.

    Past json_bytes_max only the tail is kept, and `_read_usage` gets the usage object found in it, if any: embeddings end with it.
    Of a body that broke off, what had come is read: its text, and its usage if that had come whole. Of several objects, one a line
    or in an array, each is.
    """

    __slots__ = ("_body", "_bytes", "_json_bytes_max", "reading")

    usage_member: bytes = b"usage"

    def __init__(self, *, json_bytes_max: int = JSON_BYTES_MAX) -> None:
        self.reading = MeterReading()
        self._body = bytearray()
        self._bytes = 0
        self._json_bytes_max = json_bytes_max

    def feed(self, data: bytes) -> bytes:
        self._bytes += len(data)
        self._body += data
        if self._bytes > self._json_bytes_max and len(self._body) > 2 * JSON_TAIL_BYTES:
            del self._body[:-JSON_TAIL_BYTES]
        return data

    def end_body(self) -> bytes:
        body, self._body = bytes(self._body), bytearray()
        if self._bytes > self._json_bytes_max:
            self.reading.flags.add(BODY_TOO_LARGE)
            self._read_usage(self._usage_in_tail(body[-JSON_TAIL_BYTES:]))
        elif body and not self._read(body) and not self._read_several(body):
            self.reading.flags.add(BODY_UNREADABLE)
            self._read_cut(body)
        self.reading.has_text_after_usage = False  # its usage covers the whole answer, wherever it is
        return b""

    def _read_several(self, body: bytes) -> bool:
        """Read the objects of a body that is not one of them; False where there is none that can be read, or another was cut."""
        objects = JsonObjects(object_bytes_max=self._json_bytes_max)
        count = 0
        is_any_read = False
        for start in range(0, len(body), _PIECE_BYTES):
            for each in objects.feed(body[start : start + _PIECE_BYTES]):
                is_any_read |= self._read(each)
                count += 1
            if count > OBJECTS_MAX:
                break
        is_whole = is_any_read and count <= OBJECTS_MAX and objects.is_closed and not objects.is_inside
        self.reading.ended = is_whole
        return is_whole

    def _read_cut(self, body: bytes) -> None:
        closed = closed_json(body)
        if closed is None:
            return
        self._read(closed.text)
        self.reading.ended = False
        if closed.open_member == self.usage_member:
            self.reading.usage = None

    def _usage_in_tail(self, tail: bytes) -> bytes:
        """The last usage object in the tail, wrapped as the only member of an object; empty if there is none."""
        found: bytes = b""
        for match in re.finditer(rb'"' + self.usage_member + rb'"\s*:\s*(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})', tail):
            found = match[0]
        return b"{" + found + b"}" if found else b""

    def _read(self, body: bytes) -> bool:
        """Read a whole body; False if it cannot be read."""
        raise NotImplementedError

    def _read_usage(self, body: bytes) -> None:
        """Read an object with only the usage member; `body` is empty if no usage was found."""
        if body:
            self._read(body)
            self.reading.ended = False
