import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from splits import pieces_at

from tallygate.dialects.sse import SseEvent, SseParser

STREAMS = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"\n\n", b"data: a", b"data:b", b"data", b": c", b"event: e", b"id: 1", b"\xef\xbb\xbf", b"\xff"]
    ),
    max_size=24,
).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=6)


def parse(*pieces: bytes, event_bytes_max: int = 1 << 20) -> list[SseEvent]:
    parser = SseParser(event_bytes_max=event_bytes_max)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.end_stream()


def test_an_event_has_its_data_its_name_and_its_raw_bytes() -> None:
    stream = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    assert parse(stream) == [SseEvent(stream, b'{"type":"message_stop"}', b"message_stop")]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_line_ending_reads_the_same(newline: bytes) -> None:
    stream = newline.join([b"event: e", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""])
    assert [(event.name, event.data) for event in parse(stream)] == [(b"e", b"1\n2"), (b"", b"3")]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b"data:x", b"x"),
        (b"data: x", b"x"),
        (b"data:  x", b" x"),
        (b"data", b""),
        (b"data:", b""),
        (b"data: a: b", b"a: b"),
        (b"data : x", b""),  # another field, whose name ends in a space
        (b": data: x", b""),
        (b"database: x", b""),
    ],
)
def test_a_field_is_what_stands_before_the_first_colon_less_one_space(line: bytes, data: bytes) -> None:
    assert [event.data for event in parse(line + b"\n\n")] == [data]


def test_a_byte_order_mark_is_skipped_at_the_start_only() -> None:
    mark = b"\xef\xbb\xbf"
    assert [event.data for event in parse(mark + b"data: 1\n\n" + mark + b"data: 2\n\n")] == [b"1", b""]
    assert [event.data for event in parse(mark[:1], mark[1:], b"data: 1\n\n")] == [b"1"]


def test_comments_and_blank_lines_are_events_without_data() -> None:
    events = parse(b": OPENROUTER PROCESSING\n\n\n\ndata: 1\n\n")
    assert [(event.raw, event.data) for event in events] == [
        (b": OPENROUTER PROCESSING\n\n", b""),
        (b"\n", b""),
        (b"\n", b""),
        (b"data: 1\n\n", b"1"),
    ]


def test_an_event_is_handed_out_with_the_byte_that_completes_it() -> None:
    parser = SseParser()
    assert parser.feed(b"data: 1\n") == []
    assert parser.pending_bytes == 8
    assert [event.data for event in parser.feed(b"\ndata: 2")] == [b"1"]
    assert [event.data for event in parser.feed(b"\n\n")] == [b"2"]
    assert parser.pending_bytes == 0


def test_an_event_that_ends_in_cr_waits_for_a_possible_lf() -> None:
    parser = SseParser()
    assert parser.feed(b"data: 1\r\n\r") == []
    assert [event.raw for event in parser.feed(b"\ndata: 2")] == [b"data: 1\r\n\r\n"]


def test_an_unfinished_event_at_the_end_counts() -> None:
    assert [event.data for event in parse(b"data: 1\n\ndata: 2")] == [b"1", b"2"]


@given(stream=STREAMS, cuts=CUTS)
@example(stream=b"data: 1\r\n\r\ndata: 2\r\n\r\n", cuts=[8, 9, 10, 11])
@example(stream=b"data: 1\n\n\ndata: 2\n\n", cuts=[9])
def test_any_split_gives_the_same_events_and_loses_no_byte(stream: bytes, cuts: list[int]) -> None:
    whole = parse(stream)
    assert parse(*pieces_at(stream, cuts)) == whole
    assert parse(*(stream[at : at + 1] for at in range(len(stream)))) == whole
    assert b"".join(event.raw for event in whole) == stream


@given(stream=STREAMS, cuts=CUTS, event_bytes_max=st.integers(4, 40))
def test_an_event_past_the_maximum_is_given_up_alone(stream: bytes, cuts: list[int], event_bytes_max: int) -> None:
    whole = parse(stream, event_bytes_max=event_bytes_max)
    split = parse(*pieces_at(stream, cuts), event_bytes_max=event_bytes_max)
    assert [event for event in split if not event.given_up] == [event for event in whole if not event.given_up]
    assert b"".join(event.raw for event in split) == stream
    assert all(len(event.raw) <= event_bytes_max or (event.given_up and not event.data) for event in whole)
    assert [event for event in whole if not event.given_up] == [
        event for event in parse(stream) if len(event.raw) <= event_bytes_max
    ]


def test_memory_stays_bounded_in_an_endless_event() -> None:
    parser = SseParser(event_bytes_max=1000)
    relayed = b""
    for _ in range(100):
        relayed += b"".join(event.raw for event in parser.feed(b"x" * 100))
        assert parser.pending_bytes <= 1000
    assert len(relayed) == 10_000 - parser.pending_bytes
    events = parser.feed(b"\n\ndata: 1\n\n")
    assert [(event.data, event.given_up) for event in events][-1] == (b"1", False)
