"""A multipart form, read as it comes: its fields, and where its files are. What several parsers could read differently is refused.

RFC 7578 and RFC 2046 section 5.1. A file is never parsed, and needs not be kept: its fields decide what a request costs, so what is
read of them must be what any server reads. Names are plain and come once, none is spelt a second way, values are UTF-8 and uncoded.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import msgspec

from tallygate.dialects.form_fields import HEAD_BYTES_MAX, PARTS_MAX, boundary_of, unreadable
from tallygate.dialects.references import folded, kind_of_field
from tallygate.domain.errors import RequestRejectedError

KEPT_BYTES_MAX: Final = 8 << 20  # a smaller form is always kept whole, so that its fields may come in any order
FIELDS_BYTES_MAX: Final = 4 << 20  # of all fields together: prompts of 32,000 characters, four voices of ten seconds in base64
_LINE_END, _HEAD_END, _CLOSING = b"\r\n", b"\r\n\r\n", b"--"
_OPENED: Final = re.compile(rb"[ \t]*\r\n")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_NAME: Final = re.compile(rb"[A-Za-z0-9_.\[\]-]{1,128}")
_NAMED: Final = re.compile(rb"(?<![A-Za-z0-9_-])name[*\d]*\s*=", re.IGNORECASE)
_DISPOSITION: Final = re.compile(
    rb"form-data((?:[ \t]*+;[ \t]*+[A-Za-z]++\*?+[ \t]*+=[ \t]*+(?:\"(?:[^\"\\]|\\.)*+\"|[^\s;\"\\]++))++)[ \t]*+;?+[ \t]*+",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(rb";[ \t]*([A-Za-z]+\*?)[ \t]*=[ \t]*(\"(?:[^\"\\]|\\.)*\"|[^\s;\"\\]+)")
_PLAIN_TEXT: Final = re.compile(r"text/plain(?:\s*;\s*charset\s*=\s*\"?(?:utf-?8|us-ascii|(iso-8859-1))\"?)?", re.IGNORECASE)
_UNCODED: Final = frozenset({b"binary", b"8bit", b"7bit"})
_CHARSET_FIELD: Final = "_charset_"  # RFC 7578 section 4.6: it would change how the others are read


class FormRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a dialect reads of a form.

    fields       names of fields, each at most once
    files        names of files: those that end in `[]` any number of times, others at most once
    needed       fields without which nothing can be held: a file streams only if they came before it
    keeps_files  what is held depends on the files, so none streams
    files_max    so many are held where files stream: further ones are refused
    """

    fields: frozenset[str]
    files: frozenset[str]
    needed: frozenset[str] = frozenset()
    keeps_files: bool = False
    files_max: int = PARTS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFile:
    """A file of a form. start, end: of its bytes in the body; end is -1 while it is still to come."""

    name: str
    content_type: str
    start: int
    end: int = -1


@dataclass(slots=True, kw_only=True)
class Form:
    """A form, as far as it was read.

    fields   those that the dialect reads; others: further ones, each by its name
    files    in their order; unknown ones too
    body     as far as it was kept; set once that is all that will be
    size     of the whole request in bytes; None if unknown
    """

    fields: dict[str, str] = field(default_factory=dict)
    others: list[tuple[str, str]] = field(default_factory=list)
    files: list[FormFile] = field(default_factory=list)
    body: bytes = b""
    size: int | None = None

    def content(self, file: FormFile) -> bytes:
        """The bytes of a file that was kept."""
        return self.body[file.start : file.end] if file.end >= 0 else b""

    def text_chars(self) -> int:
        return sum(map(len, self.fields.values())) + sum([len(value) for _, value in self.others])


class _At(Enum):
    START = 1
    HEAD = 2
    CONTENT = 3
    END = 4


class FormReader:
    """Reads one form, in any pieces.

    is_ready   a file has begun that streams: what decides the cost has come, and is refused where it comes later
    is_ended   the closing boundary has come
    content_type   the header of the form as it was read: the boundary alone
    """

    def __init__(self, content_type: str, rules: FormRules, *, size: int | None = None) -> None:
        """Read the boundary from `content_type`, the whole header. Raises RequestRejectedError."""
        self.form = Form(size=size)
        self.is_ready = False
        self._rules = rules
        self._spellings = {_spelling(name): name for name in rules.fields | rules.files}
        boundary = boundary_of(content_type)
        self.content_type = b"multipart/form-data; boundary=" + (boundary if _TOKEN.fullmatch(boundary) else b'"%s"' % boundary)
        self._mark = b"--" + boundary
        self._rest = b""  # what cannot be decided yet
        self._rest_at = 0  # its place in the body
        self._at = _At.START
        self._parts = 0
        self._field: str | None = None  # the name of the field that is being read
        self._is_latin = False  # that field
        self._files_max = rules.files_max
        self._blanks = 0  # behind the last boundary
        self._pieces: list[bytes] = []
        self._fields_bytes = 0
        self._streams = not rules.keeps_files and (size is None or size > KEPT_BYTES_MAX)

    @property
    def is_ended(self) -> bool:
        return self._at is _At.END

    def feed(self, data: bytes) -> None:
        """Read a piece. Raises RequestRejectedError, whose `param` is the field at fault."""
        text, at = self._rest + data, 0
        while True:
            if self._at is _At.CONTENT:
                after = self._read_content(text, at)
            elif self._at is _At.HEAD:
                after = self._read_head(text, at)
            elif self._at is _At.START:
                after = self._read_start(text)
            elif text[at:].strip(b" \t\r\n"):
                raise unreadable("something follows its last boundary")
            else:
                self._blanks += len(text) - at
                if self._blanks > HEAD_BYTES_MAX:
                    raise unreadable(f"more than {HEAD_BYTES_MAX} blanks follow its last boundary")
                self._rest, self._rest_at = b"", self._rest_at + len(text)
                return
            if after < 0:
                at = max(at, self._undecided(text, at))
                break
            at = after
        self._rest, self._rest_at = text[at:], self._rest_at + at

    def end_form(self) -> None:
        """Note that nothing more comes. Raises RequestRejectedError for a form that is not complete."""
        if self._at is not _At.END:
            raise unreadable("it breaks off before its last boundary")

    def _undecided(self, text: bytes, at: int) -> int:
        """Where the part of `text` begins that has to wait for more; what is before it is content."""
        if self._at is not _At.CONTENT:
            return at
        known = max(at, len(text) - len(self._mark) - 1)
        self._add(text[at:known])
        return known

    def _read_start(self, text: bytes) -> int:
        begun = text.lstrip(_LINE_END)
        if not begun.startswith(self._mark):
            if not self._mark.startswith(begun) or len(text) - len(begun) > HEAD_BYTES_MAX:
                raise unreadable("it must begin with its boundary")
            return -1
        self._at = _At.HEAD
        return len(text) - len(begun) + len(self._mark)

    def _read_head(self, text: bytes, at: int) -> int:
        """Read what follows a boundary: the head of a part, or what makes it the last one."""
        if len(text) - at < len(_CLOSING):
            return -1
        if text.startswith(_CLOSING, at):
            self._at = _At.END
            return at + len(_CLOSING)
        end = text.find(_HEAD_END, at, at + HEAD_BYTES_MAX)
        if end < 0:
            if len(text) - at >= HEAD_BYTES_MAX:
                raise unreadable(f"the head of a part is unclear, or longer than {HEAD_BYTES_MAX} bytes")
            return -1
        opened = _OPENED.match(text, at)
        if opened is None or opened.end() > end:
            raise unreadable("a boundary is followed by something else, or a part has no head")
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise unreadable(f"it has more than {PARTS_MAX:,} parts")
        if self._mark in text[opened.end() : end]:
            raise unreadable("a boundary is in the head of a part")
        self._at = _At.CONTENT
        after = end + len(_HEAD_END)
        self._begin_part(text[opened.end() : end], start=self._rest_at + after)
        return after

    def _read_content(self, text: bytes, at: int) -> int:
        found = text.find(self._mark, at)
        if found < 0:
            return -1
        end = found - len(_LINE_END)
        if end < at or not text.startswith(_LINE_END, end):
            raise unreadable("its boundary is inside of a part")
        self._add(text[at:end])
        self._end_part(end=self._rest_at + end)
        self._at = _At.HEAD
        return found + len(self._mark)

    def _begin_part(self, head: bytes, *, start: int) -> None:
        name, is_file, content_type = _read_part_head(head)
        self._check_name(name)
        rules, form = self._rules, self.form
        if is_file:
            if name in rules.fields:
                raise RequestRejectedError(f"The form's field '{name}' must not be a file.", param=name)
            if name in rules.files and not name.endswith("[]") and any(file.name == name for file in form.files):
                raise _twice(name)
            if self.is_ready and len(form.files) >= self._files_max:
                raise RequestRejectedError(f"The form has more than {self._files_max} files.", param=name)
            form.files.append(FormFile(name=name, content_type=content_type, start=start))
            if not self.is_ready and self._streams and form.fields.keys() >= rules.needed:
                self.is_ready = True
                self._files_max = max(rules.files_max, len(form.files))
            return
        if name in rules.files:
            raise RequestRejectedError(f"The form's part '{name}' must be a file, with a `filename`.", param=name)
        if name in rules.fields:
            if self.is_ready:
                message = f"The form's field '{name}' came after a file: send fields first, since they decide what is held."
                raise RequestRejectedError(message, param=name)
            if name in form.fields:
                raise _twice(name)
            plain = _PLAIN_TEXT.fullmatch(content_type) if content_type else None
            if content_type and plain is None:
                raise RequestRejectedError(f"The form's field '{name}' must be plain text in UTF-8.", param=name)
            self._is_latin = plain is not None and plain[1] is not None
        self._field = name

    def _end_part(self, *, end: int) -> None:
        form = self.form
        name, self._field = self._field, None
        if name is None:
            last = form.files[-1]
            form.files[-1] = FormFile(name=last.name, content_type=last.content_type, start=last.start, end=end)
            return
        value = b"".join(self._pieces)
        self._pieces.clear()
        if name not in self._rules.fields:
            form.others.append((name, value.decode(errors="replace")))
            return
        try:
            form.fields[name] = value.decode("ascii" if self._is_latin else "utf-8")  # in which both are the same
        except UnicodeDecodeError:
            raise RequestRejectedError(
                f"The form's field '{name}' is not valid UTF-8, or states another charset.", param=name
            ) from None

    def _add(self, data: bytes) -> None:
        """Keep content of a field; that of a file passes."""
        if self._field is None or not data:
            return
        self._fields_bytes += len(data)
        if self._fields_bytes > FIELDS_BYTES_MAX:
            raise unreadable(f"its fields have more than {FIELDS_BYTES_MAX:,} bytes")
        if not self.is_ready:
            self._pieces.append(data)

    def _check_name(self, name: str) -> None:
        if name in self._rules.fields or name in self._rules.files:
            return
        known = self._spellings.get(_spelling(name))
        if known is not None:
            message = f"Unknown field '{name}' of the form: some servers would read it as '{known}'. Spell it so, or leave it out."
            raise RequestRejectedError(message, param=name)
        if name.lower() == _CHARSET_FIELD:
            raise RequestRejectedError("The form must be in UTF-8, without a field that states another charset.", param=name)
        if kind_of_field(name):
            message = f"The form's field '{name}' names a stored object: send such a request as JSON."
            raise RequestRejectedError(message, param=name)


def _read_part_head(head: bytes) -> tuple[str, bool, str]:
    """The name of a part, whether it is a file, and its content type. Raises RequestRejectedError."""
    disposition: bytes | None = None
    content_type: bytes | None = None
    for line in head.split(_LINE_END):
        if b"\r" in line or b"\n" in line or b"\0" in line or line[:1] in (b" ", b"\t"):
            raise unreadable("the head of a part has a folded line, or line ends other than CRLF")
        label, colon, value = line.partition(b":")
        label, value = label.lower(), value.strip(b" \t")
        if not colon or label != label.strip():
            raise unreadable("the head of a part has a line that is no header")
        if label == b"content-disposition":
            if disposition is not None:
                raise unreadable("a part has two names")
            disposition = value
        elif label == b"content-type":
            if content_type is not None or value.lower().startswith(b"multipart/"):
                raise unreadable("a part has two types, or parts of its own")
            content_type = value
        elif label == b"content-transfer-encoding" and value.lower() not in _UNCODED:
            raise unreadable("a part is coded")
    found = None if disposition is None else _DISPOSITION.fullmatch(disposition)
    if found is None or len(_NAMED.findall(disposition or b"")) != 1:
        raise unreadable("each part must have one Content-Disposition, `form-data` with one plain name")
    parameters = [(label.lower(), value) for label, value in _PARAMETER.findall(found[1])]
    names = [value.strip(b'"') for label, value in parameters if label == b"name"]
    if len(names) != 1 or _NAME.fullmatch(names[0]) is None:
        raise unreadable("a part's name must be 1 to 128 of A-Z a-z 0-9 _ . [ ] -, and not be coded")
    is_file = any(label.startswith(b"filename") for label, _ in parameters)
    return names[0].decode(), is_file, (content_type or b"").decode("latin-1")


def _spelling(name: str) -> str:
    """A name without case, separators, and all that may stand behind it in brackets."""
    return folded(name.partition("[")[0].replace(".", ""))


def _twice(name: str) -> RequestRejectedError:
    return RequestRejectedError(f"The form has the part '{name}' twice.", param=name)
