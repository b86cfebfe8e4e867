"""The simulator as a running server, for tests (`async with running_simulator() as sim`) and for `tallygate simulator`."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Final

from aiohttp import web

from tallygate.simulator.endpoint import Endpoint
from tallygate.simulator.endpoints import endpoints
from tallygate.simulator.ledger import RECORDS_MAX, Ledger
from tallygate.simulator.prompt_tokens import PromptTokens
from tallygate.simulator.service import Service, SimulatorSettings
from tallygate.simulator.sockets import speak

SHUTDOWN_SECONDS: Final = 0.1  # then open answers are broken off


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulator:
    """A simulator that serves at `url` (without a final slash). `ledger` is its count."""

    url: str
    port: int
    ledger: Ledger


def system_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def make_app(
    ledger: Ledger, *, settings: SimulatorSettings, clock_ms: Callable[[], int], prompt_tokens: PromptTokens
) -> web.Application:
    """The endpoints, and beside them /_sim/ledger, /_sim/totals and /_sim/reset."""
    app = web.Application(client_max_size=settings.body_max_bytes)
    service = Service(ledger=ledger, clock_ms=clock_ms, settings=settings, prompt_tokens=prompt_tokens)

    def handler(endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await (speak(service, request, endpoint) if endpoint.is_socket else service.serve(request, endpoint))

        return handle

    for endpoint in endpoints(settings.profile):
        for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
            app.router.add_route(method, endpoint.path, handler(endpoint))

    service.background.add_routes(app)
    if not settings.profile:
        service.batches.add_routes(app, endpoints(settings.profile))
        service.videos.add_routes(app)

    async def show_ledger(_request: web.Request) -> web.Response:
        return web.json_response(ledger.as_json())

    async def show_totals(_request: web.Request) -> web.Response:
        return web.json_response(asdict(ledger.totals))

    async def reset(_request: web.Request) -> web.Response:
        ledger.reset()
        return web.json_response(asdict(ledger.totals))

    app.router.add_get("/_sim/ledger", show_ledger)
    app.router.add_get("/_sim/totals", show_totals)
    app.router.add_post("/_sim/reset", reset)
    return app


@asynccontextmanager
async def running_simulator(
    *,
    settings: SimulatorSettings | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    clock_ms: Callable[[], int] = system_clock_ms,
    prompt_tokens: PromptTokens | None = None,
    records_max: int = RECORDS_MAX,
) -> AsyncIterator[Simulator]:
    """Serve in this event loop until the block ends. port 0: any free one.

    prompt_tokens    shared by several simulators, so that each need not load a vocabulary (0.3 s); None: its own
    """
    ledger = Ledger(records_max)
    app = make_app(
        ledger, settings=settings or SimulatorSettings(), clock_ms=clock_ms, prompt_tokens=prompt_tokens or PromptTokens()
    )
    # handler_cancellation: when a client leaves, the generation must end at once, and be recorded
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=4096)
        await site.start()
        bound = runner.addresses[0][1]
        yield Simulator(url=f"http://{host}:{bound}", port=bound, ledger=ledger)
    finally:
        await runner.cleanup()
