"""What the shared queries count, on a real Prometheus over hours made by hand.

New series, copies of one series, outages, what was taken back, bars that are not over.
"""

import subprocess
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from grafana_words import Moment, promql
from prometheus_server import Prometheus, program, running_prometheus

from grafana.generator import queries

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUESTS, TOKENS, CREDITED = "tallygate_requests_total", "tallygate_tokens_total", "tallygate_tokens_credited_total"
ERRORS, USED = "tallygate_upstream_errors_total", "org:tallygate_spend_used:ratio"
BAR_MINUTES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """values by minute; minutes that are missing were not scraped."""

    metric: str
    labels: dict[str, str]
    values: dict[int, float]
    console: str = "a:9090"


def steps(first: int, last: int, start: float, each: float) -> dict[int, float]:
    """From one minute to another, both included."""
    return {minute: start + (minute - first) * each for minute in range(first, last + 1)}


# By case: each test asks for its own.
HISTORY = {
    "steady": [
        Series(metric=REQUESTS, labels={"org": "acme"}, values=steps(0, 60, 0, 7)),
        Series(metric=REQUESTS, labels={"org": "globex"}, values=steps(0, 60, 1000, 0)),
    ],
    "new": [
        Series(metric=REQUESTS, labels={"org": "acme", "credential": "old"}, values=steps(0, 60, 5, 0)),
        Series(metric=REQUESTS, labels={"org": "acme", "credential": "new"}, values=steps(50, 60, 40, 1)),
    ],
    "copies": [
        Series(metric=REQUESTS, labels={"org": "acme"}, values=steps(0, 60, 0, 7)),
        Series(metric=REQUESTS, labels={"org": "acme"}, values=steps(2, 60, 0, 7), console="b:9090"),
    ],
    "outage": [Series(metric=REQUESTS, labels={"org": "acme"}, values=steps(0, 24, 0, 10) | steps(38, 60, 380, 10))],
    "long outage": [Series(metric=REQUESTS, labels={"org": "acme"}, values=steps(0, 12, 0, 10) | steps(38, 60, 380, 10))],
    "ended": [Series(metric=REQUESTS, labels={"org": "acme"}, values=steps(0, 50, 0, 10))],
    "credited": [
        Series(metric=TOKENS, labels={"org": "acme", "kind": "prompt"}, values=steps(0, 60, 0, 100)),
        Series(metric=CREDITED, labels={"org": "acme", "kind": "prompt"}, values=steps(41, 60, 9, 1)),
        Series(metric=TOKENS, labels={"org": "globex", "kind": "prompt"}, values=steps(0, 60, 0, 1)),
        Series(metric=CREDITED, labels={"org": "globex", "kind": "prompt"}, values=steps(0, 60, 2, 0)),
    ],
    "burst": [Series(metric=REQUESTS, labels={"org": "acme"}, values=steps(0, 30, 0, 1) | steps(31, 64, 132, 2))],
    "weeks": [
        Series(
            metric=REQUESTS, labels={"org": "acme"}, values={minute: (minute + 30_000) / 10 for minute in range(-30_000, 10, 10)}
        )
    ],
    "late": [Series(metric=REQUESTS, labels={"org": "acme"}, values=steps(51, 64, 5, 5))],
    "machines": [
        Series(metric=ERRORS, labels={"kind": "reset"}, values=steps(0, 60, 0, 1)),
        Series(metric=ERRORS, labels={"kind": "reset"}, values=steps(0, 60, 0, 2), console="b:9090"),
        Series(metric=ERRORS, labels={"kind": "timeout"}, values=steps(0, 40, 50, 0) | steps(41, 60, 0, 0)),
    ],
    "leaders": [
        Series(metric=USED, labels={"org": "early"}, values=steps(0, 30, 9, 0) | steps(31, 60, 1, 0)),
        Series(metric=USED, labels={"org": "late"}, values=steps(0, 60, 2, 0)),
    ],
}


def openmetrics(epoch: int) -> str:
    """The history in the text that promtool makes blocks of; minute 0 is at epoch."""
    every = [(case, series) for case, told in HISTORY.items() for series in told]
    lines = []
    for metric in dict.fromkeys(series.metric for _, series in every):
        lines.append(f"# TYPE {metric.removesuffix('_total')} {'counter' if metric.endswith('_total') else 'gauge'}")
        for case, series in every:
            if series.metric == metric:
                labels = {**series.labels, "case": case, "instance": series.console, "job": "tallygate"}
                text = ",".join(f'{name}="{value}"' for name, value in labels.items())
                lines += [f"{metric}{{{text}}} {value} {epoch + 60 * minute}" for minute, value in series.values.items()]
    return "\n".join([*lines, "# EOF\n"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A Prometheus with the history. epoch: minute 0, in Unix seconds, at a whole bar."""

    prometheus: Prometheus
    epoch: int

    def values(self, expression: str, *labels: str, at: float = 60, end: float = 60) -> dict[str, float]:
        """The expression at a minute, by the labels named. end: of the range on display, which begins half an hour before."""
        moment = Moment(start=self.epoch + (end - 30) * 60, end=self.epoch + end * 60)
        text = promql(expression, {}, moment, BAR_MINUTES * 60)
        found = self.prometheus.query(text, at=self.epoch + at * 60)
        return {",".join(one["metric"].get(label, "") for label in labels): float(one["value"][1]) for one in found}

    def bars(self, expression: str, label: str, minutes: Iterable[int], *, end: float) -> dict[str, dict[int, float]]:
        found: dict[str, dict[int, float]] = {}
        for minute in minutes:
            for name, value in self.values(expression, label, at=minute, end=end).items():
                found.setdefault(name, {})[minute] = value
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def past(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Past]:
    directory = tmp_path_factory.mktemp("past")
    epoch = (int(time.time()) // 600 - 36) * 600  # six hours ago: what is newer than three has not been put into blocks
    text = directory / "history.txt"
    text.write_text(openmetrics(epoch), encoding="utf-8")
    make = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(directory / "series")]
    subprocess.run(make, check=True, capture_output=True)
    async with running_prometheus(directory, {"global": {}}, "--storage.tsdb.retention.time=60d") as prometheus:
        yield Past(prometheus=prometheus, epoch=epoch)


def of(case: str, metric: str) -> str:
    return f'{metric}{{case="{case}"}}'


async def test_a_range_counts_what_came_within_it_exactly(past: Past) -> None:
    assert past.values(queries.total_by("org", of("steady", REQUESTS)), "org") == {"acme": 210, "globex": 0}


async def test_a_series_that_is_new_counts_from_nothing(past: Past) -> None:
    """Its first value too, which increase() would miss."""
    assert past.values(queries.total_by("org", of("new", REQUESTS)), "org") == {"acme": 50}


async def test_what_all_consoles_tell_counts_once_by_the_one_that_is_ahead(past: Past) -> None:
    assert past.values(queries.total_by("org", of("copies", REQUESTS)), "org") == {"acme": 210}
    assert past.values(queries.rate_by("org", of("copies", REQUESTS), "10m"), "org") == {"acme": pytest.approx(7 / 60)}


@pytest.mark.parametrize(("case", "counted"), [("outage", 600 - 240), ("long outage", 600)])
async def test_an_outage_at_the_start_is_bridged_for_a_quarter_of_an_hour(past: Past, case: str, counted: int) -> None:
    """From the last value known before it; without one, all that there ever was."""
    assert past.values(queries.total_by("org", of(case, REQUESTS)), "org") == {"acme": counted}


async def test_an_outage_that_lasts_shows_the_last_known_value(past: Past) -> None:
    assert past.values(queries.total_by("org", of("ended", REQUESTS)), "org") == {"acme": 200}


async def test_what_was_taken_back_is_subtracted(past: Past) -> None:
    both = of("credited", TOKENS), of("credited", CREDITED)
    assert past.values(queries.net_total_by("org", *both), "org") == {"acme": 3000 - 28, "globex": 30}
    bars = past.bars(queries.net_bars_by("org", *both), "org", (30, 40, 50), end=60)
    assert bars == {"acme": {30: 1000, 40: 1000 - 18, 50: 1000 - 10}, "globex": {30: 10, 40: 10, 50: 10}}


async def test_the_same_number_stands_at_every_step_of_a_query_over_time(past: Past) -> None:
    fixed = queries.net_total_by("org", of("credited", TOKENS), of("credited", CREDITED), when=f" @ {queries.TO}")
    for minute in (35, 47, 60):
        assert past.values(fixed, "org", at=minute) == {"acme": 3000 - 28, "globex": 30}


async def test_bars_hold_what_came_in_their_interval_and_the_running_one_what_there_is_so_far(past: Past) -> None:
    bars = past.bars(queries.bars_by("org", of("burst", REQUESTS)), "org", range(0, 70, 10), end=64)
    assert bars == {"acme": {0: 10, 10: 10, 20: 10, 30: 120, 40: 20, 50: 20, 60: 8}}


@pytest.mark.parametrize("hours", [0, 5.5, -10, 13])
async def test_weeks_are_counted_from_monday_to_monday_of_the_browsers_zone(past: Past, hours: float) -> None:
    """At midnights of a zone, as Grafana cuts the range: a week is at its Monday alone, and the running one is as it is so far."""
    offset = round(hours * 3_600)
    today = (past.epoch + offset) // 86_400 * 86_400 - offset
    found = {}
    for midnight in (today - 86_400 * day for day in range(19)):
        counted = past.values(queries.weeks_by("org", of("weeks", REQUESTS)), "org", at=(midnight - past.epoch) / 60, end=0)
        if counted:
            found[midnight] = counted["acme"]
    assert len(found) in {2, 3}
    assert {datetime.fromtimestamp(midnight + offset, UTC).weekday() for midnight in found} == {0}
    running, *whole = found.items()
    assert running[1] == (past.epoch - running[0]) / 600
    assert {count for _, count in whole} == {7 * 144}


async def test_what_comes_later_is_in_no_bar_before_it(past: Past) -> None:
    bars = past.bars(queries.bars_by("org", of("late", REQUESTS)), "org", range(0, 70, 10), end=64)
    assert bars == {"acme": {50: 50, 60: 20}}


async def test_machines_are_added_up_and_one_that_begins_again_is_not_negative(past: Past) -> None:
    series = of("machines", ERRORS)
    assert past.values(queries.local_total_by("kind", series), "kind") == {"reset": 90, "timeout": 0}
    bars = past.bars(queries.local_bars_by("kind", series), "kind", (30, 40), end=60)
    assert bars == {"reset": {30: 30, 40: 30}, "timeout": {30: 0, 40: 0}}
    assert past.values(queries.local_rate_by("kind", series, "10m"), "kind")["reset"] == pytest.approx(0.05)


async def test_no_faults_are_zero_and_some_are_themselves(past: Past) -> None:
    assert past.values(queries.or_zero(f"sum ({of('steady', ERRORS)})")) == {"": 0}
    assert past.values(queries.or_zero(f"sum by (kind) ({of('steady', ERRORS)})", "kind"), "kind") == {"none": 0}
    assert past.values(queries.or_zero(f"sum by (kind) ({of('machines', ERRORS)})", "kind"), "kind") == {"reset": 180, "timeout": 0}


async def test_lines_are_those_that_lead_at_the_end(past: Past) -> None:
    used = of("leaders", USED)
    leading = queries.among_top("1", queries.one(used), by="org", ranking=used)
    assert past.values(leading, "org", at=10) == {"late": 2}
