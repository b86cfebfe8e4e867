"""The address of an upstream, parsed from its base URL once."""

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]+", re.ASCII)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*", re.ASCII)
_DOT_SEGMENTS: Final = frozenset({".", ".."})


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAddress:
    """A parsed base URL.

    host          name or address to connect to, an IPv6 address without brackets; also the name TLS verifies
    host_header   value of Host: brackets around IPv6, the port only if it is not the scheme's own
    path_prefix   "" or "/something", without a trailing slash; stands before every route's path
    """

    host: str
    port: int
    is_tls: bool
    host_header: str
    path_prefix: str

    @classmethod
    def from_base_url(cls, base_url: str) -> Self:
        """Parse. Raises ValueError with the reason, never with the URL (it could hold a password)."""
        try:
            parts = urlsplit(base_url)
            port = parts.port
        except ValueError as error:
            raise ValueError("base_url is not a URL") from error
        if parts.scheme not in {"http", "https"}:
            raise ValueError("base_url must begin with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise ValueError("base_url must not hold a user name or password")
        if parts.query or parts.fragment:
            raise ValueError("base_url must not have a query or fragment")
        host = parts.hostname or ""
        if _HOST.fullmatch(host) is None:
            raise ValueError("base_url must name an ASCII host")
        prefix = parts.path.rstrip("/")
        if _PREFIX.fullmatch(prefix) is None or not _DOT_SEGMENTS.isdisjoint(prefix.split("/")):
            raise ValueError("base_url has a path with dot segments, empty segments or characters that need encoding")
        is_tls = parts.scheme == "https"
        own_port = 443 if is_tls else 80
        shown = f"[{host}]" if ":" in host else host
        return cls(
            host=host,
            port=own_port if port is None else port,
            is_tls=is_tls,
            host_header=shown if port in {None, own_port} else f"{shown}:{port}",
            path_prefix=prefix,
        )
