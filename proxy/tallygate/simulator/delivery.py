"""Delivery of an accepted answer: paced, framed by its wire, and broken as the directive asks."""

import asyncio
import zlib
from collections.abc import Callable, Mapping

from aiohttp import web

from tallygate.simulator.answer import Answer, Wire
from tallygate.simulator.directive import Fault
from tallygate.simulator.ledger import Served
from tallygate.simulator.line import Line
from tallygate.simulator.pace import Pace


class _CutShortError(Exception):
    """The directive's fault ended this answer before its end."""


class Delivery:
    """Delivers one accepted answer, event by event, with the directive's faults."""

    def __init__(self, *, line: Line, record: Served, wire: Wire, answer: Answer, pace: Pace, clock_ms: Callable[[], int]) -> None:
        self._line = line
        self._record = record
        self._wire = wire
        self._answer = answer
        self._wishes = answer.directive
        self._generated = 0  # of the answer itself
        self._pace = pace
        self._clock_ms = clock_ms
        self._gzip = zlib.compressobj(wbits=31) if answer.directive.fault is Fault.GZIP else None
        self._fault_at = max(0, answer.directive.at)
        wishes = answer.directive
        self._is_plain = not (wishes.fault or wishes.split or wishes.comments or wishes.crlf)  # as framed by the wire

    async def deliver(self) -> web.StreamResponse:
        if self._wishes.fault is Fault.EARLY_HINTS:
            self._line.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        try:
            await (self._stream() if self._answer.ask.stream else self._whole())
        except _CutShortError:
            return self._line.nothing_more()
        response = await self._line.finish()
        if self._wishes.fault is Fault.UNSOLICITED:
            self._line.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nnot yours")
        return response

    async def _whole(self) -> None:
        await self._generate(0, 0)
        answer = self._answer
        image = answer.image_tokens * answer.ask.choices
        if self._pace.is_free:
            await self._generate(answer.completion_tokens, answer.reasoning_tokens * answer.ask.choices, image)
        else:
            for piece in answer.pieces():
                await self._generate(piece.tokens, piece.tokens if piece.reasoning else 0)
            await self._generate(image, 0, image)
        data, figures = self._wire.body(self._answer)
        data = self._odd(data, 0)
        if self._gzip:
            data = self._gzip.compress(data) + self._gzip.flush()
        await self._line.open(200, self._headers("application/json"), length=len(data))
        await self._put(data, 0)
        self._record.delivered_tokens = self._generated
        if figures is not None:
            self._record.reported = (figures.prompt, figures.completion)

    async def _stream(self) -> None:
        await self._generate(0, 0)
        await self._line.open(200, self._headers(self._wire.stream_type(self._answer)))
        position = 0
        for event in self._wire.events(self._answer):
            await self._generate(event.tokens, event.reasoning, event.image)
            if not event.data:
                continue
            if self._is_plain and position:
                await self._line.send(event.data)
                self._record.events += 1
            else:
                data = self._odd(event.data, position)
                if self._gzip:
                    data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
                await self._put(data, position)
            position += 1
            self._record.delivered_tokens += event.tokens
            if event.figures is not None:
                self._record.reported = (event.figures.prompt, event.figures.completion)
        if self._gzip:
            await self._line.send(self._gzip.flush())

    async def _generate(self, tokens: int, reasoning: int, image: int = 0) -> None:
        """Wait for the time in which these tokens are generated, then count them. 0: the wait for the first token."""
        await self._pace.until(self._generated + tokens)
        self._generated += tokens
        self._record.generated_tokens += tokens
        self._record.reasoning_tokens += reasoning
        self._record.image_tokens += image

    def _headers(self, content_type: str) -> Mapping[str, str]:
        head = {**self._wire.headers, "Content-Type": content_type, "x-request-id": f"req_{self._answer.id}"}
        if self._gzip:
            head["Content-Encoding"] = "gzip"
        return head

    def _odd(self, data: bytes, position: int) -> bytes:
        """The event in the form that the directive asks for."""
        wishes, streamed = self._wishes, self._answer.ask.stream
        if position == self._fault_at and wishes.fault is Fault.HUGE and b"}" in data:
            before, brace, after = data.rpartition(b"}")
            data = before + b',"padding":"' + b"x" * wishes.size + b'"' + brace + after
        if position == self._fault_at and wishes.fault is Fault.BAD_JSON:
            data = b'data: {"id": nonsense\n\n' if streamed else b'{"id": nonsense'
        if streamed and wishes.comments:
            data = b": keep-alive\n\n" + data
        if streamed and wishes.crlf:
            data = data.replace(b"\n", b"\r\n")
        return b"\xef\xbb\xbf" + data if wishes.bom and position == 0 else data

    async def _put(self, data: bytes, position: int) -> None:
        """Send one event, or the fault in its place. Raises _CutShortError if the answer ends here."""
        wishes = self._wishes
        if position == self._fault_at:
            await self._break(data)
        if position == 0:
            self._record.first_byte_at_ms = self._clock_ms()
        drips = wishes.fault is Fault.DRIP and position >= self._fault_at
        size = 1 if drips else wishes.split or len(data)
        for start in range(0, len(data), size):
            await self._line.send(data[start : start + size])
            if size < len(data):
                await asyncio.sleep(wishes.gap / 1000)
        self._record.events += 1

    async def _break(self, data: bytes) -> None:
        """Cause the fault that replaces event `at`."""
        wishes, line, streamed = self._wishes, self._line, self._answer.ask.stream
        match wishes.fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.ERROR if streamed:
                await line.send(self._wire.stream_error(self._answer, "The simulator was asked to fail."))
                await line.finish(whole=False)
            case Fault.BAD_CHUNK if streamed:
                line.raw(b"not-a-size\r\n" + data + b"\r\n")
                await line.cut(wishes.how)
            case Fault.CUT:
                if wishes.byte >= 0:
                    size_line = b"%x\r\n" % len(data) if streamed else b""
                    part = data[: wishes.byte]
                    line.raw(size_line + part)
                    self._record.response_bytes += len(part)
                if wishes.how == "end" and streamed:
                    await line.finish(whole=False)
                else:
                    await line.cut(wishes.how)
            case _:
                return
        raise _CutShortError
