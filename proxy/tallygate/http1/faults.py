"""Status and message for bytes that a parser refuses, all constants: nothing of the input is echoed.

The parser's own message quotes the offending bytes. Here a refused head is examined once more, so that status and message name
what a person could fix.
"""

import re
from typing import Final, NamedTuple

from tallygate.http1.hosts import authority_of, is_host


class Fault(NamedTuple):
    """Status and message of an answer. is_head: to a HEAD request, which gets no content (RFC 9110 section 9.3.2)."""

    status: int
    message: str
    is_head: bool = False


class HeadLimits(NamedTuple):
    """line: bytes of a request's target, and of a header; fields: number of headers."""

    line: int
    fields: int


MALFORMED: Final = Fault(400, "The request is not valid HTTP/1.1.")
TLS: Final = Fault(400, "This port speaks plain HTTP, and was sent a TLS handshake: use http://, or the address of what ends TLS.")
NO_VERSION: Final = Fault(400, "The request line has no HTTP version: HTTP/0.9 is not spoken here.")
NO_HOST: Final = Fault(400, "The Host header is missing.")
TWO_HOSTS: Final = Fault(400, "The Host header is sent more than once.")
BAD_HOST: Final = Fault(
    400, "The Host header is no host: it must be one name or address (IPv6 in brackets), with or without a port from 1 to 65535."
)
BAD_AUTHORITY: Final = Fault(
    400, "The target's authority is no host: it must be one name or address (IPv6 in brackets), with or without a port."
)
BAD_TARGET: Final = Fault(400, "The request target must be a path, or an http or https URL.")
EXPECTATION: Final = Fault(417, "No expectation is met here but 100-continue.")
LINE_TOO_LONG: Final = Fault(414, "The request line is too long.")
HEAD_TOO_LARGE: Final = Fault(431, "The head of the request is too large.")
INTERNAL: Final = Fault(500, "The request could not be answered.")
UNKNOWN_METHOD: Final = Fault(501, "The request's method is not known here. Methods are in capital letters.")
OTHER_VERSION: Final = Fault(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")

# RFC 9110 section 9.3, RFC 5789. A method that is none of these is not known (501), whether or not a parser knows it.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_SPOKEN: Final = frozenset({b"HTTP/1.1", b"HTTP/1.0"})
_TLS_HANDSHAKE: Final = b"\x16\x03"  # RFC 8446 section 5.1
_HTTP_2: Final = b"PRI * HTTP/2.0\r\n"  # RFC 9113 section 3.4
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_END: Final = b"\r\n\r\n"


def fault_of(data: bytes, limits: HeadLimits, *, is_too_long: bool) -> Fault:
    """The fault of refused bytes. data: from the start of their head, or of an earlier one received with it.

    is_too_long   the parser says that a line is too long
    """
    found: Fault | None = None
    head = b""
    while data and found is None:
        head, end, rest = data.lstrip(b"\r\n").partition(_END)
        found = _fault_of_head(head + end, limits, is_too_long=is_too_long)
        length = _LENGTH.search(head + b"\r\n")
        data = rest[int(length[1]) if length else 0 :]
    return (found or MALFORMED)._replace(is_head=head.startswith(b"HEAD "))


def _fault_of_head(head: bytes, limits: HeadLimits, *, is_too_long: bool) -> Fault | None:
    """head: with the blank line that ends it, if it came."""
    if head.startswith(_TLS_HANDSHAKE):
        return TLS
    if head.startswith(_HTTP_2[: max(len(head), 4)]):
        return OTHER_VERSION
    line, is_whole, fields = head.partition(b"\r\n")
    method, _, rest = line.partition(b" ")
    if not rest or _TOKEN.fullmatch(method) is None:
        return MALFORMED
    target, _, version = rest.partition(b" ")
    if len(target) > limits.line or (is_too_long and len(line) > limits.line):
        return LINE_TOO_LONG
    if is_whole and not version:
        return NO_VERSION
    if version and is_whole and _VERSION.fullmatch(version) is None:
        return MALFORMED
    if method.decode("latin-1") not in METHODS:
        return UNKNOWN_METHOD
    if version and is_whole and version not in _SPOKEN:
        return OTHER_VERSION
    authority = authority_of(target.decode("latin-1"))
    if authority is not None and not is_host(authority.encode("latin-1")):
        return BAD_AUTHORITY
    return _fault_of_fields(fields, limits, is_http_1_0=version == b"HTTP/1.0", is_too_long=is_too_long)


def _fault_of_fields(fields: bytes, limits: HeadLimits, *, is_http_1_0: bool, is_too_long: bool) -> Fault | None:
    lines = fields.removesuffix(_END).split(b"\r\n")
    if len(lines) > limits.fields or (is_too_long and any(len(line) > limits.line for line in lines)):
        return HEAD_TOO_LARGE
    named = [line.partition(b":") for line in lines]
    hosts = [value.strip(b" \t") for name, _, value in named if name.lower() == b"host"]
    if len(hosts) > 1:
        return TWO_HOSTS
    if not fields.endswith(_END) and fields != b"\r\n":
        return None
    if not hosts:
        return None if is_http_1_0 else NO_HOST
    return None if is_host(hosts[0]) else BAD_HOST
