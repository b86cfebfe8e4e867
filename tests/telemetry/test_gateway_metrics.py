"""What a worker counts, and under which labels."""

from dataclasses import replace

import pytest
from finished_requests import observe

from tallygate.domain.errors import ErrorCode
from tallygate.domain.organization import UnknownModelPolicy
from tallygate.http1.upstream_failure import FailureKind
from tallygate.telemetry.count_file import CountFile, CountReader
from tallygate.telemetry.gateway_metrics import GatewayMetrics
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.metric import Lasts
from tallygate.telemetry.metrics import (
    FAIL_OPEN,
    LIMITER_ERRORS,
    LIMITER_SECONDS,
    OPEN_REQUESTS,
    OVERHEAD_SECONDS,
    REFUSED,
    REQUEST_SECONDS,
    SPEND_WARNINGS,
    SPOOL_EVENTS,
    STATED_COST,
    UNKNOWN_MODELS,
    UPSTREAM_ERRORS,
    WORKER_METRICS,
)

NOW_MS = 1_700_000_000_000
KNOWN = KnownLabels(
    organizations=frozenset({"acme", "globex"}),
    credentials=frozenset({("acme", "acme-prod")}),
    capabilities=frozenset({"chat"}),
    limits=frozenset({"requests_per_1m", "spend_7d", *ErrorCode}),
    upstreams=frozenset({"openai", "openrouter"}),
)


@pytest.fixture
def counts(tmp_path):
    file = CountFile(tmp_path, "worker-0")
    yield file
    file.close()


@pytest.fixture
def metrics(counts):
    return GatewayMetrics(counts, KNOWN, now_ns=lambda: NOW_MS * 1_000_000)


def _refused(tmp_path):
    return {
        labels: cells[0]
        for (name, labels), cells in CountReader(tmp_path).counts_of("worker-0").items()
        if name == REFUSED.name and cells[0]
    }


def test_a_refusal_is_counted_under_its_labels(metrics, tmp_path):
    metrics.inc(REFUSED, "acme", "acme-prod", "chat", "requests_per_1m")
    metrics.inc(REFUSED, "acme", "acme-prod", "chat", "requests_per_1m")

    assert _refused(tmp_path) == {("acme", "acme-prod", "chat", "requests_per_1m"): 2}


def test_a_crossed_threshold_is_counted_under_its_fraction(metrics, tmp_path):
    metrics.inc(SPEND_WARNINGS, "acme", "spend_7d", "0.8")
    metrics.inc(SPEND_WARNINGS, "nobody", "whatever", "0.95")

    counts = {
        labels: cells[0]
        for (name, labels), cells in CountReader(tmp_path).counts_of("worker-0").items()
        if name == SPEND_WARNINGS.name
    }
    assert counts["acme", "spend_7d", "0.8"] == counts["other", "other", "0.95"] == 1


def test_amounts_add_up_under_their_labels(metrics, tmp_path):
    for amount in (5, 7):
        metrics.add(STATED_COST, amount, "openrouter")

    counted = {key: cells[0] for key, cells in CountReader(tmp_path).counts_of("worker-0").items() if key[0] == STATED_COST.name}
    assert counted == {(STATED_COST.name, ("openrouter",)): 12, (STATED_COST.name, ("other",)): 0}


def test_what_a_caller_made_up_is_counted_as_other_and_makes_no_series(metrics, tmp_path):
    before = len(CountReader(tmp_path).counts_of("worker-0"))
    for number in range(10_000):
        metrics.inc(REFUSED, f"org{number}", f"cred{number}", f"cap{number}", f"limit{number}")
        observe(metrics, f"cap{number}", 0.1, 0.1, 0.1, f"{number:032x}")
        metrics.inc(UPSTREAM_ERRORS, f"upstream{number}", f"kind{number}")
        metrics.inc(FAIL_OPEN, f"class{number}")

    assert _refused(tmp_path) == {("other", "other", "other", "other"): 10_000}
    assert len(CountReader(tmp_path).counts_of("worker-0")) == before


def test_a_credential_is_only_named_under_its_own_organization(metrics, tmp_path):
    metrics.inc(REFUSED, "globex", "acme-prod", "chat", ErrorCode.INVALID_API_KEY)

    assert _refused(tmp_path) == {("globex", "other", "chat", "invalid_api_key"): 1}


def test_labels_of_a_reloaded_configuration_are_known_from_then_on(metrics, tmp_path):
    metrics.inc(REFUSED, "initech", "i", "chat", "requests_per_1m")
    metrics.use_labels(
        KnownLabels(
            organizations=frozenset({"initech"}),
            credentials=frozenset({("initech", "i")}),
            capabilities=KNOWN.capabilities,
            limits=KNOWN.limits,
        ),
    )
    metrics.inc(REFUSED, "initech", "i", "chat", "requests_per_1m")

    assert _refused(tmp_path) == {("other", "other", "chat", "requests_per_1m"): 1, ("initech", "i", "chat", "requests_per_1m"): 1}


@pytest.mark.parametrize(
    "gauge", [metric for metric in WORKER_METRICS if metric.lasts is Lasts.PROCESS], ids=lambda each: each.name
)
def test_what_was_counted_up_before_a_reload_is_counted_down_after_it(metrics, tmp_path, gauge):
    """A reload, or a change of an organization, comes in the middle of requests."""
    metrics.inc(gauge)
    metrics.inc(gauge)
    metrics.use_labels(KNOWN)
    metrics.dec(gauge)

    assert CountReader(tmp_path).counts_of("worker-0")[gauge.name, ()][0] == 1


def test_labels_that_a_reload_took_away_become_other(metrics, tmp_path):
    metrics.inc(REFUSED, "acme", "acme-prod", "chat", "requests_per_1m")
    metrics.use_labels(
        KnownLabels(organizations=frozenset(), credentials=frozenset(), capabilities=KNOWN.capabilities, limits=KNOWN.limits)
    )
    metrics.inc(REFUSED, "acme", "acme-prod", "chat", "requests_per_1m")

    assert _refused(tmp_path) == {
        ("acme", "acme-prod", "chat", "requests_per_1m"): 1,
        ("other", "other", "chat", "requests_per_1m"): 1,
    }


def test_a_full_file_counts_further_series_as_other_and_says_so(tmp_path, caplog):
    probe = CountFile(tmp_path, "probe")
    GatewayMetrics(probe, KNOWN, now_ns=lambda: NOW_MS * 1_000_000)
    probe.close()
    from_the_start = sum(map(len, CountReader(tmp_path).counts_of("probe").values()))
    counts = CountFile(tmp_path, "worker-0", cells_max=from_the_start + 50)
    known = KnownLabels(
        organizations=frozenset(f"o{n}" for n in range(500)),
        credentials=frozenset(),
        capabilities=frozenset({"chat"}),
        limits=frozenset({"l"}),
        upstreams=KNOWN.upstreams,
    )
    metrics = GatewayMetrics(counts, known, now_ns=lambda: NOW_MS * 1_000_000)
    for number in range(500):
        metrics.inc(REFUSED, f"o{number}", "", "chat", "l")

    refused = _refused(tmp_path)

    assert sum(refused.values()) == 500
    assert refused["other", "other", "other", "other"] == 450
    assert "the count file is full" in caplog.text
    counts.close()


def test_unknown_models_are_counted_by_known_organization_and_policy(metrics, tmp_path):
    metrics.inc(UNKNOWN_MODELS, "acme", UnknownModelPolicy.REFUSE)
    metrics.inc(UNKNOWN_MODELS, "acme", UnknownModelPolicy.REFUSE)
    metrics.inc(UNKNOWN_MODELS, "made-up", UnknownModelPolicy.UNPRICED)

    series = CountReader(tmp_path).counts_of("worker-0")
    assert series[UNKNOWN_MODELS.name, ("acme", "refuse")] == (2,)
    assert series[UNKNOWN_MODELS.name, ("other", "unpriced")] == (1,)


def test_calls_of_the_limiter_are_timed_and_those_in_vain_counted(metrics, tmp_path):
    metrics.observe(LIMITER_SECONDS, 0.000_1, "r1", "admit")
    metrics.observe(LIMITER_SECONDS, 9.0, "r1", "settle")
    metrics.inc(LIMITER_ERRORS, "settle")

    series = CountReader(tmp_path).counts_of("worker-0")
    admit, settle = (series[LIMITER_SECONDS.name, (name,)][: LIMITER_SECONDS.count_cells] for name in ("admit", "settle"))
    assert (admit[0], sum(admit[:-1]), admit[-1]) == (1, 1, 100_000)
    assert (settle[-2], sum(settle[:-1]), settle[-1]) == (1, 1, 9 * 10**9)
    assert [series[LIMITER_ERRORS.name, (name,)] for name in ("admit", "settle")] == [(0,), (1,)]


def test_a_spool_is_as_long_as_it_was_last_said_to_be(metrics, tmp_path):
    for events in (3, 5, 2):
        metrics.set(SPOOL_EVENTS, events)

    assert CountReader(tmp_path).counts_of("worker-0")[SPOOL_EVENTS.name, ()] == (2,)


def test_durations_fall_into_the_bucket_whose_bound_they_do_not_exceed(metrics, tmp_path):
    observe(metrics, "chat", 0.005, None, 0.000_05, "r1")
    observe(metrics, "chat", 0.005_000_001, None, 0.000_051, "r1")
    observe(metrics, "chat", 10_000.0, None, 5.0, "r1")

    series = CountReader(tmp_path).counts_of("worker-0")
    request = series[REQUEST_SECONDS.name, ("chat",)][: REQUEST_SECONDS.count_cells]
    overhead = series[OVERHEAD_SECONDS.name, ()][: OVERHEAD_SECONDS.count_cells]

    assert (request[0], request[1], request[-2]) == (1, 1, 1), "at the bound, just above it, above the last"
    assert request[-1] == 5_000_000 + 5_000_001 + 10_000 * 10**9
    assert (overhead[0], overhead[1], overhead[-2]) == (1, 1, 1)
    assert sum(series.get(("tallygate_first_byte_seconds", ("chat",)), ())) == 0, "no body, no first byte"


def test_requests_open_at_a_crash_are_not_open_in_the_successor(counts, tmp_path):
    metrics = GatewayMetrics(counts, KNOWN, now_ns=lambda: NOW_MS * 1_000_000)
    metrics.inc(OPEN_REQUESTS)
    metrics.inc(OPEN_REQUESTS)
    metrics.dec(OPEN_REQUESTS)
    assert CountReader(tmp_path).counts_of("worker-0")[OPEN_REQUESTS.name, ()] == (1,)

    GatewayMetrics(counts, KNOWN, now_ns=lambda: NOW_MS * 1_000_000)

    assert CountReader(tmp_path).counts_of("worker-0")[OPEN_REQUESTS.name, ()] == (0,)


def test_failures_have_a_series_for_each_upstream_and_kind_from_the_start_and_from_a_reload_on(metrics, tmp_path):
    def failures():
        counts = CountReader(tmp_path).counts_of("worker-0")
        return {labels: cells[0] for (name, labels), cells in counts.items() if name == UPSTREAM_ERRORS.name}

    kinds = len(UPSTREAM_ERRORS.values)
    assert len(failures()) == 2 * kinds + 1  # and `other`
    metrics.inc(UPSTREAM_ERRORS, "openai", "unreachable")
    metrics.use_labels(replace(KNOWN, upstreams=frozenset({"anthropic"})))
    metrics.inc(UPSTREAM_ERRORS, "openai", "unreachable")  # of an exchange that began before

    assert len(failures()) == 3 * kinds + 2
    assert (failures()["openai", "unreachable"], failures()["other", "unreachable"]) == (1, 1)
    assert failures()["anthropic", "unreachable"] == 0


def test_the_metric_of_upstream_errors_names_every_kind_of_failure():
    assert {*FailureKind, "status", "in_stream"} == {*UPSTREAM_ERRORS.values}
