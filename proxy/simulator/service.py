"""One request from its arrival to the ledger: read, decide the answer, generate it in time, send it, and break it as asked."""

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import JSONDecodeError, loads
from typing import Final

from aiohttp import web

from proxy.simulator.answer import Answer, Wire, make_answer
from proxy.simulator.directive import Directive, DirectiveError, Fault, find_directive
from proxy.simulator.ledger import Ledger, Served
from proxy.simulator.line import Line
from proxy.simulator.prompt_tokens import PromptTokens
from proxy.simulator.requests import Reader

CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key", "x-goog-api-key", "api-key")
GATEWAY_KEY: Final = re.compile(r"tg_[A-Za-z0-9-]+_")
EVENTS_PER_TURN: Final = 8  # with no pace, so many events leave before other requests get a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """tokens, tps and delay_ms apply where no directive says otherwise. api_key: the only key accepted; "" accepts any or none."""

    tokens: int = 32
    tps: int = 0
    delay_ms: int = 0
    api_key: str = ""
    body_max_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method and path, in aiohttp's route syntax. parameters are added to those of path and query."""

    method: str
    path: str
    name: str
    read: Reader
    wire: Wire
    parameters: Mapping[str, str]


class Pace:
    """When tokens are generated: the first `delay_ms` after the start, the others evenly, `tps` a second."""

    def __init__(self, *, delay_ms: int, tps: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._first_at = self._loop.time() + delay_ms / 1000
        self._seconds_per_token = 1 / tps if tps else 0.0
        self._is_free = not delay_ms and not tps
        self._turns = 0

    async def until(self, generated: int) -> None:
        """Wait until `generated` tokens are out."""
        if self._is_free:
            self._turns += 1
            if self._turns % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
            return
        due = self._first_at + max(0, generated - 1) * self._seconds_per_token
        await asyncio.sleep(max(0.0, due - self._loop.time()))


class Service:
    """Serves every endpoint of the table in the same way. clock_ms gives the times of the ledger."""

    def __init__(self, *, ledger: Ledger, clock_ms: Callable[[], int], settings: SimulatorSettings) -> None:
        self._ledger = ledger
        self._clock_ms = clock_ms
        self._settings = settings
        self._tokens = PromptTokens()

    async def serve(self, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        record = self._ledger.open(
            request_id=request.headers.get("x-request-id"),
            method=request.method,
            path=request.path,
            endpoint=endpoint.name,
            started_at_ms=self._clock_ms(),
        )
        seen = [*request.headers.values(), request.query_string]
        record.has_gateway_key = any(GATEWAY_KEY.search(value) for value in seen)
        record.credential_headers = tuple(name for name in CREDENTIAL_HEADERS if name in request.headers)
        line = Line(request, record)
        try:
            return await self._exchange(request, endpoint, record, line)
        except (asyncio.CancelledError, ConnectionError):
            record.cancelled_at_ms = self._clock_ms()
            raise
        finally:
            self._ledger.close(record, ended_at_ms=self._clock_ms())

    async def _exchange(self, request: web.Request, endpoint: Endpoint, record: Served, line: Line) -> web.StreamResponse:
        wire = endpoint.wire
        body = await request.read()
        record.request_bytes = len(body)
        if self._settings.api_key and not self._has_key(request):
            return await self._refuse(line, wire, 401, "Incorrect API key provided.")
        parameters = {**request.query, **request.match_info, **endpoint.parameters}
        try:
            content = loads(body) if body and request.content_type == "application/json" else {}
            ask = endpoint.read(content, parameters, self._tokens)
            directive = find_directive(request.headers.get("x-sim"), ask.last_text)
        except (JSONDecodeError, UnicodeDecodeError, DirectiveError, TypeError, ValueError, AttributeError, LookupError) as error:
            return await self._refuse(line, wire, 400, f"The request cannot be understood: {error}")
        record.model, record.stream = ask.model or None, ask.stream
        answer = make_answer(
            sequence=record.sequence,
            created=record.started_at_ms // 1000,
            ask=ask,
            directive=directive,
            tokens_default=self._settings.tokens,
        )
        record.fault = directive.fault
        if directive.fault in _BEFORE_THE_ANSWER:
            return await self._fail_before(line, wire, directive)
        self._accept(record, answer)
        if directive.fault is Fault.STALL and directive.at < 0:
            await asyncio.Event().wait()
        pace = Pace(
            delay_ms=self._settings.delay_ms if directive.delay is None else directive.delay,
            tps=self._settings.tps if directive.tps is None else directive.tps,
        )
        return await Delivery(line=line, record=record, wire=wire, answer=answer, pace=pace, clock_ms=self._clock_ms).run()

    def _has_key(self, request: web.Request) -> bool:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = {bearer, request.headers.get("x-api-key"), request.headers.get("x-goog-api-key"), request.query.get("key")}
        return self._settings.api_key in given

    def _accept(self, record: Served, answer: Answer) -> None:
        record.accepted = True
        record.prompt_tokens = answer.ask.prompt_tokens
        record.cached_tokens = min(answer.directive.cached, record.prompt_tokens)
        record.cache_write_tokens = min(answer.directive.cache_write, record.prompt_tokens - record.cached_tokens)

    async def _fail_before(self, line: Line, wire: Wire, directive: Directive) -> web.StreamResponse:
        """The faults in which the model never begins to work, so that nothing is owed."""
        match directive.fault:
            case Fault.STATUS:
                retry = {"Retry-After": directive.retry_after} if directive.retry_after else {}
                return await self._refuse(line, wire, directive.status, "The simulator was asked to fail.", retry)
            case Fault.REDIRECT:
                return await self._refuse(line, wire, 302, "Moved.", {"Location": directive.to})
            case Fault.NUL_HEADER:
                line.raw(b"HTTP/1.1 200 OK\r\nX-Odd: a\0b\r\nContent-Length: 2\r\n\r\n{}")
            case Fault.BAD_LENGTH:
                line.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
            case _:
                pass
        await line.cut(directive.how)
        return line.nothing_more()

    async def _refuse(
        self, line: Line, wire: Wire, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        body = wire.error(status, message)
        await line.open(status, {**wire.headers, "Content-Type": "application/json", **(headers or {})}, length=len(body))
        await line.send(body)
        return await line.finish()


_BEFORE_THE_ANSWER: Final = frozenset({Fault.STATUS, Fault.DROP, Fault.REDIRECT, Fault.NUL_HEADER, Fault.BAD_LENGTH})


class _CutShortError(Exception):
    """The directive's fault ended this answer before its end."""


class Delivery:
    """One accepted answer on its way out, event by event, with the faults that happen on the way."""

    def __init__(self, *, line: Line, record: Served, wire: Wire, answer: Answer, pace: Pace, clock_ms: Callable[[], int]) -> None:
        self._line = line
        self._record = record
        self._wire = wire
        self._answer = answer
        self._wishes = answer.directive
        self._pace = pace
        self._clock_ms = clock_ms
        self._gzip = zlib.compressobj(wbits=31) if answer.directive.fault is Fault.GZIP else None
        self._fault_at = max(0, answer.directive.at)

    async def run(self) -> web.StreamResponse:
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
        for piece in self._answer.pieces():
            await self._generate(piece.tokens, piece.tokens if piece.reasoning else 0)
        await self._generate(0, 0)
        data, figures = self._wire.body(self._answer)
        data = self._odd(data, 0)
        if self._gzip:
            data = self._gzip.compress(data) + self._gzip.flush()
        await self._line.open(200, self._headers("application/json"), length=len(data))
        await self._put(data, 0)
        if figures is not None:
            self._record.reported = (figures.prompt, figures.completion)

    async def _stream(self) -> None:
        await self._generate(0, 0)
        await self._line.open(200, self._headers(self._wire.stream_type(self._answer)))
        position = 0
        for event in self._wire.events(self._answer):
            await self._generate(event.tokens, event.reasoning)
            if not event.data:
                continue
            data = self._odd(event.data, position)
            if self._gzip:
                data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
            await self._put(data, position)
            position += 1
            if event.figures is not None:
                self._record.reported = (event.figures.prompt, event.figures.completion)
        if self._gzip:
            await self._line.send(self._gzip.flush())

    async def _generate(self, tokens: int, reasoning: int) -> None:
        """Let the time pass in which these tokens arise, then count them. 0: the wait for the first token."""
        await self._pace.until(self._record.generated_tokens + tokens)
        self._record.generated_tokens += tokens
        self._record.reasoning_tokens += reasoning

    def _headers(self, content_type: str) -> Mapping[str, str]:
        head = {**self._wire.headers, "Content-Type": content_type, "x-request-id": f"req_{self._answer.id}"}
        if self._gzip:
            head["Content-Encoding"] = "gzip"
        return head

    def _odd(self, data: bytes, position: int) -> bytes:
        """The event as the directive wants it written."""
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
        """Send one event, unless its turn is the fault's. Raises _CutShortError if the answer ends here."""
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
        """The faults that happen in place of event `at`."""
        wishes, line, streamed = self._wishes, self._line, self._answer.ask.stream
        match wishes.fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.ERROR if streamed:
                await line.send(self._wire.stream_error("The simulator was asked to fail."))
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
                await line.cut(wishes.how)
            case _:
                return
        raise _CutShortError
