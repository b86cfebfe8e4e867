"""One job of the process behind the console's port. A process is made of one or several."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from tallygate.console.api_routes import Api
from tallygate.console.ports import SharedTotals, Store
from tallygate.console.readiness import Probe
from tallygate.console.workers import Workers
from tallygate.telemetry.metric import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a part brings to its process; of each of the first four, one part at most.

    workers   shown by /metrics: the worker processes of this machine
    store     shown by /metrics: spend windows out of the limiter, and how far behind the ledger is
    totals    shown by /metrics: the counters that every console shows alike
    api       routes beside /metrics and health
    samples   shown by /metrics: what only this process knows
    probes    conditions of readiness
    opening   awaited before the process says that it is ready
    beside    runs as long as the process does
    closing   called at its end, before the stores are closed
    """

    workers: Workers | None = None
    store: Store | None = None
    totals: SharedTotals | None = None
    api: Api | None = None
    samples: tuple[Callable[[], Samples], ...] = ()
    probes: tuple[Probe, ...] = ()
    opening: tuple[Callable[[], Awaitable[None]], ...] = ()
    beside: tuple[Callable[[], Coroutine[None, None, None]], ...] = ()
    closing: tuple[Callable[[], Awaitable[None]], ...] = ()
