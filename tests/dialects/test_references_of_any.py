"""References in what no dialect reads: queries and forms."""

import pytest

from proxy.dialects.references import form_reference, query_references


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ([("after", "f1"), ("limit", "2")], [("file", "f1")]),
        ([("Before_ID", "f1")], [("file", "f1")]),
        ([("chat_id", "own"), ("x", "1;chat_id=theirs")], [("chat", "own"), ("chat", "theirs")]),
        ([("file_ids[]", "f1"), ("file_ids[]", "f2")], [("file", "f1"), ("file", "f2")]),
        ([("after", "")], []),
    ],
)
def test_a_query_names_objects(query: list[tuple[str, str]], found: list[tuple[str, str]]) -> None:
    assert [(named.kind, named.id) for named in query_references(query, listed="file")] == found


@pytest.mark.parametrize(
    "header",
    [
        b'Content-Disposition: form-data; name="file_id"\r\n',
        b"content-disposition:form-data;name=File_Id\r\n",
        b'Content-Disposition: form-data; filename="a"; name="file_ids[]"\r\n',
        b'Content-Disposition: form-data;\r\n name="file_id"\r\n',
        b"Content-Disposition: form-data; name*=utf-8''file%5Fid\r\n",
        b'Content-Disposition: form-data; name="file\\_id"\r\n',
        b"Content-Disposition: form-data; x=" + b"y" * 2_000,
        b"Content-Disposition:\r\n form-data; name=file_id\r\n",
    ],
)
def test_a_form_names_an_object_in_any_spelling(header: bytes) -> None:
    assert form_reference(b"--b\r\n" + header)


@pytest.mark.parametrize(
    "header",
    [
        b'Content-Disposition: form-data; name="file"; filename="file_id.txt"\r\n',
        b'Content-Disposition: form-data; name="purpose"\r\n\r\nfile_id',
        b'{"file_id": "x"}',
        b'Content-Disposition: attachment;\r\n filename="a mail in a file"\r\n',
    ],
)
def test_a_form_that_only_speaks_of_one_names_none(header: bytes) -> None:
    assert not form_reference(b"--b\r\n" + header)
