"""Requests that the buckets of histograms remember, from the worker's cells to a real Prometheus."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from finished_requests import observe
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_server import running_prometheus

from tallygate.telemetry.count_file import CountFile, CountReader
from tallygate.telemetry.exemplar import CELLS, EVERY_MS, Exemplar, note_exemplar, read_exemplar
from tallygate.telemetry.exposition import Renderer, Scraped
from tallygate.telemetry.gateway_metrics import GatewayMetrics
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.metrics import LIMITER_SECONDS

NOW_MS = 1_700_000_000_000
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
KNOWN = KnownLabels(
    organizations=frozenset({"acme"}), credentials=frozenset(), capabilities=frozenset({"chat"}), limits=frozenset()
)


@pytest.fixture
def clock():
    return SimpleNamespace(ms=NOW_MS)


@pytest.fixture
def worker(tmp_path, clock):
    """Starts a worker that counts in a slot."""
    files = []

    def start(slot):
        counts = CountFile(tmp_path, f"worker-{slot}")
        files.append(counts)
        return GatewayMetrics(counts, KNOWN, now_ns=lambda: clock.ms * 1_000_000)

    yield start
    for counts in files:
        counts.close()


def exposition(tmp_path, accept=OPENMETRICS, slots=2):
    counted = [CountReader(tmp_path).counts_of(f"worker-{slot}") for slot in range(slots)]
    return Renderer().render(Scraped(samples={}, counted=counted), accept=accept)[1].decode()


def exemplars(tmp_path, family="tallygate_request_seconds"):
    """(request id, value, Unix seconds) of each bucket that has one, by its bound."""
    return {
        sample.labels["le"]: (sample.exemplar.labels["request_id"], sample.exemplar.value, float(sample.exemplar.timestamp))
        for found in parse_openmetrics(exposition(tmp_path))
        for sample in found.samples
        if found.name == family and sample.exemplar
    }


def test_a_bucket_tells_a_request_that_fell_into_it(worker, tmp_path):
    metrics = worker(0)
    observe(metrics, "chat", 0.02, 0.005, 0.000_2, "0123456789abcdef0123456789abcdef")
    observe(metrics, "chat", 1_000.0, None, 0.000_2, "b" * 32)
    metrics.observe(LIMITER_SECONDS, 0.000_9, "c" * 32, "admit")

    assert exemplars(tmp_path) == {
        "0.025": ("0123456789abcdef0123456789abcdef", 0.02, NOW_MS / 1000),
        "+Inf": ("b" * 32, 1_000.0, NOW_MS / 1000),
    }
    assert exemplars(tmp_path, "tallygate_first_byte_seconds") == {
        "0.005": ("0123456789abcdef0123456789abcdef", 0.005, NOW_MS / 1000)
    }
    assert exemplars(tmp_path, "tallygate_overhead_seconds").keys() == {"0.0002"}
    assert exemplars(tmp_path, "tallygate_limiter_seconds") == {"0.001": ("c" * 32, 0.000_9, NOW_MS / 1000)}


def test_only_openmetrics_has_them(worker, tmp_path):
    observe(worker(0), "chat", 0.02, 0.005, 0.000_2, "only-openmetrics")

    assert "only-openmetrics" in exposition(tmp_path)
    assert "only-openmetrics" not in exposition(tmp_path, accept="text/plain")


def test_the_last_request_of_all_workers_is_told(worker, tmp_path, clock):
    first, second = worker(0), worker(1)
    observe(second, "chat", 0.011, None, 0.0, "earlier")
    clock.ms += 1
    observe(first, "chat", 0.012, None, 0.0, "later")

    assert exemplars(tmp_path)["0.025"][0] == "later"


def test_a_bucket_takes_a_new_one_at_most_once_a_second(worker, tmp_path, clock):
    metrics = worker(0)
    observe(metrics, "chat", 0.011, None, 0.0, "first")
    clock.ms += EVERY_MS - 1
    observe(metrics, "chat", 0.012, None, 0.0, "too soon")
    assert exemplars(tmp_path)["0.025"][0] == "first"

    clock.ms += 1
    observe(metrics, "chat", 0.013, None, 0.0, "next")

    assert exemplars(tmp_path)["0.025"][0] == "next"


def test_a_clock_that_is_set_back_does_not_keep_an_old_one(worker, tmp_path, clock):
    metrics = worker(0)
    observe(metrics, "chat", 0.011, None, 0.0, "of tomorrow")
    clock.ms -= 86_400_000
    observe(metrics, "chat", 0.012, None, 0.0, "now")

    assert exemplars(tmp_path)["0.025"][0] == "now"


def test_a_mixture_of_two_is_none_of_them():
    one, two = ([0] * CELLS for _ in range(2))
    for cells, record in ((one, (5_000_000, NOW_MS, "a" * 32)), (two, (7_000_000, NOW_MS + EVERY_MS, "b" * 32))):
        note_into(cells, *record)

    read = {
        bits: read_exemplar([two[cell] if bit else one[cell] for cell, bit in enumerate(bits)])
        for bits in itertools.product((False, True), repeat=CELLS)
    }

    assert {bits for bits, found in read.items() if found is not None} == {
        bits for bits in read if [two[c] if bit else one[c] for c, bit in enumerate(bits)] in (one, two)
    }
    assert read[(True,) * CELLS] == Exemplar(nanos=7_000_000, at_ms=NOW_MS + EVERY_MS, request_id="b" * 32)


def note_into(cells, nanos, at_ms, request_id):
    """note_exemplar over a list."""
    view = memoryview(bytearray(8 * CELLS)).cast("q")
    note_exemplar(view, 0, nanos, at_ms, request_id)
    cells[:] = view.tolist()


def test_cells_that_were_never_written_are_none():
    assert read_exemplar([0] * CELLS) is None


def test_a_reader_in_another_process_meets_whole_ones_only(tmp_path):
    code = f"""
from pathlib import Path
from tallygate.telemetry.count_file import CountFile
from tallygate.telemetry.exemplar import CELLS, EVERY_MS, note_exemplar
counts = CountFile(Path({str(tmp_path)!r}), "w")
first = counts.allocate("e", cells=CELLS)
print(flush=True)
for turn in range(1, 100_001):
    note_exemplar(counts.cells, first, turn, turn * EVERY_MS, f"{{turn:032}}")
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        found = []
        while writer.poll() is None:
            found.append(read_exemplar(CountReader(tmp_path).counts_of("w")["e", ()]))
    assert writer.returncode == 0
    found.append(read_exemplar(CountReader(tmp_path).counts_of("w")["e", ()]))  # if all others should have met a half-written one

    whole = [exemplar for exemplar in found if exemplar is not None]
    assert whole
    assert all((each.at_ms, each.request_id) == (each.nanos * EVERY_MS, f"{each.nanos:032}") for each in whole)


async def test_a_real_prometheus_stores_them(worker, tmp_path, clock):
    clock.ms = time.time_ns() // 1_000_000
    observe(worker(0), "chat", 0.3, 0.1, 0.000_2, "d" * 32)

    async def serve(request):
        accept = request.headers.get("Accept", "")
        return web.Response(body=exposition(tmp_path, accept), headers={"Content-Type": accept_type(accept)})

    app = web.Application()
    app.router.add_get("/metrics", serve)
    async with TestServer(app) as target:
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "tallygate", "static_configs": [{"targets": [f"127.0.0.1:{target.port}"]}]}],
        }
        async with running_prometheus(tmp_path / "prometheus", config) as prometheus:
            span = {"start": str(clock.ms / 1000 - 60), "end": str(clock.ms / 1000 + 60)}
            deadline = time.monotonic() + 60
            while True:
                answer = await asyncio.to_thread(
                    prometheus.get, "/api/v1/query_exemplars", query="tallygate_request_seconds_bucket", **span
                )
                if answer["data"]:
                    break
                assert time.monotonic() < deadline, prometheus.log.read_text()
                await asyncio.sleep(0.1)

    [series] = answer["data"]
    assert series["seriesLabels"]["le"] == "0.5"
    [stored] = series["exemplars"]
    assert (stored["labels"], float(stored["value"])) == ({"request_id": "d" * 32}, 0.3), json.dumps(answer)


def accept_type(accept):
    return Renderer().render(Scraped(samples={}), accept=accept)[0]
