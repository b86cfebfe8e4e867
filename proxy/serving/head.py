"""What the head of a request must not be at any port, and what it offers."""

from collections.abc import Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10, HttpVersion11

from proxy.serving.hosts import authority_of, is_host
from proxy.serving.malformed import (
    BAD_AUTHORITY,
    BAD_HOST,
    EXPECTATION,
    METHODS,
    NO_HOST,
    OTHER_VERSION,
    TWO_HOSTS,
    UNKNOWN_METHOD,
    Fault,
)

SPOKEN: Final = frozenset({HttpVersion10, HttpVersion11})
CONTINUE: Final = "100-continue"


def fault_of_request(request: web.BaseRequest) -> Fault | None:
    """Version, method, authority, Host and Expect. The gateway looks at these and more in its `request_checks.py`."""
    if request.version not in SPOKEN:
        return OTHER_VERSION
    if request.method not in METHODS:
        return UNKNOWN_METHOD
    authority = authority_of(request.raw_path)
    if authority is not None and not is_host(authority.encode(errors="replace")):
        return BAD_AUTHORITY
    hosts = [value for name, value in request.raw_headers if name.lower() == b"host"]
    if request.headers.get(hdrs.EXPECT, CONTINUE).strip().lower() != CONTINUE:
        return EXPECTATION
    return fault_of_hosts(hosts, is_http_1_0=request.version < HttpVersion11, is_absolute=authority is not None)


def fault_of_hosts(hosts: Sequence[bytes], *, is_http_1_0: bool, is_absolute: bool = False) -> Fault | None:
    """RFC 9112 section 3.2. hosts: the values of the Host headers; is_absolute: the target names an authority of its own."""
    if len(hosts) > 1:
        return TWO_HOSTS
    if not hosts:
        return None if is_http_1_0 else NO_HOST
    return None if is_host(hosts[0]) or (is_absolute and not hosts[0]) else BAD_HOST


def offers_websocket(request: web.BaseRequest) -> bool:
    """Whether the client would rather speak WebSocket. An offer in HTTP/1.0 is none (RFC 9110 section 7.8); others are ignored."""
    if hdrs.UPGRADE not in request.headers or request.version < HttpVersion11:
        return False
    offers = ",".join(request.headers.getall(hdrs.UPGRADE)).lower().split(",")
    return any(offer.partition("/")[0].strip() == "websocket" for offer in offers)
