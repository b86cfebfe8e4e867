"""Checks of a request's head, before anything acts on it. Refusals are constant texts, which repeat nothing of the input."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import msgspec
from aiohttp import HttpVersion11, web

from tallygate.domain.errors import ErrorCode, PathRefused, Refusal, Refused
from tallygate.gateway.headers import VIA_PSEUDONYM
from tallygate.http1.faults import EXPECTATION, METHODS, OTHER_VERSION, UNKNOWN_METHOD, Fault
from tallygate.http1.header import names_of, values_of
from tallygate.http1.hosts import is_host
from tallygate.http1.received_head import SPOKEN, asks_about_nothing, fault_of_hosts, fault_of_target

TARGET_CHARS_MAX: Final = 8 * 1024
HEADERS_MAX: Final = 100
HEADER_BYTES_MAX: Final = 32 * 1024

# RFC 3986 section 3.3 and 3.4; square brackets in queries are common and harmless. Everything else must be encoded.
_TARGET: Final = re.compile(
    r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*)?"
)
# Encoded backslash, control characters; encoded percent signs hide one of these from a first decoding. The route table decides
# about an encoded slash, which is allowed only in a parameter that matches slashes.
_HIDDEN: Final = re.compile(r"%(?:5c|25|7f|[01][0-9a-f])", re.IGNORECASE)
_CONTROLS: Final = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"
_SINGLE: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"expect"}
    | {b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key", b"proxy-authorization"}
)

_SPECIAL: Final = frozenset({b"transfer-encoding", b"expect", b"via"})
_NAMES_READ_MAX: Final = 256
_PATHS_CHECKED_MAX: Final = 256  # remembered as harmless: most requests are for the same few


class _Names(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the names of a head's headers.

    size      bytes of the names, and of the separators around the values
    host      the index of the Host header, of the last one if there are several; -1 if there is none
    hosts     the number of Host headers
    length    the index of Content-Length; -1 if there is none
    special   the index of each name in _SPECIAL among the headers
    """

    size: int
    has_underscore: bool
    is_repeated: bool
    host: int
    hosts: int
    length: int
    special: tuple[tuple[bytes, int], ...]


@lru_cache(_NAMES_READ_MAX)
def _read_names(names: tuple[bytes, ...]) -> _Names:
    """Read the names once: a client sends the same ones again and again."""
    lower = [name.lower() for name in names]
    joined = b"".join(lower)
    return _Names(
        size=len(joined) + 4 * len(lower),
        has_underscore=b"_" in joined,
        is_repeated=any(lower.count(name) > 1 for name in _SINGLE),
        host=max((index for index, name in enumerate(lower) if name == b"host"), default=-1),
        hosts=lower.count(b"host"),
        length=lower.index(b"content-length") if b"content-length" in lower else -1,
        special=tuple((name, index) for index, name in enumerate(lower) if name in _SPECIAL),
    )


def check_request(request: web.BaseRequest, *, head_bytes_max: int = HEADER_BYTES_MAX) -> None:
    """Refuse a head that two servers could read differently, or that is too large."""
    if request.version not in SPOKEN:
        raise _faulty(OTHER_VERSION)
    if request.method not in METHODS:
        raise _faulty(UNKNOWN_METHOD)
    if not asks_about_nothing(request):
        check_target(request.raw_path)
    check_headers(request.raw_headers, is_http_1_0=request.version < HttpVersion11, bytes_max=head_bytes_max)


def check_target(target: str) -> None:
    """Refuse a target that hides something: any server behind must see what the route table sees."""
    if "?" in target:  # a query may have a key, and changes with each request
        _check_target(target)
    else:
        _check_path(target)


def _check_target(target: str) -> None:
    if len(target) > TARGET_CHARS_MAX:
        raise _refused(f"The request target is longer than {TARGET_CHARS_MAX} characters.", status=414)
    if (fault := fault_of_target(target)) is not None:
        raise _faulty(fault)
    path = target.partition("?")[0]
    if _TARGET.fullmatch(target) is None:
        message = "The request target has a fragment, or characters that must be percent-encoded."
        raise _path_refused(message) if _TARGET.fullmatch(path) is None else _refused(message)
    if "%" in path:
        if _HIDDEN.search(path) is not None:
            raise _path_refused("The path has an encoded backslash, percent sign or control character.")
        path = unquote(path)
    if "/." in path and any(segment.partition(";")[0] in {".", ".."} for segment in path.split("/")):
        raise _path_refused("The path has a dot segment.")


_check_path: Final = lru_cache(_PATHS_CHECKED_MAX)(_check_target)


def check_headers(headers: Sequence[tuple[bytes, bytes]], *, is_http_1_0: bool = False, bytes_max: int = HEADER_BYTES_MAX) -> None:
    """Refuse headers that exceed their bounds, have framing that two parsers could read differently (RFC 9112 section 6), an
    ambiguous identity, or show a loop.
    """
    if len(headers) > HEADERS_MAX:
        raise _too_many(bytes_max)
    names, values = _read_names(names_of(headers)), b"".join(values_of(headers))
    if names.size + len(values) > bytes_max:
        raise _too_many(bytes_max)
    if names.has_underscore:
        raise _refused("A header name has an underscore, which some servers take for a hyphen.")
    if len(values.translate(None, _CONTROLS)) != len(values):
        raise _refused("A header value has control characters.")
    if names.is_repeated:
        raise _refused("A header is repeated that may stand only once.")
    if names.hosts != 1 or not is_host(headers[names.host][1]):
        fault = fault_of_hosts([value for name, value in headers if name.lower() == b"host"], is_http_1_0=is_http_1_0)
        if fault is not None:
            raise _faulty(fault)
    if names.length >= 0 and not ((length := headers[names.length][1]).isdigit() and len(length) <= 18):
        raise _refused("Content-Length is not a number.")
    if names.special:
        found = {name: headers[index][1] for name, index in names.special}
        _check_special(found, headers, has_length=names.length >= 0, is_http_1_0=is_http_1_0)


def _check_special(
    found: dict[bytes, bytes], headers: Sequence[tuple[bytes, bytes]], *, has_length: bool, is_http_1_0: bool
) -> None:
    """Refuse headers with a forbidden value. found: the last value of each name in _SPECIAL."""
    if (coding := found.get(b"transfer-encoding")) is not None and (
        has_length or is_http_1_0 or coding.strip().lower() != b"chunked"
    ):
        raise _refused("Transfer-Encoding must be chunked, alone, without Content-Length, in HTTP/1.1.")
    if (expected := found.get(b"expect")) is not None and expected.strip().lower() != b"100-continue":
        raise _faulty(EXPECTATION)
    if b"via" in found and any(name.lower() == b"via" and _names_us(value) for name, value in headers):
        message = "This request has passed through this gateway before: its upstream leads back to it."
        raise Refused(Refusal(code=ErrorCode.LOOP_DETECTED, message=message, should_retry=False))


def _names_us(via: bytes) -> bool:
    """Return whether `Via` names this gateway. RFC 9110 section 7.6.3: protocol, host or pseudonym, optional comment."""
    for member in via.decode("latin-1").lower().split(","):
        words = member.split()
        if len(words) > 1 and words[1] == VIA_PSEUDONYM:
            return True
    return False


def _too_many(bytes_max: int) -> Refused:
    return _refused(f"The request has more than {HEADERS_MAX} headers or {bytes_max} bytes of them.", status=431)


def _faulty(fault: Fault) -> Refused:
    return _refused(fault.message, status=fault.status)


def _refused(message: str, *, status: int = ErrorCode.INVALID_REQUEST.status) -> Refused:
    return Refused(Refusal(status=status, code=ErrorCode.INVALID_REQUEST, message=message, should_retry=False))


def _path_refused(message: str) -> PathRefused:
    return PathRefused(Refusal(code=ErrorCode.INVALID_REQUEST, message=message, param="path", should_retry=False))
