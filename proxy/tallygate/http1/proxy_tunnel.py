"""A tunnel through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6), then bytes as if there were no proxy."""

import asyncio
import re
from typing import Final, cast

from tallygate.http1.upstream_address import UpstreamAddress
from tallygate.http1.upstream_failure import FailureKind, UpstreamUnreachableError
from tallygate.outbound.way_out import ProxyServer

HEAD_BYTES_MAX: Final = 16_384
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r\n)")
_HEAD_END: Final = b"\r\n\r\n"


class ProxyTunnel(asyncio.Protocol):
    """Requests the tunnel once connected. `opened` resolves to its transport or raises UpstreamUnreachableError."""

    def __init__(self, proxy: ProxyServer, address: UpstreamAddress, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[asyncio.Transport] = loop.create_future()
        self._proxy = proxy
        self._address = address
        self._came = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(connect_head(self._proxy, self._address))

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            self._fail("the proxy on the way to the upstream spoke out of turn")
            return
        self._came += data
        if _HEAD_END not in self._came:
            if len(self._came) > HEAD_BYTES_MAX:
                self._fail("the proxy on the way to the upstream gave no answer that can be read")
            return
        found = _STATUS.match(self._came)
        if found is None:
            self._fail("the proxy on the way to the upstream gave no answer that can be read")
        elif not found[1].startswith(b"2"):
            self._fail(f"the proxy on the way to the upstream refused with status {found[1].decode()}")
        elif not self._came.endswith(_HEAD_END):
            self._fail("the proxy on the way to the upstream spoke out of turn")
        elif self.transport is not None:
            self.opened.set_result(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the system's text is not for clients
        self._fail("the proxy on the way to the upstream closed the connection")

    def _fail(self, message: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(UpstreamUnreachableError(FailureKind.UNREACHABLE, message))
        if self.transport is not None:
            self.transport.abort()


def connect_head(proxy: ProxyServer, address: UpstreamAddress) -> bytes:
    """The target has its port always (RFC 9112 section 3.2.3)."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [f"CONNECT {host}:{address.port} HTTP/1.1", f"Host: {host}:{address.port}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")
