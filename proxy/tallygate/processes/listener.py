"""The public port, bound once by the supervisor and inherited by every worker."""

import socket
from typing import Final

BACKLOG: Final = 4096  # connections that wait while workers are busy or restart; the kernel caps it at net.core.somaxconn


class ListenError(Exception):
    """The address cannot be listened on."""


def listen(host: str, port: int) -> socket.socket:
    """A listening, non-blocking TCP socket. Port 0: any free one. Raises ListenError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host in {"", "::"} else 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    bound.setblocking(False)
    return bound


def local_url(address: str, bound: socket.socket | None = None) -> str:
    """The address as a client on this machine would write it. bound: tells the port, if any free one was taken."""
    host, _, port = address.rpartition(":")
    reached = "127.0.0.1" if host in {"", "0.0.0.0", "[::]"} else host  # noqa: S104 - compared
    return f"http://{reached}:{port if bound is None else bound.getsockname()[1]}"
