"""The real console over a store that holds nothing: `python -m placeholder_console ROLE SOCKET`."""

import sys
from types import SimpleNamespace

from tallygate.app.clocks import monotonic_ms
from tallygate.app.configuration import config_holder
from tallygate.app.part import Part
from tallygate.app.roles import console_of, workers_part
from tallygate.console.readiness import store_probe
from tallygate.console.workers import Workers
from tallygate.console.write_checks import WriteCheck
from tallygate.domain.admission import LimitStates
from tallygate.limiter.backlog import Backlog
from tallygate.processes.console import run_console


class EmptyStore:
    def limit_reading(self, asked):
        async def read():
            return [LimitStates(now_ms=0, knows_spend=True, rate=(), spend=()) for _ in asked]

        return SimpleNamespace(read=read)

    async def backlog(self):
        return Backlog(waiting_bytes=0, waiting_max_bytes=1, memory_bytes=0, memory_max_bytes=0)

    async def check_writes(self):
        return

    async def check(self):
        return

    async def sweep(self):
        return 0

    async def close(self):
        return


async def build(_role, settings):
    store, holder = EmptyStore(), config_holder(settings)
    writes = WriteCheck("store", store.check_writes, now_ms=monotonic_ms)
    workers = Workers(settings.data_dir / "metrics", workers=settings.workers, now_ms=monotonic_ms)
    admits = Part(store=store, probes=(store_probe(store, writes, needs_data=True),), writes=(writes,))
    parts = (admits, workers_part(workers))
    return console_of(parts, settings=settings, holder=holder, config=lambda: holder.current)


if __name__ == "__main__":
    sys.exit(run_console(sys.argv[1:], build=build))
