"""Our text of metrics against prometheus_client's, which is the judge."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as some
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest as prometheus_text
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.samples import Exemplar as TheirExemplar
from prometheus_client.samples import Timestamp

from tallygate.telemetry.exemplar import Exemplar
from tallygate.telemetry.metric import NOTHING, InParts, Kind, Metric, Standing, standing_after
from tallygate.telemetry.metric_text import PARTS_AT_ONCE, PIECE_LINES, Family, HistogramCounts, TextFormat, end_of, text_of

NAMES = ("org", "credential", "capability", "kind", "zone")
texts = some.text(some.characters(blacklist_categories=("Cs",)), max_size=8) | some.sampled_from(
    ["a", 'q"', "b\\", "n\n", "%s", "{}"]
)
counts = some.integers(0, 2**53 - 1)
metrics = some.builds(
    lambda kind, labels, stem, help_text, per_unit: Metric(
        name={Kind.COUNTER: f"{stem}_total"}.get(kind, stem),
        kind=kind,
        help=help_text,
        labels=tuple(labels),
        buckets=(50_000, 1_000_000, 2_500_000_000) if kind is Kind.HISTOGRAM else (),
        per_unit=per_unit,
    ),
    kind=some.sampled_from(Kind),
    labels=some.lists(some.sampled_from(NAMES), unique=True),
    stem=some.sampled_from(["tallygate_things", "tallygate_wait_seconds", "tallygate_size_bytes"]),
    help_text=texts,
    per_unit=some.sampled_from([1, 1_000, 10**9]),
)
exemplars = some.none() | some.builds(
    Exemplar, nanos=counts, at_ms=some.integers(0, 2**42), request_id=some.text("0123456789abcdef", max_size=32)
)
histograms = some.builds(
    HistogramCounts, counts=some.tuples(*[counts] * 4), sum_nanos=counts, exemplars=some.tuples(*[exemplars] * 4)
)


@some.composite
def families(draw):
    metric = draw(metrics)
    labels = some.tuples(*[texts] * len(metric.labels))
    if metric.kind is Kind.HISTOGRAM:
        return Family(metric=metric, histograms=draw(some.dictionaries(labels, histograms, max_size=3)))
    numbers = draw(some.dictionaries(labels, counts, max_size=3))
    return Family(metric=metric, numbers=numbers)


def theirs(family):
    """The same family as the library has it."""
    metric = family.metric
    kind = {Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily, Kind.HISTOGRAM: HistogramMetricFamily}[metric.kind]
    made = kind(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
    for labels, value in family.numbers.items():
        made.add_metric(labels, value / metric.per_unit)
    for labels, reading in family.histograms.items():
        running, buckets = 0, []
        for bound, count, exemplar in zip(("5e-05", "0.001", "2.5", "+Inf"), reading.counts, reading.exemplars, strict=True):
            running += count
            buckets.append((bound, running, None if exemplar is None else their_exemplar(exemplar)))
        made.add_metric(labels, buckets, reading.sum_nanos / 10**9)
    return made


def their_exemplar(exemplar):
    at = Timestamp(exemplar.at_ms // 1000, exemplar.at_ms % 1000 * 1_000_000)
    return TheirExemplar({"request_id": exemplar.request_id}, exemplar.nanos / 10**9, at)


def exposition(given_families, wanted):
    return "".join([*(text for family in given_families for text in text_of(family, wanted)), end_of(wanted)])


@given(some.lists(families(), max_size=3))
def test_it_is_byte_for_byte_what_the_library_writes(given_families):
    registry = SimpleNamespace(collect=lambda: [theirs(family) for family in given_families])

    assert exposition(given_families, TextFormat.PROMETHEUS).encode() == prometheus_text(registry)
    assert exposition(given_families, TextFormat.OPENMETRICS).encode() == openmetrics_text(registry)


@given(some.data(), metrics.filter(lambda metric: metric.kind is not Kind.HISTOGRAM), some.sampled_from(TextFormat))
def test_in_parts_it_is_the_same_text_and_once_more_as_well(data, metric, wanted):
    numbers = data.draw(some.dictionaries(some.tuples(*[texts] * len(metric.labels)), counts, max_size=6))
    items = list(numbers.items())
    gathered = gather(*(Standing(part) for part in (items[:1], items[1:3], items[3:])))

    told = ["".join(text_of(Family(metric=metric, numbers=each), wanted)) for each in (numbers, gathered, gathered)]

    assert told[0] == told[1] == told[2]
    assert gathered == numbers
    assert [labels in gathered for labels in numbers] == [True] * len(gathered)


@given(some.data(), metrics.filter(lambda metric: metric.kind is not Kind.HISTOGRAM))
def test_what_has_changed_is_written_as_if_it_were_new(data, metric):
    few = some.dictionaries(some.tuples(*[some.sampled_from("ab")] * len(metric.labels)), some.integers(0, 2), max_size=3)
    standing = NOTHING
    for _ in range(4):
        numbers = dict(sorted(data.draw(few).items()))
        before, [standing] = standing, standing_after([standing], [Standing(numbers.items())])
        families = [Family(metric=metric, numbers=each) for each in (gather(standing), numbers)]

        assert len({"".join(text_of(family, TextFormat.PROMETHEUS)) for family in families}) == 1
        assert (standing is before) is (before == numbers)


def gather(*parts):
    return InParts(parts)


def test_the_lines_of_a_part_that_stands_are_written_once():
    metric = Metric(name="tallygate_things", kind=Kind.GAUGE, help="Things.", labels=("org",))
    written = []

    class Noted(int):
        def __truediv__(self, per_unit):
            written.append(self)
            return super().__truediv__(per_unit)

    family = gather(Standing([(("first",), Noted(1))]), Standing([(("second",), Noted(2))]))
    for wanted in TextFormat:
        list(text_of(Family(metric=metric, numbers=family), wanted))

    assert written == [1, 2]


@pytest.mark.parametrize("of_a_part", [0, 1, 8])
def test_many_lines_come_in_pieces(of_a_part):
    metric = Metric(name="tallygate_things", kind=Kind.GAUGE, help="Things.", labels=("org",))
    numbers = {(f"o{number}",): number for number in range(3 * PIECE_LINES)}
    if of_a_part:
        items = list(numbers.items())
        numbers = gather(*(Standing(items[start : start + of_a_part]) for start in range(0, len(items), of_a_part)))
    family = Family(metric=metric, numbers=numbers)

    pieces = list(text_of(family, TextFormat.OPENMETRICS))

    assert len(pieces) == 3
    assert max(piece.count("\n") for piece in pieces) < PIECE_LINES + len(("HELP", "TYPE")) + max(1, PARTS_AT_ONCE * of_a_part)
    assert "".join(pieces).count("\n") == 3 * PIECE_LINES + len(("HELP", "TYPE"))


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TextFormat.OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.3, Application/OpenMetrics-Text; version=0.0.1", TextFormat.OPENMETRICS),
        ("text/html,*/*", TextFormat.PROMETHEUS),
        ("", TextFormat.PROMETHEUS),
    ],
)
def test_openmetrics_is_for_who_names_it(accept, wanted):
    assert TextFormat.accepted(accept) is wanted
