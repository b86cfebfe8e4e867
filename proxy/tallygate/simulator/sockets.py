"""The Responses API over a WebSocket: each `response.create` is an exchange, answered as a stream is, one frame an event."""

import asyncio
from collections.abc import Mapping
from json import JSONDecodeError, dumps, loads
from typing import Any, Final

from aiohttp import WSMsgType, web

from tallygate.simulator.ledger import Served
from tallygate.simulator.line import Line
from tallygate.simulator.service import Endpoint, Service

MESSAGE_BYTES_MAX: Final = 64 << 20
_DATA: Final = b"data: "


class SocketLine(Line):
    """One answer in frames: a head says nothing unless it refuses, and an event is a message. lane: its `stream_id`."""

    def __init__(self, request: web.Request, record: Served, socket: web.WebSocketResponse, lane: str) -> None:
        super().__init__(request, record)
        self.response = socket
        self._socket = socket
        self._lane = lane

    async def open(self, status: int, headers: Mapping[str, str], *, length: int | None = None) -> None:
        del headers, length
        self._record.status = status

    async def send(self, data: bytes) -> None:
        await asyncio.sleep(0)
        if self._record.status >= 300:
            await self._put({"type": "error", "status": self._record.status, **loads(data)})
            return
        for line in data.splitlines():
            if line.startswith(_DATA):
                await self._put(loads(line.removeprefix(_DATA)))

    async def _put(self, event: dict[str, Any]) -> None:
        text = dumps(event | ({"stream_id": self._lane} if self._lane else {}), separators=(",", ":"))
        await self._socket.send_str(text)
        self._record.response_bytes += len(text)

    async def finish(self, *, whole: bool = True) -> web.StreamResponse:
        self._record.completed = whole
        return self._socket


async def speak(service: Service, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
    """Serve one socket until its client closes it. Answers of one lane come one after the other."""
    if not service.has_key(request):
        return web.Response(status=401, body=endpoint.wire.error(401, "Incorrect API key provided."))
    socket = web.WebSocketResponse(compress=False, max_msg_size=MESSAGE_BYTES_MAX)
    await socket.prepare(request)
    loop = asyncio.get_running_loop()
    lanes: dict[str, asyncio.Task[None]] = {}
    turns: set[asyncio.Task[None]] = set()

    async def turn(text: str, lane: str, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait((before,))
        with service.recorded(request, endpoint, request_id=None) as record:
            line = SocketLine(request, record, socket, lane)
            record.request_bytes = len(text)
            await service.answer(request, endpoint, text.encode(), record, line)

    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            try:
                event = loads(message.data)
            except JSONDecodeError:
                break
            if event.get("type") == "response.create":
                lane = event.get("stream_id") or ""
                lanes[lane] = task = loop.create_task(turn(message.data, lane, lanes.get(lane)))
                turns.add(task)
                task.add_done_callback(turns.discard)
    finally:
        for task in turns:
            task.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
    return socket
