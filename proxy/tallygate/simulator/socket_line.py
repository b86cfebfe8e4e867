"""The connection of one answer in frames."""

import asyncio
from collections.abc import Mapping
from json import dumps, loads
from typing import Any, Final

from aiohttp import web

from tallygate.simulator.ledger import Served
from tallygate.simulator.line import Line

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
