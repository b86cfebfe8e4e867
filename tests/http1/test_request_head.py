"""A request head holds what was asked for, and nothing that a caller could smuggle into it."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search import cases

from tallygate.http1.request_head import RESERVED_NAMES, InvalidRequestHeadError, build_request_head


def test_a_head_reads_as_written() -> None:
    head = build_request_head(
        "POST", "/v1/x?a=%20b", "api.example:8443", [(b"Accept", b"*/*"), (b"X-E", b"\xe9 a\tb")], content_length=0
    )
    assert head == (
        b"POST /v1/x?a=%20b HTTP/1.1\r\nHost: api.example:8443\r\nAccept: */*\r\nX-E: \xe9 a\tb\r\nContent-Length: 0\r\n\r\n"
    )
    assert build_request_head("GET", "/", "[::1]", []) == b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"
    assert b"Transfer-Encoding: chunked\r\n" in build_request_head("POST", "/", "h", [], is_chunked=True)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\x00", b"\xe9", b"a(", *sorted(RESERVED_NAMES), b"HOST", b"Te"])
def test_a_name_that_is_no_token_or_is_framing_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidRequestHeadError):
        build_request_head("GET", "/", "h", [(b"Accept", b"*/*"), (name, b"x")])


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"\x00", b"\x7f", b"\x1b[0m"])
def test_a_value_with_control_characters_is_refused_without_being_shown(value: bytes) -> None:
    with pytest.raises(InvalidRequestHeadError) as refused:
        build_request_head("GET", "/", "h", [(b"Authorization", b"secret" + value)])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("target", ["", "x", "http://evil/x", "/a b", "/a\r\nX: y", "/a#b", "/é", "/\x00", "*", '/"', "/a\\b"])
def test_a_target_that_is_not_origin_form_is_refused(target: str) -> None:
    with pytest.raises(InvalidRequestHeadError):
        build_request_head("GET", target, "h", [])


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "GÉT"])
def test_a_method_that_is_no_token_is_refused(method: str) -> None:
    with pytest.raises(InvalidRequestHeadError):
        build_request_head(method, "/", "h", [])


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a@b", "a\r\nX: y", "é"])
def test_a_host_with_anything_but_name_and_port_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequestHeadError):
        build_request_head("GET", "/", host, [])


@given(
    st.text(max_size=6),
    st.text(max_size=12),
    st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=12)), max_size=4),
)
@settings(max_examples=cases(short=100, steady=300, deep=1_000), deadline=None)
def test_whatever_is_accepted_is_one_request_with_exactly_those_headers(
    method: str, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    try:
        head = build_request_head(method, "/" + path, "h", headers, content_length=0)
    except InvalidRequestHeadError:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(head)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert request.target == ("/" + path).encode()
    expected = [(b"host", b"h"), *((name.lower(), value.strip(b" \t")) for name, value in headers), (b"content-length", b"0")]
    assert list(request.headers) == expected
    assert isinstance(server.next_event(), h11.EndOfMessage)
    assert server.trailing_data == (b"", False)
