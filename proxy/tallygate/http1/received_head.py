"""Checks of a request's head for every port: its target, Host and protocol offers."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from tallygate.http1.faults import (
    BAD_AUTHORITY,
    BAD_HOST,
    BAD_TARGET,
    EXPECTATION,
    METHODS,
    NO_HOST,
    OTHER_VERSION,
    TWO_HOSTS,
    UNKNOWN_METHOD,
    Fault,
)
from tallygate.http1.hosts import authority_of, is_host

SPOKEN: Final = frozenset({HttpVersion10, HttpVersion11})
CONTINUE: Final = "100-continue"
EVERYTHING: Final = "*"  # the target of an OPTIONS request that asks about no resource (RFC 9110 section 9.3.7)


class OriginForm(NamedTuple):
    """The path of a target that came as a URL. host: the URL's, in place of the Host header; None where that is to be refused."""

    path: str
    host: str | None


def in_origin_form(method: str, target: str, hosts: Sequence[bytes], *, is_http_1_0: bool) -> OriginForm | None:
    """The path of a target in absolute-form. None if its authority is no host: the target stays, to be refused.

    RFC 9112, section 3.2.2: a server must accept that form, and ignore the Host for it; section 3.2.4: OPTIONS without a path asks
    about no resource.
    """
    authority = authority_of(target)
    if authority is None or not is_host(authority.encode(errors="replace")):
        return None
    path = target.partition("://")[2][len(authority) :]
    if not path and method == "OPTIONS":
        path = EVERYTHING
    elif not path.startswith("/"):
        path = f"/{path}"
    is_right = hosts == [b""] or fault_of_hosts(hosts, is_http_1_0=is_http_1_0) is None
    return OriginForm(path, authority if is_right else None)


def fault_of_target(target: str) -> Fault | None:
    """The fault of a target that is no path. `in_origin_form` has already converted a valid absolute-form."""
    if target.startswith("/"):
        return None
    return BAD_TARGET if authority_of(target) is None else BAD_AUTHORITY


def fault_of_request(request: web.BaseRequest) -> Fault | None:
    """The fault of version, method, authority, Host or Expect. The gateway checks more in `request_checks.py`."""
    if request.version not in SPOKEN:
        return OTHER_VERSION
    if request.method not in METHODS:
        return UNKNOWN_METHOD
    fault = None if asks_about_nothing(request) else fault_of_target(request.raw_path)
    if fault is not None:
        return fault
    hosts = [value for name, value in request.raw_headers if name.lower() == b"host"]
    if request.headers.get(hdrs.EXPECT, CONTINUE).strip().lower() != CONTINUE:
        return EXPECTATION
    return fault_of_hosts(hosts, is_http_1_0=request.version < HttpVersion11)


def asks_about_nothing(request: web.BaseRequest) -> bool:
    """Return whether it is `OPTIONS *`."""
    return request.raw_path == EVERYTHING and request.method == "OPTIONS"


def fault_of_hosts(hosts: Sequence[bytes], *, is_http_1_0: bool) -> Fault | None:
    """RFC 9112 section 3.2. hosts: the values of the Host headers."""
    if len(hosts) > 1:
        return TWO_HOSTS
    if not hosts:
        return None if is_http_1_0 else NO_HOST
    return None if is_host(hosts[0]) else BAD_HOST


def offers_websocket(request: web.BaseRequest) -> bool:
    """Return whether the client would rather speak WebSocket. An offer in HTTP/1.0 is none (RFC 9110 section 7.8)."""
    if hdrs.UPGRADE not in request.headers or request.version < HttpVersion11:
        return False
    offers = ",".join(request.headers.getall(hdrs.UPGRADE)).lower().split(",")
    return any(offer.partition("/")[0].strip() == "websocket" for offer in offers)
