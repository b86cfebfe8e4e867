"""How soon a request is in the usage API: a steady load, and a question asked all the time.

python -m bench.freshness [--per-second 1000] [--seconds 20]

An answer of GET /api/usage tells how many requests it knows of. How old it is: the time since the first request was answered that
it does not know of. Everything shares the machine's cores: load, mock API, gateway, store, console.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from aiohttp import ClientSession

from bench.contenders import Stage, start_upstream
from bench.pinning import Pinning
from bench.samples import percentile
from bench.steady import SteadyLoad
from bench.tallygate import ADMIN_TOKEN, start_tallygate
from bench.workload import chat_bodies

ASK_EVERY_SECONDS = 0.1
WARM_SECONDS = 3
REST_SECONDS = 30


async def measure(per_second: int, seconds: int) -> int:
    """Print the figures; 1 if a request failed or never appeared."""
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as directory:
        stage = Stage(Path(directory), Pinning(load_core=None, proxy_core=None))
        try:
            direct = await start_upstream(stage)
            tallygate = await start_tallygate(stage, direct.target.port)
            bodies = chat_bodies(2_000, seed=1)
            warm = SteadyLoad(tallygate.contenders[0].target, bodies)
            await warm.run(per_second=per_second, seconds=WARM_SECONDS)
            load = SteadyLoad(tallygate.contenders[0].target, bodies)
            watch = Watch(load, f"http://127.0.0.1:{tallygate.console_port}", ADMIN_TOKEN, known=len(warm.latencies_ms))
            watching = asyncio.ensure_future(watch.run())
            await load.run(per_second=per_second, seconds=seconds)
            count = len(load.latencies_ms)
            until = asyncio.get_running_loop().time() + REST_SECONDS
            while watch.visible < count and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - another process makes it true
                await asyncio.sleep(0.05)
            watching.cancel()
        finally:
            stage.stop()
    shown = ", ".join(f"{name} {percentile(watch.ages, part):.2f} s" for name, part in (("p50", 0.5), ("p99", 0.99), ("most", 1.0)))
    sys.stdout.write(f"{count} requests, {per_second} a second, {load.failed} failed, {watch.visible} in the API\n")
    sys.stdout.write(f"age of an answer of the API: {shown}; p99 of a request {percentile(load.latencies_ms, 0.99):.1f} ms\n")
    return int(load.failed > 0 or watch.visible != count)


class Watch:
    """Asks again and again. ages: of each answer, in seconds. known: requests before the load began."""

    def __init__(self, load: SteadyLoad, url: str, token: str, *, known: int) -> None:
        self._load = load
        self._url = f"{url}/api/usage?bucket=total"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._known = known
        self._counted: list[tuple[float, int]] = []  # when so many had been answered
        self.visible = 0
        self.ages: list[float] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks, ClientSession(headers=self._headers) as session:
            tasks.create_task(self._count())
            while True:
                async with session.get(self._url) as answer:
                    answer.raise_for_status()
                    self.visible = (await answer.json())["totals"]["requests"] - self._known
                self.ages.append(self._age(asyncio.get_running_loop().time()))
                await asyncio.sleep(ASK_EVERY_SECONDS)

    async def _count(self) -> None:
        while True:
            self._counted.append((asyncio.get_running_loop().time(), len(self._load.latencies_ms)))
            await asyncio.sleep(0.005)

    def _age(self, now: float) -> float:
        """Seconds since the first request was answered that is not in the API; 0 if all are."""
        return next((now - at for at, count in self._counted if count > self.visible), 0.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-second", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    return asyncio.run(measure(options.per_second, options.seconds))


if __name__ == "__main__":
    sys.exit(main())
