"""Failures to connect, by the errors that servers really cause."""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import ClientConnectorDNSError, ClientSession

from tallygate.outbound.connect_failure import reason_of
from tallygate.outbound.session import FetchError, fetch
from tallygate.outbound.way_out import tls_context

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@asynccontextmanager
async def a_server(certificate: trustme.LeafCert) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def reason_at(port: int, *, ca_pem: str = "") -> str:
    context = tls_context(ca_pem) if ca_pem else ssl.create_default_context()
    with pytest.raises(OSError) as caught:
        await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="api.test")
    return reason_of(caught.value)


@pytest.mark.parametrize(
    ("names", "expires", "trusted", "reason"),
    [
        (["api.test"], PAST, True, "its certificate has expired"),
        (["api.test"], None, False, "its certificate is from an unknown authority"),
        (["other.test"], None, True, "its certificate is for another name"),
    ],
)
async def test_a_certificate_that_is_not_accepted_is_named_by_what_is_wrong(
    names: list[str], expires: dt.datetime | None, trusted: bool, reason: str
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert(*names, not_before=PAST if expires else None, not_after=expires)
    async with a_server(certificate) as port:
        pem = authority.cert_pem.bytes().decode() if trusted else ""
        assert await reason_at(port, ca_pem=pem) == reason


async def test_a_port_at_which_nobody_listens(unused_tcp_port: int) -> None:
    assert await reason_at(unused_tcp_port) == "connection refused"
    async with ClientSession() as session:
        with pytest.raises(FetchError, match=r"^the issuer could not be reached: connection refused$"):
            await fetch(session, "GET", f"http://127.0.0.1:{unused_tcp_port}", whose="the issuer", bytes_max=9, timeout_s=30)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "no connection in time"),
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved: Name or service not known"),
        (ConnectionResetError(104, "reset"), "it closed the connection while it was opened"),
        (OSError(113, "No route to host"), "No route to host"),
        (OSError("Multiple exceptions: one, another"), "Multiple exceptions: one, another"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), "the TLS handshake failed: [SSL: WRONG_VERSION_NUMBER] x"),
        (
            ClientConnectorDNSError(None, socket.gaierror(-3, "Temporary failure")),  # type: ignore[arg-type]
            "its name cannot be resolved: Temporary failure",
        ),
        (KeyError("x"), ""),
    ],
)
def test_errors_by_reason(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason
