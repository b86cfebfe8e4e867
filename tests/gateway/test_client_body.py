"""What of a body is sent, and what is kept until its exchange is settled."""

from typing import Any

from tallygate.gateway.exchange import client_body
from tallygate.gateway.exchange.client_body import KeptBody, MeasuredBody, StreamedBody, UnshownBody


class Sent:
    """A client's response that remembers what was written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


class Timers:
    """A loop whose timers a test runs out."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Any]] = []
        self.cancelled = 0

    def call_later(self, seconds: float, callback: Any) -> "Timers":
        self.due.append((seconds, callback))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def streamed(kind: Any = StreamedBody, *length: int) -> tuple[Any, Sent, Timers]:
    response, loop = Sent(), Timers()
    return kind(response, loop, *length), response, loop


def test_a_stream_goes_down_at_once_until_its_dialects_end() -> None:
    body, sent, loop = streamed()
    body.write(b"one")
    body.write_ended(b"last")
    body.write_ended(b" word")
    body.keep(b"!")
    body.end_body()

    assert (sent.data, body.rest()) == (b"one", b"last word!")
    assert ([seconds for seconds, _ in loop.due], loop.cancelled) == ([client_body.HELD_SECONDS_MAX], 1)


def test_an_upstream_that_does_not_end_after_its_last_word_keeps_nobody_waiting() -> None:
    body, sent, loop = streamed()
    body.write_ended(b"last")
    loop.due[0][1]()
    body.write_ended(b" and more")

    assert (sent.data, body.rest(), len(loop.due)) == (b"last and more", b"", 1)


def test_of_a_length_that_the_client_knows_the_last_piece_is_kept() -> None:
    body, sent, _ = streamed(MeasuredBody, 6)
    body.write(b"abc")
    body.write(b"def")

    assert (sent.data, body.rest()) == (b"abc", b"def")


def test_a_body_is_kept_to_its_bound_and_forgotten_when_its_client_leaves() -> None:
    body = KeptBody(4)
    body.write(b"ab")
    body.write_ended(b"cd")
    assert (body.is_over, body.rest()) == (False, b"abcd")
    body.write(b"e")
    assert body.is_over
    body.clear()
    assert body.rest() == b""


def test_what_may_be_somebody_elses_is_no_rest_to_be_sent() -> None:
    body = UnshownBody()
    body.write(b"theirs")

    assert (body.rest(), body.withheld()) == (b"", b"theirs")
