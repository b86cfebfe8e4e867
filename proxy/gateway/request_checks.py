"""What a request's head must not be, before anything acts on it. Refusals are constant texts: nothing of the input comes back."""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11

from proxy.domain.errors import ErrorCode, Refusal
from proxy.gateway.headers import VIA_PSEUDONYM

TARGET_CHARS_MAX: Final = 8 * 1024
HEADERS_MAX: Final = 100
HEADER_BYTES_MAX: Final = 32 * 1024

_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})
# RFC 3986 section 3.3 and 3.4; square brackets in queries are common and harmless. Nothing else may stand unencoded.
_TARGET: Final = re.compile(
    r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*)?"
)
# Encoded slash, backslash, control characters; encoded percent signs hide one of these from a first decoding.
_HIDDEN: Final = re.compile(r"%(?:2f|5c|25|7f|[01][0-9a-f])", re.IGNORECASE)
_CONTROLS: Final = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"
_SINGLE: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"expect"}
    | {b"authorization", b"x-api-key", b"x-goog-api-key", b"proxy-authorization"}
)


def check_request(request: web.BaseRequest, *, head_bytes_max: int = HEADER_BYTES_MAX) -> Refusal | None:
    """Why this request's head is refused, or None."""
    if request.version not in _VERSIONS:
        return _refusal("The gateway speaks HTTP/1.1 and HTTP/1.0.", status=505)
    return check_target(request.raw_path) or check_headers(
        request.raw_headers, is_http_1_0=request.version < HttpVersion11, bytes_max=head_bytes_max
    )


def check_target(target: str) -> Refusal | None:
    """Origin-form only, nothing hidden: what the route table sees must be what any server behind would see."""
    if len(target) > TARGET_CHARS_MAX:
        return _refusal(f"The request target is longer than {TARGET_CHARS_MAX} characters.", status=414)
    if not target.startswith("/"):
        return _refusal("The request target must be a path, not a URL, an authority or an asterisk.")
    if _TARGET.fullmatch(target) is None:
        return _refusal("The request target has a fragment, or characters that must be percent-encoded.")
    path = target.partition("?")[0]
    if "%" in path:
        if _HIDDEN.search(path) is not None:
            return _refusal("The path has an encoded slash, backslash, percent sign or control character.")
        path = unquote(path)
    if "/." in path and any(segment.partition(";")[0] in {".", ".."} for segment in path.split("/")):
        return _refusal("The path has a dot segment.")
    return None


def check_headers(
    headers: Sequence[tuple[bytes, bytes]], *, is_http_1_0: bool = False, bytes_max: int = HEADER_BYTES_MAX
) -> Refusal | None:
    """Bounds, framing that two readers could understand differently (RFC 9112 section 6), ambiguous identity, loops."""
    if len(headers) > HEADERS_MAX or sum(len(name) + len(value) + 4 for name, value in headers) > bytes_max:
        return _refusal(f"The request has more than {HEADERS_MAX} headers or {bytes_max} bytes of them.", status=431)
    names = [name.lower() for name, _ in headers]
    if b"_" in b"".join(names):
        return _refusal("A header name has an underscore, which some servers take for a hyphen.")
    values = b"".join([value for _, value in headers])
    if len(values.translate(None, _CONTROLS)) != len(values):
        return _refusal("A header value has control characters.")
    found = dict(zip(names, (value for _, value in headers), strict=True))
    if len(found) != len(names) and any(names.count(name) > 1 for name in _SINGLE):
        return _refusal("A header is repeated that may stand only once.")
    if b"host" not in found and not is_http_1_0:
        return _refusal("The Host header is missing.")
    if (length := found.get(b"content-length")) is not None and not (length.isdigit() and len(length) <= 18):
        return _refusal("Content-Length is not a number.")
    if (coding := found.get(b"transfer-encoding")) is not None and (
        length is not None or is_http_1_0 or coding.strip().lower() != b"chunked"
    ):
        return _refusal("Transfer-Encoding must be chunked, alone, without Content-Length, in HTTP/1.1.")
    if b"upgrade" in found:
        return _refusal("The gateway does not switch protocols.")
    if (expected := found.get(b"expect")) is not None and expected.strip().lower() != b"100-continue":
        return _refusal("The gateway meets no expectation but 100-continue.", status=417)
    if b"via" in found and any(name == b"via" and _names_us(value) for name, (_, value) in zip(names, headers, strict=True)):
        return Refusal(
            status=508,
            code=ErrorCode.LOOP_DETECTED,
            message="This request has passed through this gateway before: its upstream leads back to it.",
            should_retry=False,
        )
    return None


def _names_us(via: bytes) -> bool:
    """RFC 9110 section 7.6.3: protocol, then host or pseudonym, then an optional comment."""
    for member in via.decode("latin-1").lower().split(","):
        words = member.split()
        if len(words) > 1 and words[1] == VIA_PSEUDONYM:
            return True
    return False


def _refusal(message: str, *, status: int = 400) -> Refusal:
    return Refusal(status=status, code=ErrorCode.INVALID_REQUEST, message=message, should_retry=False)
