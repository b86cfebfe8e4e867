"""The real console over a store that holds nothing: `python -m placeholder_console SOCKET`."""

import sys

from proxy.app import console_over, monotonic_ms
from proxy.console.ports import Totals
from proxy.processes.console import run


class EmptyStore:
    async def totals(self, _orgs):
        return Totals(values={}, lag_events=0)

    async def windows(self, _org, _spend):
        return ()

    async def check(self):
        return

    async def sweep(self):
        return 0

    async def close(self):
        return


async def build(settings):
    return console_over(settings, EmptyStore(), monotonic_ms=monotonic_ms)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], build=build))
