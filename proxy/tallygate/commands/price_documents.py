"""Prices of another source, read from a file or a URL."""

import asyncio
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tallygate.app.configuration import process_way_out
from tallygate.config.price_source import SourceError
from tallygate.config.settings import load_settings
from tallygate.outbound.session import FetchError, fetch, open_session
from tallygate.outbound.way_out import WayOut

_BYTES_MAX: Final = 64 << 20
_WAIT_S: Final = 60.0  # for all of it


def read_prices_of(source: str) -> Any:
    """The JSON of a file or a URL, numbers as decimals. Raises SourceError, and ConfigError for proxies that cannot be used."""
    if is_url(source):
        way = process_way_out(load_settings({}), os.environ)
        content = asyncio.run(_fetched(source, way))
    else:
        content = _file(Path(source))
    try:
        return json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise SourceError("is no JSON") from None


def is_url(source: str) -> bool:
    return source.lower().startswith(("https://", "http://"))


def shown(source: str) -> str:
    """A source as output and files may name it: a URL without user, password and query, which may be secrets."""
    if not is_url(source):
        return ascii(source)[1:-1]
    try:
        parts = urlsplit(source)
    except ValueError:
        return "the URL"
    return ascii(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")[1:-1]


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or error}") from None
    if len(content) > _BYTES_MAX:
        raise SourceError(f"is larger than {_BYTES_MAX} bytes")
    return content


async def _fetched(url: str, way: WayOut) -> bytes:
    """Fetch by the proxies and authorities of upstreams. Redirects are not followed: they could lead to plain HTTP."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise SourceError("is no URL such as https://prices.example.com/data.json")
    async with open_session(way) as session:
        try:
            return await fetch(session, "GET", url, whose=host, bytes_max=_BYTES_MAX, timeout_s=_WAIT_S)
        except FetchError as error:
            raise SourceError(f"cannot be read: {error}") from None
