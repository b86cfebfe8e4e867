"""The benchmark's own arithmetic and parsers: a wrong figure would be believed."""

import json
import sys
from dataclasses import replace

import pytest

from bench.call_counts import CallCounts
from bench.contenders import UnavailableError
from bench.instructions import AT_REST, NAIVE, excesses, lower
from bench.money import BUDGET_NANO_USD, REQUEST_NANO_USD, Burst, Leaving, billed_nano_usd, leaving_body, request_body
from bench.procfs import parse_parent, parse_pss_kib, parse_written
from bench.report import SUBJECT, aims, bars, grids, markdown
from bench.rivals import LITELLM
from bench.run import Figures
from bench.same_work import WORK
from bench.samples import micros_per_unit, percentile, ratio, spread
from bench.steady import answer_length
from bench.streams import EventCount
from bench.tallygate import configuration, sum_of_series
from bench.upstream import ANSWER, ANSWER_TOKENS, BODY, PROMPT_TOKENS, FixedAnswers, Generated
from bench.workload import Target, chat_bodies, http_request, stream_body
from bench.wrk import parse
from tallygate.config.load import ConfigSource
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.tokens.counter import TokenCounter


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = list(range(1, 101))
    assert [percentile(values, part) for part in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_rounds_become_a_median_and_how_far_they_lie_apart() -> None:
    found = spread([12.0, 10.0, 30.0])
    assert (found.median, found.low, found.high) == (12.0, 10.0, 30.0)
    assert found.unrest == pytest.approx(20 / 2 / 12)


def test_cpu_time_is_shared_out_in_microseconds() -> None:
    assert micros_per_unit(1.5, 10_000) == pytest.approx(150)
    with pytest.raises(ValueError, match="nothing was served"):
        micros_per_unit(1.0, 0)


def test_a_ratio_needs_a_base() -> None:
    assert ratio(30, 10) == 3
    assert ratio(30, None) is None


def test_a_process_name_may_hold_anything() -> None:
    assert parse_parent("42 (a) b (c)) S 7 42 42 0 -1 4194304") == 7


def test_the_proportional_set_size_is_found_among_its_parts() -> None:
    text = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:   5000 kB\nPss:            1234 kB\nPss_Dirty:  900 kB\n"
    assert parse_pss_kib(text) == 1234
    with pytest.raises(ValueError, match="no Pss line"):
        parse_pss_kib("Rss: 5 kB")


def test_bytes_that_go_to_disk_are_told_from_those_that_a_process_writes() -> None:
    assert parse_written("wchar: 99\nsyscw: 3\nread_bytes: 4\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n") == 8192


def test_events_are_counted_wherever_the_stream_is_cut() -> None:
    whole = b"HTTP/1.1 200 OK\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    for cut in range(len(whole) + 1):
        count = EventCount()
        count.feed(whole[:cut])
        assert not count.ended or cut == len(whole)
        count.feed(whole[cut:])
        assert (count.events, count.ended) == (3, True)
    one_by_one = EventCount()
    for byte in whole:
        one_by_one.feed(bytes((byte,)))
    assert (one_by_one.events, one_by_one.ended) == (3, True)


def test_the_length_of_an_answer_is_known_from_its_head() -> None:
    assert answer_length(ANSWER) == len(ANSWER)
    assert answer_length(ANSWER[:40]) is None
    assert answer_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n") is None


def test_wrk_tells_its_result_in_one_line() -> None:
    line = 'bench-result {"requests":100,"duration_us":2000000,"bad_status":3,"socket_errors":1,"p50_us":1500,"p99_us":9000}'
    found = parse(f"Running 2s test\n{line}\n")
    assert (found.requests, found.seconds, found.failed, found.p50_ms, found.p99_ms) == (100, 2.0, 4, 1.5, 9.0)
    with pytest.raises(ValueError, match="wrk printed no result"):
        parse("unable to connect")


def test_no_two_requests_ask_the_same() -> None:
    bodies = chat_bodies(500, seed=1)
    assert len(set(bodies)) == 500
    assert bodies == chat_bodies(500, seed=1)


def test_keys_take_turns() -> None:
    target = Target(port=1, keys=("a", "b"))
    requests = [http_request(target, b"{}", turn=turn) for turn in range(3)]
    assert [b"Bearer a\r\n" in request for request in requests] == [True, False, True]
    assert all(request.endswith(b"Content-Length: 2\r\n\r\n{}") for request in requests)


def test_a_proxy_gets_the_head_and_the_body_that_it_wants() -> None:
    target = Target(port=1, keys=("a", "b"), headers=("X-Own: 1",), dress=lambda body, key: body + key.encode())
    assert http_request(target, b"{}", turn=1).endswith(b"\r\nX-Own: 1\r\nContent-Length: 3\r\n\r\n{}b")


def test_the_requests_of_the_money_test_can_cost_what_they_will() -> None:
    """Else a gateway that holds rightly would refuse some, and one that does not would look as if it held."""
    counter = TokenCounter(inline_chars_max=4_096)
    for body in (request_body(), leaving_body()):
        facts = dialects()["openai_chat"].read_request(body, path={}, query={})
        assert counter.upper_bound_prompt(facts.prompt, facts.model) == PROMPT_TOKENS
    counter.close()
    assert json.loads(request_body())["max_tokens"] == ANSWER_TOKENS
    assert b'"prompt_tokens":%d,"completion_tokens":%d' % (PROMPT_TOKENS, ANSWER_TOKENS) in BODY


class KeptConnection:
    """What is asked for later, in order; and a connection whose writes are kept."""

    def __init__(self) -> None:
        self.later, self.written = [], []
        self.write = self.written.append

    def call_later(self, _seconds, call, *values):
        self.later.append(lambda: call(*values))


def test_the_upstream_counts_what_a_provider_would_bill_and_no_more() -> None:
    clock, generated = KeptConnection(), Generated()
    upstream = FixedAnswers(clock, generated)
    upstream.connection_made(clock)
    target = Target(port=1)
    for body in (chat_bodies(1, seed=1)[0], stream_body(chunks=3, every_ms=1, seed=1)):
        upstream.data_received(http_request(target, body, turn=0))
    assert generated == Generated()

    clock.later.clear()
    upstream.data_received(http_request(target, leaving_body(), turn=0))
    clock.later.pop()()  # the caller leaves after the second event
    assert generated == Generated(answers=1, output_tokens=2)
    upstream.data_received(http_request(target, request_body(), turn=0))
    assert generated == Generated(answers=2, output_tokens=2 + ANSWER_TOKENS)
    assert ANSWER not in clock.written[1:]  # the first is of the request without a wish
    clock.later.pop()()
    assert clock.written[-1] == ANSWER
    upstream.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert clock.written[-1].endswith(b'{"answers": 2, "output_tokens": 20}')


def test_a_rival_that_is_not_installed_says_how_it_is() -> None:
    missing = replace(LITELLM, version="0.0")
    with pytest.raises(UnavailableError, match=r"litellm 0\.0 is not installed: make rivals"):
        missing.path()


def test_what_is_over_a_budget_is_told_in_requests() -> None:
    def over(requests: int) -> int:
        billed = billed_nano_usd(Generated(), Generated(answers=requests, output_tokens=requests * ANSWER_TOKENS))
        return Burst(served=requests, refused=0, failed=0, billed_nano_usd=billed, charged_nano_usd=0).over

    assert [over(50), over(51), over(53)] == [0, 1, 3]
    assert BUDGET_NANO_USD < 51 * REQUEST_NANO_USD


def test_money_is_told_for_each_round_that_differs() -> None:
    figures = {"direct": measured(1), SUBJECT: measured(99)}
    assert not any(grid.title.startswith("Money") for grid in grids(figures))
    figures[SUBJECT].bursts = [
        Burst(
            served=served, refused=550, failed=0, billed_nano_usd=served * REQUEST_NANO_USD, charged_nano_usd=REQUEST_NANO_USD * 50
        )
        for served in (50, 53)
    ]
    figures[SUBJECT].leavings = [Leaving(seen=50, billed_nano_usd=4000, charged_nano_usd=1000, output_tokens=9)] * 2
    money = next(grid for grid in grids(figures) if grid.title.startswith("Money"))
    assert money.rows == [(SUBJECT, "50 53", "0", "0 3", "1.000 0.943", "4", "0.250")]


def test_what_each_contender_does_is_told() -> None:
    work = next(grid for grid in grids({"direct": measured(1), SUBJECT: measured(99)}) if grid.title.startswith("What each does"))
    assert [row[0] for row in work.rows] == [SUBJECT]
    assert WORK[SUBJECT].money in work.rows[0]


def test_the_fixed_answer_says_how_long_it_is() -> None:
    assert b"Content-Length: %d\r\n" % len(BODY) in ANSWER


def test_series_of_a_counter_are_added_up() -> None:
    text = '# TYPE a_total counter\na_total{org="x"} 5\na_total{org="y"} 2.0\na_total_created 9\nb_total 7\n'
    assert sum_of_series(text, "a_total") == 7
    assert sum_of_series(text, "b_total") == 7


def test_the_configuration_of_the_benchmark_is_valid(tmp_path) -> None:
    import yaml

    for name, value in configuration(upstream_port=9).items():
        (tmp_path / name).write_text(yaml.safe_dump(value, sort_keys=False))
    source = ConfigSource(
        directory=tmp_path,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        default_url="",
        default_api_key="sk-upstream",
        environ={},
    )
    plan = next(organization.plan for organization in source.load().organizations if organization.plan.id == "limited")
    assert len(plan.rate_limits) == 4
    assert len(plan.spend_limits) == 1


def measured(cpu: float) -> Figures:
    """What a run of two rounds may have found."""
    return Figures(
        request_cpu=[cpu, cpu + 2],
        request_cpu_others={"store": [50.0, 52.0]},
        requests_per_second=[5000.0, 5100.0],
        chunk_cpu=[cpu / 10, cpu / 10],
        chunk_delay_p50_ms=[0.2, 0.2],
        chunk_delay_p99_ms=[0.4, 0.4],
        first_byte_p50_ms=[1.0, 1.0],
        latency_p50_ms=[0.5, 0.5],
        latency_p99_ms=[cpu / 100, cpu / 100],
        idle_bytes=40_000_000,
        stream_bytes=[30_000.0],
        answered=1000,
    )


def test_the_report_compares_with_what_ran_beside() -> None:
    figures = {"direct": measured(1), "nginx": measured(19), "naive aiohttp": measured(199), SUBJECT: measured(99)}
    requests = next(grid for grid in grids(figures) if grid.title.startswith("Requests"))
    row = next(row for row in requests.rows if row[0] == SUBJECT)
    assert row[2:4] == ("5.00", "0.50")
    assert "store 51" in row[4]
    assert f"| {SUBJECT} |" in markdown(figures, conditions={})


def test_a_rival_that_did_not_run_leaves_a_gap_and_no_error() -> None:
    grid = next(grid for grid in grids({"direct": measured(1), SUBJECT: measured(99)}) if grid.title.startswith("Requests"))
    assert grid.rows[1][2:4] == ("\N{EN DASH}", "\N{EN DASH}")


def test_aims_are_compared_with_medians() -> None:
    reached = {aim.name: aim.reached for aim in aims({"direct": measured(1), SUBJECT: measured(99)})}
    assert reached == {
        "CPU per request": 100,
        "CPU per stream chunk": pytest.approx(9.9),
        "added latency, p99": pytest.approx(0.98),
        "memory per open stream": 30,
    }
    assert aims({"direct": measured(1)}) == []


def test_the_longest_bar_is_the_largest_value() -> None:
    short, long = bars({"a": 10.0, "bb": 40.0})
    assert (short.count("█"), long.count("█")) == (8, 32)
    assert bars({}) == []


def test_what_became_dearer_than_is_kept_has_a_sentence() -> None:
    counts = {"instructions": 1_000.0, "python calls": 100.0, "c calls": 50.0}
    kept = {NAIVE["chat request"]: counts, "chat request": counts, "unmetered request": counts}
    assert excesses(kept, kept) == []
    dearer = {**counts, "instructions": 1_050.0, "c calls": 51.0}
    assert excesses(kept, {**kept, "chat request": dearer}) == ["chat request: 1,050.0 instructions, and at most 1,040.0 are kept"]
    another_build = {name: {**counts, "instructions": 1_100.0} for name in kept}
    assert excesses(kept, another_build) == []
    assert excesses(kept, {**kept, "unmetered request": {**counts, "python calls": 105.0}}) == [
        "unmetered request: 105.0 python calls, and at most 104.0 are kept"
    ]


def test_of_two_measurements_the_lower_figures_count() -> None:
    first, second = ({"chat request": {"instructions": ours, "c calls": 50.0}} for ours in (1_050.0, 1_010.0))
    assert lower(first, second) == lower(second, first) == second


def test_what_a_worker_does_at_rest_is_shown_and_not_compared() -> None:
    kept = {NAIVE["chat request"]: {"instructions": 1_000.0}, AT_REST: {"instructions": 1_000.0}}
    assert excesses(kept, {**kept, AT_REST: {"instructions": 4_000.0}}) == []


def test_calls_are_counted_by_their_kind() -> None:
    def called() -> int:
        return len("abc")

    counts = CallCounts()
    sys.setprofile(counts)
    called()
    called()
    sys.setprofile(None)
    assert (counts.python, counts.c) == (2, 3)  # setprofile itself is called at the end
