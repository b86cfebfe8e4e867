"""Traces begin below a valid traceparent, as OpenTelemetry's own reader of it has it, and anew otherwise."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tallygate.telemetry.trace_context import TraceSource

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WHOLE = f"00-{TRACE}-{PARENT}-01"
hexes = st.text("0123456789abcdef", min_size=1, max_size=34)
damaged = st.builds(
    lambda at, with_: WHOLE[:at] + with_ + WHOLE[at + len(with_) :],
    st.integers(0, len(WHOLE)),
    st.text("0f-gA ", min_size=0, max_size=5),
)


def source(ratio: float = 1.0) -> TraceSource:
    return TraceSource(ratio, Random(7).getrandbits)


@given(
    st.one_of(
        damaged,
        st.builds("-".join, st.lists(hexes, min_size=3, max_size=5)),
        st.sampled_from(
            [WHOLE, f" {WHOLE}\t", f"{WHOLE}-x", f"01{WHOLE[2:]}", f"01{WHOLE[2:]}-x", f"ff{WHOLE[2:]}", f"cc{WHOLE[2:]}.x"]
        ),
    )
)
def test_it_reads_what_opentelemetry_reads(header):
    wanted = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header})).get_span_context()
    found = source().begin([header])
    assert found.has_parent == wanted.is_valid
    if wanted.is_valid:
        assert (found.trace_id, found.parent_id) == (wanted.trace_id, wanted.span_id)
        assert found.is_sampled == wanted.trace_flags.sampled


def test_the_call_is_the_parent_of_what_follows():
    trace = source().begin([WHOLE])
    assert trace.traceparent == f"00-{TRACE}-{trace.client_id:016x}-01"
    assert len({trace.parent_id, trace.server_id, trace.client_id}) == 3


@pytest.mark.parametrize(
    "headers", [[], [WHOLE, WHOLE], [""], [WHOLE.upper()], ["00-" + "0" * 32 + WHOLE[35:]], [WHOLE + "-" + "x" * 600]]
)
def test_without_one_valid_header_the_trace_is_new(headers):
    trace = source().begin(headers)
    assert trace.parent_id == 0
    assert trace.trace_id not in {0, int(TRACE, 16)}


def test_flags_that_nobody_knows_end_here_and_that_of_random_ids_goes_on():
    assert source().begin([WHOLE[:-2] + "ff"]).flags == 3


def test_the_ratio_of_new_traces_is_sampled_and_the_decision_is_the_trace_ids():
    tenth = source(0.1)
    traces = [tenth.begin([]) for _ in range(4_000)]
    assert 320 < sum(trace.is_sampled for trace in traces) < 480
    assert all(trace.is_sampled == (trace.trace_id % 2**64 < round(0.1 * 2**64)) for trace in traces)
    assert not any(source(0).begin(headers).is_sampled for headers in ([], [WHOLE]))
