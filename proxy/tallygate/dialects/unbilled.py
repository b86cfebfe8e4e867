"""The meter of endpoints that the provider does not bill, such as token counting."""

from tallygate.dialects.dialect import MeterReading
from tallygate.dialects.json_objects import JsonObjects
from tallygate.domain.usage import NO_USAGE


class UnbilledMeter:
    """Relays a JSON answer that uses no tokens, and notes whether it is complete."""

    __slots__ = ("_objects", "reading")

    def __init__(self) -> None:
        self.reading = MeterReading(usage=NO_USAGE)
        self._objects = JsonObjects(object_bytes_max=0)  # only the end of the body matters

    def feed(self, data: bytes) -> bytes:
        self._objects.feed(data)
        self.reading.ended = self._objects.is_closed
        return data

    def end_body(self) -> bytes:
        return b""
