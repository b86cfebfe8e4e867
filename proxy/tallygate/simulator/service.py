"""One request from its arrival to the ledger: parsed, answered at its pace, and broken as the directive asks."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError, loads
from typing import Any, Final

from aiohttp import web

from tallygate.simulator.answer import Answer, Wire, make_answer
from tallygate.simulator.background import BackgroundResponses
from tallygate.simulator.batches import Batches, LineAnswer
from tallygate.simulator.delivery import Delivery
from tallygate.simulator.directive import Directive, DirectiveError, Fault, find_directive
from tallygate.simulator.endpoint import Endpoint
from tallygate.simulator.ledger import Ledger, Served
from tallygate.simulator.line import Line
from tallygate.simulator.pace import Pace
from tallygate.simulator.prompt_tokens import PromptTokens
from tallygate.simulator.requests import form_members
from tallygate.simulator.videos import Videos
from tallygate.simulator.wires.gloo import ACCESS_TOKEN

CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key", "x-goog-api-key", "api-key")
_FORM: Final = "multipart/form-data"
GATEWAY_KEY: Final = re.compile(r"tg_[A-Za-z0-9-]+_")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Settings of a simulator. tokens, tps and delay_ms are defaults for requests without a directive.

    api_key   the only key accepted; "" accepts any, and none too if there is no profile
    profile   the only API that is simulated, with its keys; "" for all of them
    """

    tokens: int = 32
    tps: int = 0
    delay_ms: int = 0
    api_key: str = ""
    profile: str = ""
    body_max_bytes: int = 64 << 20


class Service:
    """Serves every endpoint of the table in the same way. clock_ms: for the times of the ledger."""

    def __init__(
        self, *, ledger: Ledger, clock_ms: Callable[[], int], settings: SimulatorSettings, prompt_tokens: PromptTokens
    ) -> None:
        self._ledger = ledger
        self._clock_ms = clock_ms
        self._settings = settings
        self._tokens = prompt_tokens
        self.background = BackgroundResponses(clock_ms=clock_ms)
        self.videos = Videos(clock_ms=clock_ms, has_key=self.has_key)
        self.batches = Batches(answer=self.answer_line, delay=self.delay_of, note=self.note, clock_ms=clock_ms)

    async def serve(self, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        with self.recorded(request, endpoint, request_id=request.headers.get("x-request-id")) as record:
            line, body = Line(request, record), await request.read()
            record.request_bytes = len(body)
            if not (endpoint.is_public or self.has_key(request)):
                return await self._refuse(line, endpoint.wire, 401, "Incorrect API key provided.")
            is_read = request.content_type == _FORM or (bool(body) and request.content_type == "application/json")
            return await self.answer(request, endpoint, body if is_read else b"{}", record, line)

    @contextmanager
    def recorded(self, request: web.Request, endpoint: Endpoint, *, request_id: str | None) -> Iterator[Served]:
        """Record an exchange, from its beginning to its end."""
        record = self._ledger.open(
            request_id=request_id,
            method=request.method,
            path=request.raw_path.partition("?")[0],
            endpoint=endpoint.name,
            started_at_ms=self._clock_ms(),
        )
        record.is_turn = endpoint.is_socket
        seen = [*request.headers.values(), request.query_string]
        record.has_gateway_key = any(GATEWAY_KEY.search(value) for value in seen)
        record.credential_headers = tuple(name for name in CREDENTIAL_HEADERS if name in request.headers)
        try:
            yield record
        except (asyncio.CancelledError, ConnectionError):
            record.cancelled_at_ms = self._clock_ms()
            raise
        finally:
            self._ledger.close(record, ended_at_ms=self._clock_ms())

    async def answer(self, request: web.Request, endpoint: Endpoint, body: bytes, record: Served, line: Line) -> web.StreamResponse:
        """Answer one body that a request or one of its messages has brought."""
        wire = endpoint.wire
        parameters = {**request.query, **request.match_info, **endpoint.parameters}
        try:
            content = form_members(request.headers["Content-Type"], body) if request.content_type == _FORM else loads(body)
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
            tokens_default=0 if ask.max_tokens == 0 else self._settings.tokens,
        )
        record.fault = directive.fault
        if directive.fault in _BEFORE_THE_ANSWER:
            return await self._fail_before(line, wire, directive)
        self._accept(record, answer)
        if directive.fault is Fault.STALL and directive.at < 0:
            await asyncio.Event().wait()
        delay_ms = self._settings.delay_ms if directive.delay is None else directive.delay
        tps = self._settings.tps if directive.tps is None else directive.tps
        if "video" in ask.extra:
            begun = self.videos.begin(answer, record, lasts_ms=delay_ms)
            await line.open(200, {**wire.headers, "Content-Type": "application/json"}, length=len(begun))
            await line.send(begun)
            return await line.finish()
        if ask.extra.get("background"):
            begun = self.background.begin(
                answer, record, lasts_ms=delay_ms + (answer.completion_tokens * 1_000 // tps if tps else 0)
            )
            if not ask.stream:
                record.generated_tokens += answer.completion_tokens
                record.reasoning_tokens += answer.reasoning_tokens * ask.choices
                await line.open(200, {**wire.headers, "Content-Type": "application/json"}, length=len(begun))
                await line.send(begun)
                return await line.finish()
        pace = Pace(
            delay_ms=delay_ms,
            tps=tps,
            now=asyncio.get_running_loop().time,
            sleep=asyncio.sleep,
        )
        return await Delivery(line=line, record=record, wire=wire, answer=answer, pace=pace, clock_ms=self._clock_ms).deliver()

    def answer_line(self, endpoint: Endpoint, body: Mapping[str, Any], parameters: Mapping[str, str]) -> LineAnswer:
        """Answer one request of a batch, at once, and count it."""
        record = self._ledger.open(
            request_id=None, method="POST", path=endpoint.path, endpoint=endpoint.name, started_at_ms=self._clock_ms()
        )
        record.tier = "batch"
        wire = endpoint.wire
        try:
            ask = endpoint.read(body, {**parameters, **endpoint.parameters}, self._tokens)
            directive = find_directive(None, ask.last_text)
            record.model = ask.model or None
            answer = make_answer(
                sequence=record.sequence,
                created=record.started_at_ms // 1000,
                ask=ask,
                directive=directive,
                tokens_default=self._settings.tokens,
            )
            if directive.fault is Fault.STATUS:
                record.status = directive.status
                return LineAnswer(directive.status, wire.error(directive.status, "The simulator was asked to fail."))
            self._accept(record, answer)
            record.generated_tokens += answer.completion_tokens
            record.reasoning_tokens += answer.reasoning_tokens * ask.choices
            record.status, record.completed = 200, True
            data, figures = wire.body(answer)
            if figures is not None:
                record.reported = (figures.prompt, figures.completion)
            return LineAnswer(200, data)
        except (DirectiveError, TypeError, ValueError, AttributeError, LookupError) as error:
            record.status = 400
            return LineAnswer(400, wire.error(400, f"The request cannot be understood: {error}"))
        finally:
            self._ledger.close(record, ended_at_ms=self._clock_ms())

    def note(self, request: web.Request, name: str) -> None:
        """Count a request that uses no tokens."""
        record = self._ledger.open(
            request_id=request.headers.get("x-request-id"),
            method=request.method,
            path=request.path,
            endpoint=name,
            started_at_ms=self._clock_ms(),
        )
        record.status, record.accepted, record.completed = 200, True, True
        self._ledger.close(record, ended_at_ms=self._clock_ms())

    def delay_of(self, endpoint: Endpoint, body: Mapping[str, Any], parameters: Mapping[str, str]) -> int:
        """The milliseconds that a request of a batch waits before it runs."""
        try:
            ask = endpoint.read(body, {**parameters, **endpoint.parameters}, self._tokens)
            return find_directive(None, ask.last_text).delay or 0
        except (DirectiveError, TypeError, ValueError, AttributeError, LookupError):
            return 0

    def has_key(self, request: web.Request) -> bool:
        wanted = self._settings.api_key
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if self._settings.profile:  # Gloo's: a static key or a fetched token, both as bearers
            return scheme == "Bearer" and bool(bearer) and (not wanted or bearer == wanted or bearer.startswith(ACCESS_TOKEN))
        given = {bearer, *map(request.headers.get, ("x-api-key", "x-goog-api-key")), request.query.get("key")}
        return not wanted or wanted in given

    def _accept(self, record: Served, answer: Answer) -> None:
        directive = answer.directive
        record.accepted = not directive.refuse
        record.prompt_tokens = answer.ask.prompt_tokens
        record.cached_tokens = min(directive.cached, record.prompt_tokens)
        record.cache_write_tokens = min(directive.cache_write, record.prompt_tokens - record.cached_tokens)
        for each in directive.passes:
            if each.is_billed:
                record.prompt_tokens += each.prompt
                record.generated_tokens += each.completion
        record.searches, record.file_searches, record.used_maps = directive.searches, directive.files, directive.maps
        record.audio_tokens = answer.ask.extra.get("audio_tokens") or min(directive.audio, record.prompt_tokens)
        record.cached_audio_tokens = min(directive.cached_audio, record.cached_tokens, record.audio_tokens)
        record.prompt_tokens += answer.billed_results
        extra = answer.ask.extra
        record.units = dict(extra.get("units", {}))
        if "source_tokens" in extra:
            record.source_image_tokens = extra["source_tokens"] * answer.ask.choices
            record.source_images = extra["source_images"] * answer.ask.choices
            record.images, record.image_kind = answer.ask.choices, f"{extra['quality']}:{extra['size']}"

    async def _fail_before(self, line: Line, wire: Wire, directive: Directive) -> web.StreamResponse:
        """Cause a fault before the model begins to work, so that nothing is owed."""
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
