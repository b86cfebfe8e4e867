"""URLs of servers in configuration files."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from tallygate.config.section import show

# Of every text that http_url and deciding_url accept, as JSON Schemas have them; the functions refuse more.
HTTP_URL: Final = r"^https?://[^\s/@?#\\]+(?:/[^\s?#\\]*)?$"
DECIDING_URL: Final = r"^(?:https://|http://(?:localhost|127\.[0-9.]+|\[[0:]*1\])(?:[:/]|$))[^\s@?#\\]*$"


def http_url(text: str) -> str:
    """An absolute http or https URL without user, query or fragment. Raises ValueError, never quoting a password."""
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("must be a URL such as https://api.example.com") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password: use `auth`")
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid or not text.isascii() or " " in text:
        raise ValueError(f"must be a URL such as https://api.example.com, got {show(text)}")
    if parts.query or parts.fragment or not text.isprintable() or "\\" in text or "/../" in f"{parts.path}/":
        raise ValueError(f"must not have a query, a fragment or dot segments, got {show(text)}")
    return text.rstrip("/")


def url_path(text: str) -> str:
    """Raises ValueError."""
    if not text.startswith("/") or text.startswith("//") or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be a path such as /platform/v2/models, got {show(text)}")
    return text


def deciding_url(text: str) -> str:
    """A URL whose answers identify callers, so that plain HTTP is allowed only to this machine. Raises ValueError."""
    url = http_url(text)
    if not is_private(url):
        raise ValueError("must be an https URL, since whoever answers it decides who may call")
    return url


def is_private(url: str) -> bool:
    """Return whether nobody on the way can read what is sent to a URL: it is https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its address or as `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
