"""What exporting to an OpenTelemetry collector costs a worker: CPU of a chat request without one, and with one at several ratios.

    python -m bench.open_telemetry [--rounds 6] [--requests 1500]

The gateways run at once and are asked in turn, so that what else the machine does falls on all alike. A collector in this process
takes everything. What a round leaves to be exported is exported before its CPU is read.
"""

import argparse
import asyncio
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import uvloop
from aiohttp import web

from bench.contenders import Contender, Stage, free_port
from bench.pinning import Pinning
from bench.procfs import cpu_seconds
from bench.stepped import ask, serves, start_stepped_upstream
from bench.tallygate import start_tallygate

WAYS = {"off": None, "metrics alone": "0", "one trace in ten": "0.1", "every trace": "1"}
WARM_UP_REQUESTS = 200
EXPORTED_SECONDS = 2.5
PATIENT = {"TALLYGATE_STORE_DEADLINE_MS": "20000"}


async def start_collector() -> str:
    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/{signal}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return f"http://127.0.0.1:{port}"


async def measure(rounds: int, requests: int) -> dict[str, list[float]]:
    """Microseconds of CPU for each request, by way and round."""
    collector, upstream_port = await start_collector(), free_port()
    await start_stepped_upstream(upstream_port)
    with ExitStack() as ends:
        contenders: dict[str, Contender] = {}
        for name, ratio in WAYS.items():
            directory = ends.enter_context(tempfile.TemporaryDirectory(prefix="tallygate-bench-"))
            stage = Stage(Path(directory), Pinning(load_core=None, proxy_core=None))
            ends.callback(stage.stop)
            on = {} if ratio is None else {"TALLYGATE_OTLP_ENDPOINT": collector, "TALLYGATE_OTLP_TRACE_RATIO": ratio}
            contenders[name] = (await start_tallygate(stage, upstream_port, settings=PATIENT | on)).contenders[0]
            await serves(contenders[name].target)
            await ask(contenders[name].target, requests=WARM_UP_REQUESTS, seed=0)
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        for seed in range(1, rounds + 1):
            for name, contender in contenders.items():
                before = cpu_seconds(contender.measured)
                await ask(contender.target, requests=requests, seed=seed)
                await asyncio.sleep(EXPORTED_SECONDS)
                found[name].append((cpu_seconds(contender.measured) - before) / requests * 1e6)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=1_500)
    options = parser.parse_args()
    print("| | lowest, µs | median, µs |\n|---|---:|---:|")
    for name, figures in uvloop.run(measure(options.rounds, options.requests)).items():
        print(f"| {name} | {min(figures):.0f} | {statistics.median(figures):.0f} |")


if __name__ == "__main__":
    main()
