"""Detection of fields in a multipart form that name stored objects, as it streams through. Uploaded files are not parsed.

RFC 7578 and RFC 2046 section 5.1. Parsers differ in what else they accept as a form (line ends, folded headers, other encodings
of a name), so a form in any other syntax is refused: otherwise a field could be hidden in it.
"""

import re
from typing import Final
from urllib.parse import unquote

from tallygate.dialects.references import kind_of_field
from tallygate.dialects.unread_body import names_producer
from tallygate.domain.errors import RequestRejectedError

HEAD_BYTES_MAX: Final = 4_096  # of one part
PARTS_MAX: Final = 1_000
_BOUNDARY: Final = re.compile(r";\s*boundary\s*=\s*(?:\"([^\"\\]{1,70})\"|([^\s;,\"]{1,70}))\s*(?=;|$)", re.IGNORECASE)
_BOUNDARY_NAMED: Final = re.compile(r"[;\s]boundary[*\d]*\s*=", re.IGNORECASE)
_CHARSET: Final = re.compile(r"[;\s]charset[*\d]*\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)
_READ_AS_IS: Final = frozenset({"utf-8", "utf8", "us-ascii"})
_HEAD_BEGINS: Final = re.compile(rb"[ \t]*\r\n")
_OWN_HEADER: Final = b"content-disposition"
_NAME: Final = re.compile(rb"(?<![A-Za-z0-9_-])name\s*+(\*?)[*\d]*+\s*+=\s*+(\"(?:[^\"\\]|\\.)*\"|[^;\s]*)", re.IGNORECASE)
_LINE_END, _HEAD_END = b"\r\n", b"\r\n\r\n"


class FormFields:
    """Parses one form, in any pieces."""

    def __init__(self, content_type: str) -> None:
        """Read the boundary from `content_type`, the whole header. Raises RequestRejectedError."""
        self._mark = b"--" + boundary_of(content_type)
        self._rest = b""  # possibly part of a boundary or a head that is not complete yet
        self._is_begun = False
        self._is_in_head = False
        self._parts = 0

    def feed(self, data: bytes) -> None:
        """Parse a piece. Raises RequestRejectedError: `param` is a field that names a stored object, None for a malformed form."""
        mark, text, at = self._mark, self._rest + data, 0
        if not self._is_begun:
            text = text.lstrip(_LINE_END)
        while True:
            if self._is_in_head:
                end = _end_of_head(text, at)
                if end < 0:
                    break
                self._is_in_head, at = False, end
            found = text.find(mark, at)
            if not self._is_begun and not (text.startswith(mark) or mark.startswith(text)):
                raise unreadable("it must begin with its boundary")
            if found < 0:
                at = max(at, len(text) - len(mark) + 1)
                break
            self._is_begun = self._is_in_head = True
            self._parts += 1
            if self._parts > PARTS_MAX:
                raise unreadable(f"it has more than {PARTS_MAX:,} parts")
            at = found + len(mark)
        self._rest = text[at:] if self._is_begun else text

    def end_form(self) -> None:
        """Note that nothing more comes: what is cut off names nothing."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names. Raises RequestRejectedError."""
    found = _BOUNDARY.search(content_type)
    if found is None or len(_BOUNDARY_NAMED.findall(content_type)) != 1:
        raise unreadable("its Content-Type must name one boundary")
    if any(each.lower() not in _READ_AS_IS for each in _CHARSET.findall(content_type)):  # by which some servers decode names
        raise unreadable("its Content-Type must name no charset but UTF-8")
    return (found[1] or found[2]).encode("utf-8", "surrogateescape")


def _end_of_head(text: bytes, at: int) -> int:
    """The end of the head that follows a boundary; -1 if it has not come yet. The last boundary has no head."""
    if text.startswith(b"--", at):
        return at
    end = text.find(_HEAD_END, at, at + HEAD_BYTES_MAX)
    if end < 0 and len(text) - at < HEAD_BYTES_MAX:
        return -1
    begins = _HEAD_BEGINS.match(text, at)
    if end < 0 or begins is None:
        raise unreadable(f"the head of a part is unclear, or longer than {HEAD_BYTES_MAX} bytes")
    _check_head(text[begins.end() : end])
    return end + len(_HEAD_END)


def _check_head(head: bytes) -> None:
    for line in head.split(_LINE_END):
        if b"\r" in line or b"\n" in line or line[:1] in (b" ", b"\t"):
            raise unreadable("the head of a part has a folded line, or line ends other than CRLF")
        if line.partition(b":")[0].strip().lower() != _OWN_HEADER:
            continue
        for found in _NAME.finditer(line):
            if found[1]:
                raise unreadable("a part's name must not be encoded")
            name = found[2].strip(b"\"'").replace(b"\\", b"").decode(errors="replace")
            name = unquote(name).strip()
            if names_producer(name):
                message = f"The form's field '{name}' names an item: name it in the query, as `producer_id`."
                raise RequestRejectedError(message, param=name)
            if kind_of_field(name):
                message = f"The form's field '{name}' names a stored object: send such a request as JSON."
                raise RequestRejectedError(message, param=name)


def unreadable(reason: str) -> RequestRejectedError:
    return RequestRejectedError(f"The form cannot be read: {reason}.")
