"""What is wrong with a head that a parser has refused, whatever the parser said of it."""

import pytest

from tallygate.http1.faults import (
    BAD_AUTHORITY,
    BAD_HOST,
    HEAD_TOO_LARGE,
    LINE_TOO_LONG,
    MALFORMED,
    NO_HOST,
    NO_VERSION,
    OTHER_VERSION,
    TLS,
    TWO_HOSTS,
    UNKNOWN_METHOD,
    Fault,
    HeadLimits,
    fault_of,
)

LIMITS = HeadLimits(line=100, fields=5)
HOST = b"Host: a\r\n"
GOOD = b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nGET "


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"", MALFORMED),
        (b"\r\n\r\n", MALFORMED),
        (b"\x00\xff\xfe\r\n\r\n", MALFORMED),
        (b"hello\r\n\r\n", MALFORMED),
        (b"SSH-2.0-OpenSSH_9.2\r\n", MALFORMED),
        (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", MALFORMED),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n", MALFORMED),
        (b"\x16\x03\x01\x02\x00\x01\x00", TLS),
        (b"\x16\x03", TLS),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", OTHER_VERSION),
        (b"PRI * HTTP", OTHER_VERSION),
        (b"PRI *", OTHER_VERSION),
        (b"PRINT * HTTP/1.1\r\n\r\n", UNKNOWN_METHOD),
        (b"GET /a\r\n", NO_VERSION),
        (b"GET /a HTTP/1.2\r\n" + HOST + b"\r\n", OTHER_VERSION),
        (b"GET /a HTTP/3.0\r\n" + HOST + b"\r\n", OTHER_VERSION),
        (b"GET /a HTTP/0.9\r\n" + HOST + b"\r\n", OTHER_VERSION),
        (b"get /a HTTP/1.1\r\n" + HOST + b"\r\n", UNKNOWN_METHOD),
        (b"BREW /a", UNKNOWN_METHOD),
        (b"BREW /a HTTP/1.1\r\n", UNKNOWN_METHOD),
        (b"GET /" + b"a" * 100, LINE_TOO_LONG),
        (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n" + HOST + b"\r\n", LINE_TOO_LONG),
        (b"GET /" + b"a" * 99 + b" HTTP/1.1\r\n" + HOST + b"\r\n", MALFORMED),
        (b"GET /a HTTP/1.1\r\n" + b"X: y\r\n" * 6, HEAD_TOO_LARGE),
        (b"GET /a HTTP/1.1\r\n\r\n", NO_HOST),
        (b"GET /a HTTP/1.0\r\n\r\n", MALFORMED),
        (b"GET /a HTTP/1.1\r\nX: y\r\n\r\n", NO_HOST),
        (b"GET /a HTTP/1.1\r\nX: y\r\n", MALFORMED),
        (b"GET http://a:x/ HTTP/1.1\r\n" + HOST + b"\r\n", BAD_AUTHORITY),
        (b"GET http://a/ HTTP/1.1\r\n" + HOST + b"\r\n", MALFORMED),
        (b"GET /a HTTP/1.1\r\nHost:a b\r\n\r\n", BAD_HOST),
        (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", BAD_HOST),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"hOST:\ta", TWO_HOSTS),
        (GOOD[:-4] + b"abcd" + b"GET /a HTTP/1.1\r\n\r\n", NO_HOST),
        (GOOD + b"GET /a HTTP/4.0\r\n", OTHER_VERSION),
        (b"\r\n" + GOOD + b"get /a HTTP/1.1\r\n", UNKNOWN_METHOD),
        (GOOD, MALFORMED),
    ],
)
def test_the_fault_of_a_head(head: bytes, fault: Fault) -> None:
    assert fault_of(head, LIMITS, is_too_long=False) == fault


def test_the_parser_alone_knows_how_long_is_too_long() -> None:
    """One parser bounds the target, the other the whole line."""
    start = b"GET /" + b"a" * 90
    assert fault_of(start + b" HTTP/1.1\r\nX: ", LIMITS, is_too_long=True) == LINE_TOO_LONG
    assert fault_of(b"GET /a HTTP/1.1\r\nX: " + b"a" * 200, LIMITS, is_too_long=True) == HEAD_TOO_LARGE
    assert fault_of(start + b" HTTP/1.1\r\nX : y", LIMITS, is_too_long=False) == MALFORMED


def test_an_answer_to_head_is_known_as_such() -> None:
    for head in (b"HEAD /a HTTP/1.1\r\n\r\n", b"HEAD /a HTTP/9.1\r\n", b"\r\nHEAD /a", GOOD + b"HEAD /a"):
        assert fault_of(head.replace(b"GET HEAD", b"aaaaHEAD"), LIMITS, is_too_long=False).is_head
    assert not fault_of(b"GET /a HTTP/1.1\r\n\r\n", LIMITS, is_too_long=False).is_head
