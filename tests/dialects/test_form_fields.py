"""The fields of a form that name stored objects are found in any pieces, and nothing that is not plainly a form passes."""

import pytest

from tallygate.dialects.form_fields import HEAD_BYTES_MAX, PARTS_MAX, FormFields
from tallygate.domain.errors import RequestRejectedError

CONTENT_TYPE = "multipart/form-data; boundary=b0"
LONG = "a" * 320


def form(*heads: str, data: bytes = b"x") -> bytes:
    parts = [b"--b0\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head in heads]
    return b"".join(parts) + b"--b0--\r\n"


def read(body: bytes, *, size: int = 1 << 20, content_type: str = CONTENT_TYPE) -> None:
    fields = FormFields(content_type)
    for start in range(0, len(body), size):
        fields.feed(body[start : start + size])


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "head",
    [
        'Content-Disposition: form-data; name="file_id"',
        "content-disposition:form-data;name=file_id",
        f'Content-Disposition: form-data; filename="{LONG}"; name="file_id"',
        'X-Other: y\r\nContent-Disposition : form-data; NAME = "file_ids[]"',
        'Content-Disposition: form-data; name="\\file_id"',
        'Content-Disposition: form-data; name="file%5Fid"',
        'Content-Disposition: form-data; name="tools[0][vectorStoreIds][]"',
        'Content-Disposition: form-data; name="x"; name="container"',
        f"Content-Disposition: form-data; name{' ' * 3_000}x; name=file_id",
        'Content-Disposition: form-data; filename="a\\"b"; name=\'thread-id\'',
    ],
)
def test_a_field_that_names_an_object_is_found(head: str, size: int) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        read(form('Content-Disposition: form-data; name="purpose"', head), size=size)
    assert refused.value.param


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_is_uploaded_is_not_read(size: int) -> None:
    data = b'{"file_id": "f"}\r\n\r\nContent-Disposition: form-data; name="file_id"\r\n--b\r\n--'
    heads = ('Content-Disposition: form-data; name="file"; filename="file_id"\r\nContent-Type: text/plain', "", "X: y")
    read(form(*heads, data=data), size=size)
    quoted = 'multipart/form-data; charset=utf-8; boundary="b0"'
    read(b"\r\n" + form(*heads, data=data) + b"epilogue", size=size, content_type=quoted)


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        b'{"file_ids": ["file-1"]}',
        b'preamble\r\n--b0\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b0--\r\n',
        form('Content-Disposition: form-data;\r\n name="file_id"'),
        form("Content-Disposition:\r\n form-data; name=file_id"),
        form('Content-Disposition: form-data; x=y\nContent-Disposition: form-data; name="file_id"'),
        form("Content-Disposition: form-data; name*=utf-8''file_id"),
        b'--b0\nContent-Disposition: form-data; name="file_id"\n\nx\n--b0--\n' + b"x" * HEAD_BYTES_MAX,
        form(f"X: {'y' * HEAD_BYTES_MAX}"),
        form(*[""] * PARTS_MAX),
    ],
)
def test_what_is_not_plainly_a_form_is_refused(body: bytes, size: int) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        read(body, size=size)
    assert refused.value.param is None


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a; boundary=b",
     "multipart/form-data; boundary=a; boundary*=utf-8''b", f"multipart/form-data; boundary={'a' * 71}"],
)  # fmt: skip
def test_a_form_has_one_boundary(content_type: str) -> None:
    with pytest.raises(RequestRejectedError):
        FormFields(content_type)


def test_browsers_boundaries_are_boundaries() -> None:
    FormFields("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW")
