"""One job of the process behind the console's port. A process is made of one or several."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from tallygate.console.api_routes import Api
from tallygate.console.openid import OpenIdSignIn
from tallygate.console.ports import SharedTotals, Store
from tallygate.console.readiness import Probe
from tallygate.console.workers import Workers
from tallygate.console.write_checks import WriteCheck
from tallygate.telemetry.metric import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The contributions of a part to its process; at most one part has each of the first five.

    workers   shown by /metrics: the worker processes of this machine
    store     shown by /metrics: spend windows from the limiter, and the ledger's lag
    totals    shown by /metrics: the counters that are the same at every console
    api       routes beside /metrics and health
    openid    signing in at a provider
    samples   shown by /metrics: values of this process alone
    probes    conditions of readiness
    writes    shown by /metrics: whether store and database take writes
    opening   awaited before the process reports that it is ready
    asked     called when the API is asked for something
    beside    runs as long as the process does
    closing   called at its end, before the stores are closed
    """

    workers: Workers | None = None
    store: Store | None = None
    totals: SharedTotals | None = None
    api: Api | None = None
    openid: OpenIdSignIn | None = None
    samples: tuple[Callable[[], Samples], ...] = ()
    probes: tuple[Probe, ...] = ()
    writes: tuple[WriteCheck, ...] = ()
    opening: tuple[Callable[[], Awaitable[None]], ...] = ()
    asked: tuple[Callable[[], None], ...] = ()
    beside: tuple[Callable[[], Coroutine[None, None, None]], ...] = ()
    closing: tuple[Callable[[], Awaitable[None]], ...] = ()
