"""APIs over a WebSocket: each response is an exchange, answered as a stream is, one frame an event."""

import asyncio
from json import JSONDecodeError, loads
from typing import Final

from aiohttp import WSMsgType, web

from tallygate.simulator.endpoint import Endpoint
from tallygate.simulator.realtime import RealtimeSession
from tallygate.simulator.service import Service
from tallygate.simulator.socket_line import SocketLine

MESSAGE_BYTES_MAX: Final = 64 << 20
REALTIME: Final = "openai_realtime"


async def speak(service: Service, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
    """Serve one socket until its client closes it."""
    if not service.has_key(request):
        return web.Response(status=401, body=endpoint.wire.error(401, "Incorrect API key provided."))
    socket = web.WebSocketResponse(compress=False, max_msg_size=MESSAGE_BYTES_MAX, protocols=("realtime",))
    await socket.prepare(request)
    await (_converse if endpoint.name == REALTIME else _take_turns)(service, request, endpoint, socket)
    return socket


async def _converse(service: Service, request: web.Request, endpoint: Endpoint, socket: web.WebSocketResponse) -> None:
    """A session of the Realtime API."""
    session = RealtimeSession(service, request, endpoint, socket)
    waiting: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def answer() -> None:
        await session.begin()
        while True:
            await session.hear(await waiting.get())

    answering = asyncio.get_running_loop().create_task(answer())
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            waiting.put_nowait(loads(message.data))
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def _take_turns(service: Service, request: web.Request, endpoint: Endpoint, socket: web.WebSocketResponse) -> None:
    """The Responses API: answers of one lane come one after the other."""
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
