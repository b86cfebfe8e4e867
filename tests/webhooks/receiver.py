"""A receiver of webhooks on this machine: remembers what it got, verifies it with the receivers' library, answers as told."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="  # bytes 0 to 31
KEY = bytes(range(32))


def now_ms() -> int:
    """The time by which receivers judge: their library takes nothing older than five minutes."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Receiver:
    """answer: of each request, by its number from 0; a status, or what makes a response."""

    answer: Callable[[int], int | Awaitable[web.StreamResponse]] = lambda _number: 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def never(self, _number: int) -> web.StreamResponse:
        """An answer that does not come as long as the receiver runs."""
        await self.ended.wait()
        return web.Response()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        number = len(self.got)
        self.paths.append(request.raw_path)
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        answer = self.answer(number)
        return web.Response(status=answer) if isinstance(answer, int) else await answer

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    def verified(self) -> list[dict[str, Any]]:
        """The bodies, each with a right signature."""
        return [Webhook(SECRET).verify(body, headers) for headers, body in self.got]


@asynccontextmanager
async def running_receiver(receiver: Receiver, *, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
    await site.start()
    receiver.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}/hooks"
    try:
        yield receiver
    finally:
        receiver.ended.set()
        await runner.cleanup()
