"""Answers that come coded although identity was asked for: relayed as they are, and metered from a bounded copy that is decoded."""

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from tallygate.dialects.dialect import MeterReading, ResponseMeter
from tallygate.dialects.first_bytes import without_lead
from tallygate.domain.errors import Refused
from tallygate.http1.content_codings import ACCEPTED, STACKED_MAX, BodyDecoder

DECODED_BYTES_MAX: Final = 8 << 20  # of one answer; a longer one is charged as if nobody could read it
WAITING_BYTES_MAX: Final = 4 << 20  # of coded bytes that wait for the decoder, which takes a slice for each piece that comes
SLICE_BYTES: Final = 65_536  # decoded and metered at a time: no longer than a piece that comes plain
UNDECODED: Final = "undecoded"  # the flag of an event whose answer could not be decoded

# No coding begins so: the label is wrong.
_PLAIN: Final = re.compile(rb'(?:\[\s*)?\{\s*["}]|(?:data|event|id|retry):')
_PLAIN_BYTES: Final = 32  # in which that shows, indented or not


class CodedMeter:
    """Implements `ResponseMeter` over the meter of what is decoded. The client's bytes are not changed, so that nothing is hidden.

    codings    in the order in which they were applied; a body that is plain all the same is metered as if there were none
    is_unread  the answer cannot be decoded, or not within the bounds: what was read of it up to there is too little
    """

    def __init__(self, meter: ResponseMeter, codings: Sequence[str]) -> None:
        self.reading: MeterReading = meter.reading
        self.is_unread = False
        self._meter = meter
        self._decoder: BodyDecoder | None = None
        self._begun: bytes | None = b""  # the first bytes, until they tell whether the body is plain
        self._is_plain = False
        self._waiting = 0
        self._is_behind = False
        if len(codings) <= STACKED_MAX and set(ACCEPTED).issuperset(codings):
            self._decoder = BodyDecoder(codings, bytes_max=DECODED_BYTES_MAX)

    def feed(self, data: bytes) -> bytes:
        if self._begun is not None:
            data = self._begun + data
            if len(without_lead(data)) < _PLAIN_BYTES:
                self._begun = data
                return b""
            self._begin(data)
        if self._is_plain:
            return self._metered(data)
        self._feed(data)
        return data

    def end_body(self) -> bytes:
        """End the body, unless some of it may still wait: then `read_on` does."""
        begun = self._begun
        if begun is not None:
            self._begin(begun)
            self._feed(begun)
        if self._is_behind:
            return b""
        shown = self._meter.end_body()
        self.reading = self._meter.reading
        return shown if self._is_plain else begun or b""

    async def read_on(self) -> None:
        """Decode what still waits after the end of the body, slice by slice, so that others have their turns."""
        if not self._is_behind:
            return
        while True:
            if not self._decode():
                break
            await asyncio.sleep(0)
        self._meter.end_body()
        self.reading = self._meter.reading

    def _begin(self, body: bytes) -> None:
        self._begun = None
        self._is_plain = _PLAIN.match(without_lead(body)) is not None
        if self._decoder is None and not self._is_plain:
            self._give_up()

    def _feed(self, data: bytes) -> None:
        if self._decoder is None:
            return
        self._waiting += len(data)
        self._decoder.feed(data)
        if self._waiting > WAITING_BYTES_MAX:
            self._give_up()
        else:
            self._decode()

    def _decode(self) -> bool:
        """Decode one slice, and meter it; whether more may wait."""
        piece = b""
        if self._decoder is not None:
            try:
                piece = self._decoder.decode(SLICE_BYTES)
            except Refused:
                self._give_up()
        self._is_behind = bool(piece)
        if piece:
            self._metered(piece)
        else:
            self._waiting = 0
        return self._is_behind

    def _metered(self, piece: bytes) -> bytes:
        shown = self._meter.feed(piece)
        self.reading = self._meter.reading
        return shown

    def _give_up(self) -> None:
        """Read no more of it; what was read keeps its place in the reading, and its memory is released."""
        self.is_unread = True
        self.reading.flags.add(UNDECODED)
        self._meter, self._decoder, self._is_behind = _Unread(self.reading), None, False


class _Unread:
    """Takes the place of a meter that reads no more."""

    def __init__(self, reading: MeterReading) -> None:
        self.reading = reading

    def feed(self, data: bytes) -> bytes:
        return data

    def end_body(self) -> bytes:
        return b""
