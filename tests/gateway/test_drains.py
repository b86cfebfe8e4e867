"""Reading on without a client: whatever happens in whatever order, it ends once, and gives back what it took."""

import asyncio
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from recording_metrics import RecordingMetrics

from tallygate.config.model import Upstream
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.registry import dialects
from tallygate.domain.prompt import PromptShape
from tallygate.gateway.exchange.answer_reader import AnswerReader
from tallygate.gateway.exchange.drains import DrainEnd, Drains
from tallygate.gateway.exchange.relay import Relay
from tallygate.gateway.refusals import SHUTTING_DOWN
from tallygate.http1.header import NO_LINES, Lines
from tallygate.http1.upstream_failure import FailureKind, UpstreamFailure
from tallygate.telemetry.metrics import READ_ON, READING_ON

FAILURE = UpstreamFailure(kind=FailureKind.TRUNCATED, message="cut", request_sent=True, headers_seen=True)
FACTS = RequestFacts(model="m", prompt=PromptShape(), stream=True)
UPSTREAM = Upstream(name="default", base_url="http://upstream", drain_bytes=100, drain_org_bytes=80, drain_max=2, drain_org_max=1)


class Quiet:
    """Whatever is called: response, exchange and upstream connection that note nothing but whether they were aborted."""

    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1

    def early_headers(self) -> Lines:
        return NO_LINES

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_named: None


def a_relay(drains: Drains, *, org: str = "acme") -> tuple[Relay, Quiet]:
    quiet: Any = Quiet()
    relay = Relay(
        response=quiet,
        reader=AnswerReader(quiet, dialects()["openai_chat"], FACTS),
        exchange=quiet,
        start_drain=partial(drains.start, org),
        loop=asyncio.get_running_loop(),
        clock=lambda: 0.0,
    )
    relay.connection = quiet
    return relay, quiet


EVENTS = [(b"content-type", b"text/event-stream")]
HAPPENINGS = {
    "client gone": lambda relay: relay.client_gone(),
    "answer begins": lambda relay: relay.on_headers(
        200, [(b"content-type", b"text/event-stream")], keep_alive=True, content_length=None
    ),
    "bytes": lambda relay: relay.on_body(b"data: {}\n\n" * 9),  # more than an organization may have read on
    "upstream failed": lambda relay: relay.on_failure(FAILURE),
    "upstream done": lambda relay: relay.on_complete(),
    "shutdown": lambda relay: relay.cut(SHUTTING_DOWN),
}
ENDS = {"upstream failed", "upstream done", "shutdown"}


@pytest.mark.parametrize("end", sorted(ENDS))
async def test_every_order_ends_once_and_gives_back_what_it_took(end: str) -> None:
    for order in permutations(["client gone", "answer begins", "bytes", end]):
        observed = RecordingMetrics()
        drains = Drains(UPSTREAM, observed)
        relay, connection = a_relay(drains)
        for name in order:
            if relay.connection is None and name != "client gone":
                continue  # a connection tells nothing after its end
            if name == "bytes" and not relay.head.status:
                continue
            HAPPENINGS[name](relay)
        if not relay.ended.done():
            HAPPENINGS[end](relay)
        assert relay.ended.done(), order
        assert relay.ended_at == 0.0
        assert (observed.levels[READING_ON], len(observed.counted[READ_ON]) <= 1) == (0, True), order
        assert connection.aborted <= 1, order
        assert drains.start("acme", is_stream=True) is not None, "all is given back"
        assert drains.count("acme", 80) is None


async def test_past_the_bytes_of_all_or_of_one_no_more_are_read() -> None:
    observed = RecordingMetrics()
    drains = Drains(UPSTREAM, observed)
    mine, other = drains.start("acme", is_stream=True), drains.start("globex", is_stream=True)
    assert mine is not None
    assert other is not None
    assert mine.count(60) is None
    assert other.count(41) is DrainEnd.BYTES
    other.finish(is_complete=False, has_failed=False)
    assert mine.count(21) is DrainEnd.ORG_BYTES
    mine.finish(is_complete=False, has_failed=False)
    assert (observed.levels[READING_ON], observed.counted[READ_ON]) == (0, [DrainEnd.BYTES, DrainEnd.ORG_BYTES])


async def test_one_organization_takes_no_place_from_another() -> None:
    observed = RecordingMetrics()
    drains = Drains(UPSTREAM, observed)
    assert drains.start("acme", is_stream=True) is not None
    assert drains.start("acme", is_stream=True) is None
    assert drains.start("globex", is_stream=True) is not None
    assert drains.start("initech", is_stream=True) is None
    assert observed.counted[READ_ON] == [DrainEnd.ORG_COUNT, DrainEnd.COUNT]


@pytest.mark.parametrize(("is_stream", "seconds"), [(True, 5.0), (False, 600.0)])
async def test_a_stream_has_a_grace_and_another_answer_the_time_to_end(is_stream: bool, seconds: float) -> None:
    drain = Drains(UPSTREAM, RecordingMetrics()).start("acme", is_stream=is_stream)
    assert drain is not None
    assert drain.seconds == seconds
