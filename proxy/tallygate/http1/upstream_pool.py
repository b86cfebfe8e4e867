"""The connections to one upstream: keep-alive, bounded, the most recently used first."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

from tallygate.config.model import Upstream
from tallygate.http1.proxy_tunnel import ProxyTunnel
from tallygate.http1.upstream_address import UpstreamAddress
from tallygate.http1.upstream_connection import UpstreamConnection
from tallygate.http1.upstream_failure import FailureKind, UpstreamPoolFullError, UpstreamUnreachableError
from tallygate.outbound.connect_failure import reason_of
from tallygate.outbound.way_out import ProxyServer, tls_context

WAITING_MAX: Final = 1_000  # requests queued for a connection; one more is refused at once
PROBE_AFTER_S: Final = 0.05  # a connection idle for longer is asked whether its peer has closed it; under load none is
AGES: Final = 16  # that connections reach
TICK_MIN_S: Final = 0.01
TICK_MAX_S: Final = 0.5  # timeouts are noticed this much late at most


def default_ssl_context(ca_pem: str = "") -> ssl.SSLContext:
    """Certificate and host name verified against the system's authorities and these, HTTP/1.1 only."""
    context = tls_context(ca_pem)
    context.set_alpn_protocols(["http/1.1"])
    return context


class UpstreamPool:
    """Keeps at most `pool_max` connections, connecting ones included, and a queue of WAITING_MAX for them, each for `connect_ms`.

    A request that dies on a reused connection is not repeated: it may have been billed. So staleness has to be avoided instead:
    the newest connection is used first, one that sat idle is probed before use, and after pool_idle_ms it is closed. Set that
    below the upstream's own keep-alive time, whose end would race with a request: 15 s is below the common 60 to 75 s, but not
    below the 5 s of a bare Node.js or uvicorn. One timer serves all connections: it compares times, so nothing is armed per
    request or chunk.

    A connection that is always in use would never go where the upstream's name leads by now, and would not be verified again. So
    none is lent after pool_age_ms; up to an eighth earlier, so that those of one burst do not end together. Nginx does so after
    an hour (keepalive_time), Microsoft's guidelines for HttpClient after 15 minutes (PooledConnectionLifetime).
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        loop: asyncio.AbstractEventLoop,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """clock: monotonic seconds, by default the loop's. Raises ValueError for an unusable base_url."""
        self.address = UpstreamAddress.from_base_url(upstream.base_url)
        self._loop = loop
        self._clock = loop.time if clock is None else clock
        self.tls = (ssl_context or default_ssl_context(upstream.ca_pem)) if self.address.is_tls else None
        self._ca_pem = upstream.ca_pem
        self.proxy = upstream.proxy
        self._connections_max = upstream.pool_max
        self._connect_s = upstream.connect_ms / 1000
        self._first_byte_s = upstream.first_byte_ms / 1000
        self._idle_s = upstream.idle_ms / 1000
        self._keep_s = upstream.pool_idle_ms / 1000
        self._age_s = upstream.pool_age_ms / 1000
        self._opened = 0
        self._tick_s = min(max(min(self._first_byte_s, self._idle_s, self._keep_s) / 4, TICK_MIN_S), TICK_MAX_S)
        self._open: set[UpstreamConnection] = set()
        self._idle: dict[UpstreamConnection, None] = {}  # ordered: the least recently used is first
        self._connecting = 0  # places of connections that are not open yet
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._emptied = asyncio.Event()
        self._emptied.set()

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    async def acquire(self) -> UpstreamConnection:
        """An idle or a new connection; the caller sends on it at once, or aborts it. Does not suspend if one is idle.

        Raises UpstreamUnreachableError (also of kind TIMEOUT) and UpstreamPoolFullError; in all of them nothing was sent.
        """
        if (connection := self._take_idle()) is not None:
            return connection
        deadline = self._loop.time() + self._connect_s
        while True:
            if self._is_closed:
                raise UpstreamPoolFullError(FailureKind.OVERLOADED, "the gateway is shutting down")
            if self._has_place():
                self._connecting += 1
                break
            granted = await self._wait(deadline)
            if granted is None:
                break
            if granted.is_usable:
                return granted
        return await self._connect(deadline)

    def expire(self, now: float) -> None:
        """Close connections idle for too long, fail exchanges whose upstream is silent. The pool's own timer calls this."""
        kept_from = now - self._keep_s
        while self._idle and (oldest := next(iter(self._idle))).idle_since <= kept_from:
            del self._idle[oldest]
            oldest.abort()
        for connection in list(self._open):
            connection.check_timeouts(now, first_byte_s=self._first_byte_s, idle_s=self._idle_s)

    def renew_tls(self) -> None:
        """Trust what is trusted now, from the next connection on: the system's authorities may have changed. Takes milliseconds."""
        if self.tls is not None:
            self.tls = default_ssl_context(self._ca_pem)

    def close(self) -> None:
        """Lend no more: idle connections close now, lent ones when their exchange ends; those waiting are refused."""
        self._is_closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(UpstreamPoolFullError(FailureKind.OVERLOADED, "the gateway is shutting down"))
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def wait_closed(self) -> None:
        """Wait, after `close`, until the last connection is gone. Without bound: exchanges have their own timeouts."""
        await self._emptied.wait()

    # ConnectionOwner

    def connection_opened(self, connection: UpstreamConnection) -> None:
        self._opened += 1
        connection.retire_at = self._clock() + self._age_s * (1 - self._opened % AGES / (8 * AGES))
        self._open.add(connection)
        self._emptied.clear()
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)

    def connection_idle(self, connection: UpstreamConnection) -> None:
        now = self._clock()
        if self._is_closed or now >= connection.retire_at or not connection.is_usable:
            connection.abort()
            return
        connection.idle_since = now
        if not self._grant(connection):
            self._idle[connection] = None

    def connection_closed(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._grant_place()
        if not self._open:
            self._emptied.set()

    def _take_idle(self) -> UpstreamConnection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_usable and not (
                self._clock() - connection.idle_since > PROBE_AFTER_S and connection.has_unread_input()
            ):
                return connection
            connection.abort()
        return None

    async def _connect(self, deadline: float) -> UpstreamConnection:
        """Open a connection, for which a place is already counted in _connecting."""
        address = self.address
        connection = UpstreamConnection(self, self._clock)
        try:
            async with asyncio.timeout_at(deadline):
                if self.proxy is None:
                    await self._loop.create_connection(
                        lambda: connection,
                        address.host,
                        address.port,
                        ssl=self.tls,
                        server_hostname=address.host if self.tls is not None else None,
                    )
                elif self.tls is None:
                    await self._loop.create_connection(lambda: connection, self.proxy.host, self.proxy.port)
                else:
                    await self._connect_through(self.proxy, self.tls, connection)
        except BaseException as error:
            connection.abort()
            if (failure := self._failure_of(error)) is None:
                raise
            raise failure from error
        finally:
            self._connecting -= 1
            self._grant_place()
        return connection

    async def _connect_through(self, proxy: ProxyServer, context: ssl.SSLContext, connection: UpstreamConnection) -> None:
        """Start TLS with the upstream inside a tunnel: the proxy sees only the destination."""
        tunnel = ProxyTunnel(proxy, self.address, self._loop)
        try:
            await self._loop.create_connection(lambda: tunnel, proxy.host, proxy.port)
            outer = await tunnel.opened
            inner = await self._loop.start_tls(outer, connection, context, server_hostname=self.address.host)
        except BaseException:
            tunnel.opened.cancel()
            if tunnel.transport is not None:
                tunnel.transport.abort()
            raise
        if inner is None:  # the connection ended while it began
            raise UpstreamUnreachableError(FailureKind.UNREACHABLE, "the upstream cannot be reached")
        connection.connection_made(inner)

    def _failure_of(self, error: BaseException) -> UpstreamUnreachableError | None:
        """What is raised for an error of connecting; None: the error itself."""
        if isinstance(error, UpstreamUnreachableError):  # of the tunnel
            kind, message, reason = error.failure.kind, error.failure.message, error.failure.message
        elif isinstance(error, TimeoutError):
            kind, message, reason = FailureKind.TIMEOUT, "the upstream did not accept a connection in time", reason_of(error)
        elif isinstance(error, OSError):
            is_tls = isinstance(error, ssl.SSLError)
            message = "the upstream's TLS certificate or handshake failed" if is_tls else "the upstream cannot be reached"
            kind, reason = FailureKind.UNREACHABLE, reason_of(error)
        else:
            return None
        if self.proxy is not None:
            reason = f"through the proxy {self.proxy.host}:{self.proxy.port}: {reason}"
        return UpstreamUnreachableError(kind, message, reason=reason)

    async def _wait(self, deadline: float) -> UpstreamConnection | None:
        """A connection handed over, or None: a place for a new one, already counted in _connecting."""
        if len(self._waiting) >= WAITING_MAX:
            raise UpstreamPoolFullError(FailureKind.OVERLOADED, "too many requests are waiting for this upstream")
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:  # granted in the same tick: pass it on
                if (granted := waiter.result()) is None:
                    self._connecting -= 1
                    self._grant_place()
                elif granted.is_usable:
                    self.connection_idle(granted)
            if isinstance(error, TimeoutError):
                raise UpstreamPoolFullError(FailureKind.OVERLOADED, "every connection to this upstream is in use") from error
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _grant(self, connection: UpstreamConnection | None) -> bool:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _has_place(self) -> bool:
        return len(self._open) + self._connecting < self._connections_max

    def _grant_place(self) -> None:
        if self._has_place() and self._grant(None):
            self._connecting += 1

    def _tick(self) -> None:
        self._timer = None
        self.expire(self._clock())
        if self._open:
            self._timer = self._loop.call_later(self._tick_s, self._tick)
