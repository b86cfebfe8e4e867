"""The names of a head's headers, found once."""

from tallygate.http1.header import Headers, names_of


def test_names_are_found_once_and_again_when_a_header_has_come() -> None:
    headers = Headers([(b"Host", b"a"), (b"Accept", b"*/*")])
    found = names_of(headers)
    assert found == (b"Host", b"Accept")
    assert names_of(headers) is found

    headers.append((b"Via", b"1.1 a"))
    assert names_of(headers) == (b"Host", b"Accept", b"Via")
    assert names_of([(b"Host", b"a")]) == (b"Host",)
