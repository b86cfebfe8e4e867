"""From samples to what Prometheus reads."""

import itertools
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tallygate.telemetry import exposition, metrics
from tallygate.telemetry.exposition import Renderer, Scraped
from tallygate.telemetry.metric import InParts, Kind, Metric, Source, Standing
from tallygate.telemetry.metrics import METRICS

DECLARED = Path(metrics.__file__)
PRODUCT = [path.read_text() for path in DECLARED.parents[1].rglob("*.py") if path != DECLARED]
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
ACME = ("acme", "acme-prod", "chat")
NO_EXEMPLARS = [0] * (metrics.OVERHEAD_SECONDS.cells - metrics.OVERHEAD_SECONDS.count_cells)
OVERHEAD_CELLS = (1, 2, *([0] * (metrics.OVERHEAD_SECONDS.count_cells - 4)), 3, 4_000_000_000, *NO_EXEMPLARS)


COUNTED = (
    {
        (metrics.REFUSED.name, (*ACME, "requests_per_1m")): (2,),
        (metrics.REFUSED.name, (*ACME, "spend_7d")): (1,),
        (metrics.OVERHEAD_SECONDS.name, ()): OVERHEAD_CELLS,
    },
    {(metrics.REFUSED.name, (*ACME, "requests_per_1m")): (5,), (metrics.OVERHEAD_SECONDS.name, ()): OVERHEAD_CELLS},
)
SAMPLES = {
    **{metric: {} for metric in METRICS if metric.source is not Source.WORKERS},
    metrics.BUILD_INFO: {("1.2.3", "abc"): 1},
    metrics.WORKER_CPU: {("0",): 1.5},
    metrics.REQUESTS: {(*ACME, "success"): 10, (*ACME, "refused"): 9},
    metrics.TOKENS: {(*ACME, "prompt"): 123, (*ACME, "completion"): 2**53 - 1},
    metrics.SPEND: {ACME: 1_000_000_001},
    metrics.USAGE_SOURCE: {("upstream",): 10},
    metrics.SPEND_CREDITED: {ACME: 7},
    metrics.TOKENS_CREDITED: {(*ACME, "prompt"): 7},
    metrics.ODD_SETTLEMENTS: {("late",): 1},
    metrics.HOLDS_EXPIRED: {(): 0},
    metrics.SPEND_WINDOW: {("acme",): 99_999_999_999},
    metrics.SPEND_RESUME: {("acme",): 1_700_000_000_250},
    metrics.LEDGER_LAG_SECONDS: {(): 1_500},
}


def scraped(**changes):
    return Scraped(**{"samples": SAMPLES, "counted": COUNTED, **changes})


def samples(given):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(Renderer().render(given, accept="")[1].decode())
        for sample in family.samples
    }


def value(given, name, **labels):
    return samples(given)[name, tuple(sorted(labels.items()))]


def test_refusals_are_summed_over_workers_and_those_of_the_ledger_are_requests():
    names = {"org": "acme", "credential": "acme-prod", "capability": "chat"}

    assert value(scraped(), "tallygate_refused_total", **names, limit="requests_per_1m") == 7
    assert value(scraped(), "tallygate_requests_total", **names, outcome="refused") == 9
    assert value(scraped(), "tallygate_requests_total", **names, outcome="success") == 10


def test_money_keeps_its_last_nano_dollar():
    spend = value(scraped(), "tallygate_spend_usd_total", org="acme", credential="acme-prod", capability="chat")

    assert round(spend * 10**9) == 1_000_000_001
    assert b'tallygate_spend_window_usd{org="acme"} 99.999999999\n' in Renderer().render(scraped(), accept="")[1]


def test_the_largest_total_is_exact():
    names = {"org": "acme", "credential": "acme-prod", "capability": "chat"}

    assert value(scraped(), "tallygate_tokens_total", **names, kind="completion") == 2**53 - 1


def test_histograms_accumulate_over_buckets_and_workers():
    given = samples(scraped())

    assert given["tallygate_overhead_seconds_bucket", (("le", "5e-05"),)] == 2
    assert given["tallygate_overhead_seconds_bucket", (("le", "0.0001"),)] == 6
    assert given["tallygate_overhead_seconds_bucket", (("le", "+Inf"),)] == 12
    assert given["tallygate_overhead_seconds_count", ()] == 12
    assert given["tallygate_overhead_seconds_sum", ()] == 8.0


def test_what_did_not_answer_is_left_out():
    given = samples(scraped(samples={metrics.SCRAPE_ERRORS: {(): 1}}))

    assert given["tallygate_scrape_incomplete", ()] == 1
    assert not [
        key
        for key in given
        if key[0]
        in {"tallygate_requests_total", "tallygate_tokens_total", "tallygate_spend_usd_total", "tallygate_spend_window_usd"}
    ]
    assert given[
        "tallygate_refused_total", (("capability", "chat"), ("credential", "acme-prod"), ("limit", "spend_7d"), ("org", "acme"))
    ]


def test_counts_of_an_older_layout_are_left_out():
    given = samples(scraped(counted=[{(metrics.OVERHEAD_SECONDS.name, ()): (1, 2, 3)}]))

    assert ("tallygate_overhead_seconds_count", ()) not in given


def test_every_declared_metric_appears_under_its_declared_kind():
    made = {family.name: family.type for family in parse_openmetrics(Renderer().render(scraped(), accept=OPENMETRICS)[1].decode())}

    assert made == {metric.name.removesuffix("_total"): metric.kind for metric in METRICS}


def test_openmetrics_is_sent_to_who_asks_for_it_and_parses():
    content_type, body = Renderer().render(scraped(), accept=OPENMETRICS)

    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert {family.name for family in parse_openmetrics(body.decode())} == {
        metric.name.removesuffix("_total") for metric in METRICS
    }
    assert Renderer().render(scraped(), accept="text/html")[0].startswith("text/plain")


def changing():
    """Scrapes of which each differs from the one before, also by dicts that were changed in between."""
    workers, parts = dict(COUNTED[0]), [Standing({(f"org-{number}",): number}) for number in range(3)]
    takes_writes = {("store", ""): 1}
    samples = {**SAMPLES, metrics.TAKES_WRITES: takes_writes}
    yield scraped(samples={**samples, metrics.SPEND_WINDOW: InParts(parts)}, counted=[workers])
    parts = [*parts[:2], Standing({("org-2",): 7}), Standing({("org-3",): 8})]
    yield scraped(samples={**samples, metrics.SPEND_WINDOW: InParts(parts)}, counted=[workers])
    yield scraped(samples={**samples, metrics.SPEND_WINDOW: InParts(parts)}, counted=[workers, COUNTED[1]])
    workers[metrics.OVERHEAD_SECONDS.name, ()] = (5, *OVERHEAD_CELLS[1:])
    takes_writes["store", ""] = 0
    yield scraped(samples={**samples, metrics.SPEND_WINDOW: InParts(parts)}, counted=[workers])
    takes_writes.clear()
    yield scraped(samples=samples, counted=[workers, {(metrics.REFUSED.name, (*ACME, "of another")): (1,)}])
    yield scraped(samples={}, counted=[])


@pytest.mark.parametrize("lines_kept", [0, 40, 50_000])
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_one_scrape_after_another_shows_what_each_would_show_alone(accept, lines_kept, monkeypatch):
    monkeypatch.setattr(exposition, "LINES_KEPT_MAX", lines_kept)
    renderer = Renderer()

    for given in changing():
        alone = Renderer().render(given, accept=accept)[1]
        for is_gzipped, other in itertools.product((True, False, True), ("", OPENMETRICS)):
            renderer.render(given, accept=other, is_gzipped=is_gzipped)

        assert renderer.render(given, accept=accept)[1] == alone
        unpacker = zlib.decompressobj(wbits=31)
        assert unpacker.decompress(renderer.render(given, accept=accept, is_gzipped=True)[1]) == alone
        assert (unpacker.eof, unpacker.unused_data) == (True, b""), "one member, since some read no more"


@pytest.mark.parametrize(("lines_kept", "written"), [(50_000, {"tallygate_worker_up"}), (0, {metric.name for metric in METRICS})])
def test_families_that_stand_as_they_did_are_not_written_again(lines_kept, written, monkeypatch):
    monkeypatch.setattr(exposition, "LINES_KEPT_MAX", lines_kept)
    renderer, text_of, seen = Renderer(), exposition.text_of, []

    def seen_text_of(family, wanted):
        seen.append(family.metric.name)
        return text_of(family, wanted)

    renderer.render(scraped(), accept="")
    monkeypatch.setattr(exposition, "text_of", seen_text_of)

    renderer.render(scraped(samples={**SAMPLES, metrics.WORKER_UP: {("0",): 1}}), accept="")

    assert set(seen) == written


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is in Debian's prometheus")
def test_promtool_has_nothing_to_say_about_names_and_help():
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=Renderer().render(scraped(), accept="")[1], capture_output=True, check=False
    )

    assert (checked.returncode, checked.stderr) == (0, b"")


def test_declarations_are_well_formed():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("tallygate_")
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)


@pytest.mark.parametrize("name", [name for name, metric in vars(metrics).items() if isinstance(metric, Metric)])
def test_every_declared_metric_is_counted_or_sampled_somewhere(name):
    assert any(re.search(rf"\b{name}\b", text) for text in PRODUCT), f"{name} is declared, and nothing gives it a value"
