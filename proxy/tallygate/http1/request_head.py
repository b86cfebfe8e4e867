"""The head of a request to an upstream, built so that no caller's text can add a header or a second request."""

import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from tallygate.http1.header import Names, names_of

# RFC 9110 section 5.6.2 (token), section 5.5 (field value: visible ASCII, obs-text, space, tab), RFC 3986 section 3 (target)
_TOKEN: Final = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
_VALUE: Final = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
_TARGET: Final = (string.ascii_letters + string.digits + "-._~:/?[]@!$&'()*+,;=%").encode()
_HOST: Final = (string.ascii_letters + string.digits + "-._:[]").encode()

# Framing and connection are decided here, never by a caller: RFC 9112 sections 6 and 9.6.
RESERVED_NAMES: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"}
    | {b"upgrade", b"expect"}
)

_LINE_END: Final = b"\r\n"
_CHECKED_MAX: Final = 256  # first lines, and sets of names, remembered as harmless: most requests bring the same ones again


class InvalidRequestHeadError(ValueError):
    """Text that cannot stand in a request head. The message names the place, never the text: it may be a secret."""


def build_request_head(
    method: str,
    target: str,
    host: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    content_length: int | None = None,
    is_chunked: bool = False,
    is_absolute: bool = False,
) -> bytes:
    """Request line and header section, blank line included.

    target          origin-form, already percent-encoded
    content_length  of the body; None with is_chunked False means that there is no body, and no framing is sent
    is_absolute     for a proxy, whose target includes the host
    is_chunked      a streamed body of unknown length
    Raises InvalidRequestHeadError for anything but tokens, visible characters and inner white space, and for names that
    are ours to send (RESERVED_NAMES).
    """
    _check_names(names_of(headers))
    lines = [*_first_lines(method, target, host, is_absolute=is_absolute)]
    lines += map(b": ".join, headers)
    if is_chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif content_length is not None:
        lines.append(b"Content-Length: %d" % content_length)
    lines.append(_LINE_END)
    head = _LINE_END.join(lines)
    # Stripped of what a value may have, all are checked in one pass at C speed: only the ends of our own lines may remain.
    if head.translate(None, _VALUE) != _LINE_END * len(lines):
        raise InvalidRequestHeadError("a header value has control characters")
    return head


def is_token(text: str) -> bool:
    """Return whether a text can be a header's name, or a method."""
    return text != "" and text.isascii() and not text.encode().translate(None, _TOKEN)


@lru_cache(_CHECKED_MAX)
def _check_names(names: Names) -> None:
    if b"".join(names).translate(None, _TOKEN) or b"" in names:
        raise InvalidRequestHeadError("a header name is not a token")
    if not RESERVED_NAMES.isdisjoint(map(bytes.lower, names)):
        raise InvalidRequestHeadError("a framing header cannot be passed on")


@lru_cache(_CHECKED_MAX)
def _first_lines(method: str, target: str, host: str, *, is_absolute: bool) -> tuple[bytes, bytes]:
    if not target.startswith("/") or _ascii(target, "target").translate(None, _TARGET):
        raise InvalidRequestHeadError("the target is not in origin-form or has characters that need encoding")
    if not method or _ascii(method, "method").translate(None, _TOKEN):
        raise InvalidRequestHeadError("the method is not a token")
    if not host or _ascii(host, "host").translate(None, _HOST):
        raise InvalidRequestHeadError("the host is not a name or an address with an optional port")
    return f"{method} {f'http://{host}' if is_absolute else ''}{target} HTTP/1.1".encode("ascii"), f"Host: {host}".encode("ascii")


def _ascii(text: str, what: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError as error:
        raise InvalidRequestHeadError(f"the {what} has characters outside ASCII") from error
