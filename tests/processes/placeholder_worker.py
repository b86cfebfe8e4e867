"""A worker that needs no upstream: `python -m placeholder_worker SLOT SOCKET`, as the supervisor starts the real one.

GET / tells the process id and counts one refusal; /slow/MS sends its first byte at once and its last after MS milliseconds.
"""

import asyncio
import os
import sys
import time

from aiohttp import web

from tallygate.domain.errors import ErrorCode, StoreError
from tallygate.processes.worker import run_worker
from tallygate.telemetry.gateway_metrics import GatewayMetrics
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.metrics import OPEN_REQUESTS, REFUSED

KNOWN = KnownLabels(
    organizations=frozenset({"acme"}),
    credentials=frozenset({("acme", "acme-prod")}),
    capabilities=frozenset({"chat"}),
    limits=frozenset(ErrorCode),
)


class PlaceholderGateway:
    def __init__(self, counts):
        self.metrics = GatewayMetrics(counts, KNOWN, now_ns=time.time_ns)
        self.reloads = 0
        self.open = set()
        app = web.Application()
        app.router.add_get("/", self.tell)
        app.router.add_get("/slow/{ms}", self.slow)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start(self, sock):
        await self.runner.setup()
        self.site = web.SockSite(self.runner, sock)
        await self.site.start()

    def announce_leaving(self):
        return

    async def drain(self, grace_seconds):
        await self.site.stop()
        if self.open:
            await asyncio.wait(self.open, timeout=grace_seconds)

    async def close(self):
        await self.runner.cleanup()

    def reload(self):
        self.reloads += 1

    async def tell(self, _request):
        self.metrics.inc(REFUSED, "acme", "acme-prod", "chat", ErrorCode.SPEND_LIMIT_EXCEEDED)
        return web.json_response({"pid": os.getpid(), "reloads": self.reloads}, headers={"Connection": "close"})

    async def slow(self, request):
        finished = asyncio.get_running_loop().create_future()
        self.open.add(finished)
        self.metrics.inc(OPEN_REQUESTS)
        try:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"first ")
            await asyncio.sleep(int(request.match_info["ms"]) / 1000)
            await response.write(b"last")
            await response.write_eof()
        finally:
            self.metrics.dec(OPEN_REQUESTS)
            self.open.discard(finished)
            finished.set_result(None)
        return response


async def build(settings, counts):
    if (settings.data_dir / "no_workers").exists():
        raise StoreError("as the test wants it")
    return PlaceholderGateway(counts)


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:], build=build))
