"""The response reader: what counts as a response, where it ends, and that the way it was cut into reads never matters."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_sink import RecordingSink
from search import cases

from tallygate.http1.response_reader import HEAD_BYTES_MAX, HEADERS_MAX, INTERIM_MAX, InvalidResponseError, ResponseReader
from tallygate.http1.upstream_failure import FailureKind

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"
LENGTH_ANSWER = OK + b"Content-Type: application/json\r\nContent-Length: 13\r\nX-Empty:\r\n\r\n" + b'{"a": "\r\n\r\n"}'
CHUNKED_ANSWER = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    + CHUNKED
    + b"Content-Type: text/event-stream\r\n\r\n"
    + b"7\r\ndata: a\r\n2;ext=1\r\n\n\n\r\nE\r\ndata: [DONE]\r\n\r\n0\r\n\r\n"
)


def read(*pieces: bytes, is_head_request: bool = False) -> tuple[RecordingSink, ResponseReader]:
    sink = RecordingSink()
    reader = ResponseReader(sink, is_head_request=is_head_request)
    for piece in pieces:
        reader.feed(piece)
    return sink, reader


def cuts(data: bytes, *at: int) -> list[bytes]:
    edges = [0, *sorted(at), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


@pytest.mark.parametrize(
    ("answer", "body"), [(LENGTH_ANSWER, b'{"a": "\r\n\r\n"}'), (CHUNKED_ANSWER, b"data: a\n\ndata: [DONE]\r\n")]
)
async def test_an_answer_cut_at_any_two_bytes_reads_the_same(answer: bytes, body: bytes) -> None:
    whole, _ = read(answer)
    assert (whole.status, whole.body) == (200, body)
    for first in range(1, len(answer)):
        for second in {first, min(first + 1, len(answer)), min(first + 7, len(answer))}:
            sink, reader = read(*cuts(answer, first, second))
            assert reader.is_complete, (first, second)
            assert (sink.status, sink.headers, sink.body) == (whole.status, whole.headers, body)
            assert reader.is_clean_end, (first, second)


async def test_headers_of_interim_responses_are_not_the_answers() -> None:
    sink, _ = read(CHUNKED_ANSWER)
    assert sink.headers == [(b"Transfer-Encoding", b"chunked"), (b"Content-Type", b"text/event-stream")]


async def test_the_version_of_an_interim_response_is_not_the_answers() -> None:
    _, reader = read(b"HTTP/1.0 100 Continue\r\n\r\n" + CHUNKED_ANSWER)
    assert (reader.is_complete, reader.is_http_1_0) == (True, False)


@pytest.mark.parametrize("answer", [LENGTH_ANSWER, CHUNKED_ANSWER])
async def test_an_answer_is_not_complete_before_its_last_byte(answer: bytes) -> None:
    for end in range(1, len(answer)):
        _, reader = read(answer[:end])
        assert not reader.is_complete, end
        expected = FailureKind.TRUNCATED if reader.headers_seen else FailureKind.RESET
        assert reader.end_of_file() is expected


@pytest.mark.parametrize("answer", [LENGTH_ANSWER, CHUNKED_ANSWER])
@pytest.mark.parametrize("extra", [b"\r\n", b"\n", b"x", b"0\r\n\r\n", OK + b"Content-Length: 6\r\n\r\nstolen"])
async def test_a_byte_after_the_end_is_never_relayed_and_spoils_the_connection(answer: bytes, extra: bytes) -> None:
    whole, _ = read(answer)
    for pieces in ([answer + extra], [answer, extra], [answer[:-1], answer[-1:] + extra], [*cuts(answer + extra, *range(1, 400))]):
        sink, reader = read(*pieces)
        assert reader.is_complete
        assert (sink.body, sink.headers) == (whole.body, whole.headers)
        assert not reader.is_clean_end


async def test_the_body_bytes_of_one_read_are_handed_on_together() -> None:
    sink, _ = read(CHUNKED + b"\r\n1\r\na\r\n1\r\nb\r\n", b"1\r\nc\r\n1\r\n", b"d\r\n")
    assert sink.pieces == [b"ab", b"c", b"d"]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_204_and_304_have_no_body_whatever_they_say(status: bytes) -> None:
    sink, reader = read(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")
    assert reader.is_complete
    assert reader.is_clean_end
    assert sink.content_length == 5


async def test_the_answer_to_head_has_no_body_whatever_it_says() -> None:
    for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        _, reader = read(OK + framing + b"\r\n\r\n", is_head_request=True)
        assert reader.is_complete
        assert reader.is_clean_end
    _, reader = read(OK + b"Content-Length: 5\r\n\r\nhello", is_head_request=True)
    assert not reader.is_clean_end


async def test_without_framing_the_body_ends_with_the_connection() -> None:
    sink, reader = read(OK + b"\r\nhello", b" world")
    assert not reader.is_complete
    assert reader.end_of_file() is None
    assert reader.is_complete
    assert not reader.is_clean_end
    assert sink.body == b"hello world"
    assert sink.keep_alive is False


@pytest.mark.parametrize(
    ("head", "is_clean"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Close, X-A\r\nContent-Length: 1", False),
        (b"HTTP/1.1 200\r\nContent-Length: 1", True),
    ],
)
async def test_keep_alive_follows_version_and_connection_header(head: bytes, is_clean: bool) -> None:
    sink, reader = read(head + b"\r\n\r\nx")
    assert reader.is_complete
    assert (reader.is_clean_end, sink.keep_alive, sink.body) == (is_clean, is_clean, b"x")


async def test_header_values_lose_only_outer_white_space_and_repeated_names_stay_apart() -> None:
    sink, _ = read(OK + b"A: \t b \xe9 c \t\r\na:d\r\nContent-Length: 0\r\n\r\n")
    assert sink.headers == [(b"A", b"b \xe9 c"), (b"a", b"d"), (b"Content-Length", b"0")]


async def test_trailers_are_dropped_and_cost_the_connection() -> None:
    sink, reader = read(CHUNKED + b"\r\n1\r\na\r\n0\r\nX-Key: secret\r\nX-B: c\r\n\r\n")
    assert reader.is_complete
    assert not reader.is_clean_end
    assert sink.headers == [(b"Transfer-Encoding", b"chunked")]


INVALID = {
    "length with chunked": OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked with length": CHUNKED + b"Content-Length: 1\r\n\r\n",
    "differing lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "repeated length": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "list of lengths": OK + b"Content-Length: 1, 1\r\n\r\n",
    "signed length": OK + b"Content-Length: +1\r\n\r\n",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "hexadecimal length": OK + b"Content-Length: 0x1\r\n\r\n",
    "empty length": OK + b"Content-Length:\r\n\r\n",
    "absurd length": OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    "other coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "coding after chunked": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "NUL in value": OK + b"A: b\x00c\r\n\r\n",
    "control in value": OK + b"A: b\x01c\r\n\r\n",
    "bare CR in value": OK + b"A: b\rc\r\n\r\n",
    "obs-fold": OK + b"A: b\r\n c\r\n\r\n",
    "space before colon": OK + b"A : b\r\n\r\n",
    "no name": OK + b": b\r\n\r\n",
    "no colon": OK + b"nonsense\r\n\r\n",
    "name outside ASCII": OK + b"\xc3\xa9: b\r\n\r\n",
    "bare LF": OK + b"A: b\nB: c\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "switching without upgrade": b"HTTP/1.1 101 Switching\r\n\r\n",
    "status 099": b"HTTP/1.1 099 No\r\n\r\n",
    "status 600": b"HTTP/1.1 600 No\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "leading line break": b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "not HTTP at all": b"220 smtp.example ESMTP\r\n",
    "too many fields": OK + b"A: b\r\n" * (HEADERS_MAX + 1) + b"\r\n",
    "too many interim responses": b"HTTP/1.1 103 Early Hints\r\n\r\n" * (INTERIM_MAX + 1),
    "header section too large": OK + b"A: " + b"b" * HEAD_BYTES_MAX + b"\r\n\r\n",
    "endless header section": OK + b"A: " + b"b" * HEAD_BYTES_MAX,
    "chunk size not hexadecimal": CHUNKED + b"\r\nxyz\r\n",
    "negative chunk size": CHUNKED + b"\r\n-1\r\n",
    "empty chunk size": CHUNKED + b"\r\n\r\n",
    "absurd chunk size": CHUNKED + b"\r\n" + b"f" * 17 + b"\r\n",
    "bare LF after chunk size": CHUNKED + b"\r\n1\na\r\n",
    "chunk longer than its size": CHUNKED + b"\r\n1\r\nab\r\n0\r\n\r\n",
    "framing in trailers": CHUNKED + b"\r\n0\r\nContent-Length: 7\r\n\r\n",
    "endless trailers": CHUNKED + b"\r\n0\r\nA: " + b"b" * HEAD_BYTES_MAX + b"b" * HEAD_BYTES_MAX,
}


@pytest.mark.parametrize("answer", INVALID.values(), ids=INVALID.keys())
@pytest.mark.parametrize("size", [None, 1, 100], ids=["at once", "byte by byte", "by hundreds"])
async def test_an_invalid_response_is_refused(answer: bytes, size: int | None) -> None:
    with pytest.raises(InvalidResponseError):
        read(*cuts(answer, *range(0, len(answer), size or len(answer))))


async def test_the_bounds_themselves_are_allowed() -> None:
    head = OK + b"A: b\r\n" * (HEADERS_MAX - 1) + b"Content-Length: 0\r\n\r\n"
    assert read(head)[1].is_complete
    filler = HEAD_BYTES_MAX - len(OK + b"A: \r\nContent-Length: 0\r\n\r\n")
    assert read(OK + b"A: " + b"b" * filler + b"\r\nContent-Length: 0\r\n\r\n")[1].is_complete
    assert read(b"HTTP/1.1 103 Early Hints\r\n\r\n" * INTERIM_MAX + OK + b"Content-Length: 0\r\n\r\n")[1].is_complete


async def test_valid_chunks_before_a_fault_are_handed_on() -> None:
    sink = RecordingSink()
    reader = ResponseReader(sink)
    with pytest.raises(InvalidResponseError):
        reader.feed(CHUNKED + b"\r\n3\r\nabc\r\nzz\r\n")
    assert sink.body == b"abc"


@pytest.mark.parametrize("answer", [LENGTH_ANSWER, CHUNKED_ANSWER, OK + b"\r\nuntil the end"])
async def test_a_closed_reader_calls_nobody(answer: bytes) -> None:
    class LeavingSink(RecordingSink):
        def on_headers(self, *arguments, **named):
            super().on_headers(*arguments, **named)
            reader.close()

    sink = LeavingSink()
    reader = ResponseReader(sink)
    reader.feed(answer)
    assert sink.status == 200
    assert sink.pieces == []


@given(data=st.data(), pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=8), is_chunked=st.booleans())
@settings(max_examples=cases(short=50, steady=150, deep=1_000), deadline=None)
def test_any_body_in_any_chunks_and_reads_arrives_whole(data: st.DataObject, pieces: list[bytes], is_chunked: bool) -> None:
    body = b"".join(pieces)
    if is_chunked:
        answer = CHUNKED + b"\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        answer = OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    at = data.draw(st.lists(st.integers(1, len(answer)), max_size=6))
    sink, reader = read(*cuts(answer, *at))
    assert reader.is_complete
    assert reader.is_clean_end
    assert sink.body == body


@given(st.binary(max_size=200), st.lists(st.integers(1, 200), max_size=4))
@settings(max_examples=cases(short=100, steady=300, deep=1_000), deadline=None)
def test_any_bytes_are_a_response_or_refused(noise: bytes, at: list[int]) -> None:
    for prefix in (b"", b"HTTP/1.1 ", OK, CHUNKED + b"\r\n"):
        answer = prefix + noise
        try:
            read(*cuts(answer, *[cut for cut in at if cut < len(answer)]))
        except InvalidResponseError:
            continue
