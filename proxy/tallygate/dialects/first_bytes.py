"""The framing of a response body, by its first bytes: labels are wrong more often than bodies are.

Event streams come as application/json, text/plain or without a type, whole answers as text/plain or octet streams, and either with
a byte order mark or blank lines in front.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec

from tallygate.dialects.dialect import MeterReading, ResponseMeter
from tallygate.dialects.meters import UnreadMeter

_BOM: Final = b"\xef\xbb\xbf"
_BLANKS: Final = b" \t\r\n"
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:")  # WHATWG HTML, section 9.2.6; a comment begins with a colon
_BEGINNINGS: Final = (b"data: ", b"event:")
_MEDIA: Final = ("audio/", "image/", "video/")  # what is labelled so is no text that looks like JSON by chance


class Framing(Enum):
    """The framing of a response body."""

    EVENTS = "events"
    JSON = "json"
    UNREAD = "unread"


_EVENTS, _JSON, _UNREAD = Framing  # read once: a member of an enum takes a call to look up
_NOTHING_READ: Final = MeterReading()  # until there is a meter, which has one of its own


def framing(content_type: str, *, stream: bool) -> Framing:
    """Framing of a body by its media type; without one, by what the request asked for."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return _EVENTS
    if media_type == "application/json" or media_type.endswith("+json"):
        return _JSON
    if media_type:
        return _UNREAD
    return _EVENTS if stream else _JSON


def framing_of(begun: bytes) -> Framing | None:
    """Framing by the first bytes that are not blank: UNREAD where they show none, None where more of them might."""
    first = begun[:1]
    if first in (b"{", b"["):
        return _JSON
    if first == b":" or begun.startswith(_FIELDS):
        return _EVENTS
    if _BOM.startswith(begun) or any(field.startswith(begun) for field in _FIELDS):
        return None
    return _UNREAD


def without_lead(begun: bytes) -> bytes:
    """The bytes behind a byte order mark and blanks."""
    return begun.removeprefix(_BOM).lstrip(_BLANKS)


class FirstBytes(msgspec.Struct, eq=False, dict=True):
    """Implements `ResponseMeter` until the first bytes have come, and then hands on to the one that they choose.

    events, whole   make the meter of an event stream, and of a whole answer in JSON
    unread          makes that of anything else

    That one's `feed`, `end_body` and `reading` replace its own, so that later pieces are fed to it alone. Blanks in front are
    relayed at once, and a byte order mark with them; the first few bytes of a field's name wait for the rest of it.
    """

    content_type: str
    stream: bool
    events: Callable[[], ResponseMeter]
    whole: Callable[[], ResponseMeter]
    unread: Callable[[], ResponseMeter] = UnreadMeter
    reading: MeterReading = msgspec.field(default_factory=lambda: _NOTHING_READ)
    _begun: bytes = b""
    _is_at_start: bool = True

    def feed(self, data: bytes) -> bytes:
        if self._is_at_start and not self._begun:  # nearly always
            if data[:1] == b"{":
                return self._become(_JSON).feed(data)
            if data[:6] in _BEGINNINGS:
                return self._become(_EVENTS).feed(data)
        begun = self._begun + data if self._begun else data
        if not begun:
            return b""
        self._begun = b""
        rest = without_lead(begun) if self._is_at_start else begun.lstrip(_BLANKS)
        lead = begun[: len(begun) - len(rest)]
        self._is_at_start = self._is_at_start and not lead
        found = framing_of(rest) if rest else None
        if found is None:
            self._begun = rest
            return lead
        shown = self._become(found).feed(rest)
        return lead + shown if lead else shown

    def end_body(self) -> bytes:
        begun = self._begun
        meter = self._become(_UNREAD)
        return (meter.feed(begun) if begun else b"") + meter.end_body()

    def _become(self, found: Framing) -> ResponseMeter:
        """Become the meter of the framing that was found; of the label's, where none was. What is labelled as media is unread."""
        if self.content_type.startswith(_MEDIA):
            found = _UNREAD
        elif found is _UNREAD:
            found = framing(self.content_type, stream=self.stream)
        meter = self.events() if found is _EVENTS else self.whole() if found is _JSON else self.unread()
        self.reading = meter.reading
        self.feed, self.end_body = meter.feed, meter.end_body  # type: ignore[method-assign]
        return meter
