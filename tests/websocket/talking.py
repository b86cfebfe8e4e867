"""A client of one socket through a gateway, and what it is told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from gateway_harness import BIG_KEY, Harness

HEARD_SECONDS_MAX = 30  # for a message that comes at once, unless the machine has much else to do
MODEL = "gpt-4o-mini"
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


class Talk:
    """One open socket."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, event: Any) -> None:
        await self.socket.send_str(event if isinstance(event, str) else json.dumps(event))

    async def ask(self, directive: str = "tokens=5", **members: Any) -> None:
        text = f"[[sim {directive}]] Hello"
        await self.say({"type": "response.create", "model": MODEL, "input": text} | members)

    async def hear(self) -> dict[str, Any] | None:
        """The next event; None once the socket is closed."""
        message = await self.socket.receive(timeout=HEARD_SECONDS_MAX)
        if message.type is WSMsgType.TEXT:
            event: dict[str, Any] = json.loads(message.data)
            return event
        return None

    async def rest(self) -> list[dict[str, Any]]:
        """The events to the end of one response, or of the socket."""
        found = []
        while (event := await self.hear()) is not None:
            found.append(event)
            if event["type"] in ENDS:
                break
        return found

    async def turn(self, directive: str = "tokens=5", **members: Any) -> list[dict[str, Any]]:
        await self.ask(directive, **members)
        return await self.rest()

    @property
    def close_code(self) -> int | None:
        return self.socket.close_code


@asynccontextmanager
async def talking(
    harness: Harness, *, key: str | None = BIG_KEY, path: str = "/v1/responses", **options: Any
) -> AsyncIterator[Talk]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        ClientSession() as session,
        session.ws_connect(f"{harness.url}{path}", headers=headers | options.pop("headers", {}), **options) as socket,
    ):
        yield Talk(socket)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]
