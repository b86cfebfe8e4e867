"""The console over HTTP: metrics, health, and silence on everything else."""

import asyncio
import gzip
import hashlib
import json
import socket
from dataclasses import replace
from types import SimpleNamespace

import aiohttp
import pytest
from gateway_harness import TIMEOUTS

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.model import GatewayConfig
from tallygate.console import write_checks
from tallygate.console.api_access import Access, PlatformToken
from tallygate.console.known_hosts import KnownHosts
from tallygate.console.ports import Totals
from tallygate.console.readiness import Readiness, backlog_probe, database_probe, spool_probe, store_probe, workers_probe
from tallygate.console.scrape import ORGANIZATIONS_MAX, Scrape
from tallygate.console.server import ConsoleServer
from tallygate.console.workers import Workers
from tallygate.console.write_checks import EVERY_MS, THOROUGH_MS, WriteCheck
from tallygate.console.wrong_tokens import FREE, WAITING_OF_ONE_MAX, WrongTokens
from tallygate.domain.admission import LimitStates, WindowState
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.domain.obstacle import Obstacle
from tallygate.domain.organization import Organization, Plan
from tallygate.domain.rate_limit import LimitScope
from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.limiter.backlog import Backlog
from tallygate.telemetry import metrics
from tallygate.telemetry.count_file import CountFile
from tallygate.telemetry.gateway_metrics import GatewayMetrics
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.worker_state import STALE_MS, WorkerState

ACME = ("acme", "acme-prod", "chat")
WEEK = SpendLimit(name="spend_7d", limit_nano_usd=100 * 10**9)
MONTH = SpendLimit(name="spend_month", limit_nano_usd=10**9, window_ms=0)
OWN = replace(WEEK, name="spend_own", scope=LimitScope.CREDENTIAL)


def config(*organizations):
    return GatewayConfig(
        plans={}, routes=(), upstreams={}, prices=PriceCatalogue(()), organizations=tuple(organizations), version="c0ffee"
    )


def organization(id_="acme", *limits):
    return Organization(id=id_, name=id_, plan=Plan(id="p", spend_limits=limits))


class FakeStore:
    """The limiter's store as a test wants it."""

    def __init__(self):
        self.error = None
        self.writes = self.thorough = 0
        self.waiting = 40
        self.memory_max = 0
        self.refused_writes = None
        self.paused = {}
        self.asked = []

    def limit_reading(self, asked):
        async def read():
            await self.check()
            return [self._states(*question) for question in asked]

        return SimpleNamespace(read=read)

    def _states(self, org, _rate, spend):
        self.asked.append((org, spend))
        windows = tuple(
            WindowState(key=demand.key, spent_nano_usd=5, held_nano_usd=7, paused_until_ms=self.paused.get(demand.key, 0))
            for demand in spend
        )
        return LimitStates(now_ms=0, knows_spend=True, rate=(), spend=windows)

    async def backlog(self):
        await self.check()
        return Backlog(
            events=2,
            oldest_ms=1_500,
            waiting_bytes=self.waiting,
            waiting_max_bytes=1_000,
            memory_bytes=7_000,
            memory_max_bytes=self.memory_max,
        )

    async def check_commands(self):
        self.thorough += 1
        await self.check_writes()

    async def check_writes(self):
        self.writes += 1
        if self.refused_writes is not None:
            raise self.refused_writes

    async def check(self):
        if self.error is not None:
            raise self.error

    async def sweep(self):
        return 0

    async def close(self):
        return


class FakeTotals:
    """The ledger's totals as a test wants them."""

    def __init__(self):
        self.error = None
        self.refused_writes = None
        self.hangs = False
        self.asked = []
        self.skipped = 0
        self.writes = 0

    async def check_writes(self):
        self.writes += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.refused_writes is not None:
            raise self.refused_writes

    async def fetch(self, orgs):
        if self.error is not None:
            raise self.error
        self.asked.append(orgs)
        samples = {metrics.REQUESTS: {(*ACME, "success"): 3}, metrics.SPEND: {ACME: 1}}
        return Totals(samples=samples, organizations_skipped=self.skipped)


@pytest.fixture
async def console(tmp_path):
    """A served console with one live worker; `.get(path)` answers (status, headers, text)."""
    clock = SimpleNamespace(now_ms=1_000_000)
    counts = CountFile(tmp_path, "worker-0")
    state = WorkerState(counts, pid=0, new_identity=lambda: 7)
    state.beat(clock.now_ms)
    state.serving(True)
    store = FakeStore()
    holder = SimpleNamespace(current=config(organization("acme", WEEK, MONTH, OWN)))
    workers = Workers(tmp_path, workers=1, now_ms=lambda: clock.now_ms)
    totals = FakeTotals()
    store_writes = WriteCheck("store", store.check_writes, thorough=store.check_commands, now_ms=lambda: clock.now_ms)
    database_writes = WriteCheck("database", totals.check_writes, now_ms=lambda: clock.now_ms)
    probes = (store_probe(store, store_writes, needs_data=True), database_probe(database_writes, is_needed=False))
    readiness = Readiness([*probes, backlog_probe(store), workers_probe(workers), spool_probe(workers)])
    scrape = Scrape(
        workers=workers,
        store=store,
        totals=totals,
        config=lambda: holder.current,
        version="1",
        now_ms=lambda: 1_700_000_000_000,
        write_checks=(store_writes, database_writes),
    )
    server = ConsoleServer(timeouts=TIMEOUTS, scrape=scrape, readiness=readiness, token_sha256=None)
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    sock.setblocking(False)
    await server.start(sock)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def get(path, **options):
            async with session.request(options.pop("method", "GET"), path, **options) as answer:
                return answer.status, answer.headers, await answer.text()

        yield SimpleNamespace(
            get=get,
            clock=clock,
            state=state,
            store=store,
            totals=totals,
            writes=database_writes,
            holder=holder,
            readiness=readiness,
            counts=counts,
            metrics=tmp_path,
            server=server,
            port=port,
        )
    await server.close()
    await scrape.close()
    counts.close()


async def test_metrics_show_totals_windows_and_workers(console):
    status, headers, text = await console.get("/metrics")

    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert 'tallygate_requests_total{capability="chat",credential="acme-prod",org="acme",outcome="success"} 3.0' in text
    assert 'tallygate_spend_usd_total{capability="chat",credential="acme-prod",org="acme"} 1e-09' in text
    assert 'tallygate_spend_limit_usd{org="acme"} 100.0' in text
    assert 'tallygate_spend_held_usd{org="acme"} 7e-09' in text
    assert 'tallygate_paused{org="acme"} 0.0' in text
    assert 'tallygate_worker_up{worker="0"} 1.0' in text
    assert 'tallygate_build_info{config="c0ffee",version="1"} 1.0' in text
    assert "tallygate_ledger_lag_events 2.0" in text
    assert "tallygate_ledger_database_up 1.0" in text


async def test_windows_are_read_under_the_keys_of_the_organizations_own_limits(console):
    await console.get("/metrics")

    [(org, demands)] = console.store.asked
    assert org == "acme"
    assert [demand.key for demand in demands] == ["org:spend_7d", "org:spend_month"]
    assert [len(demand.periods) for demand in demands] == [0, 3]


async def test_any_pausing_limit_of_an_organization_pauses_it(console):
    assert "tallygate_spend_resume_timestamp_seconds{" not in (await console.get("/metrics"))[2]
    console.store.paused = {"org:spend_month": 1_700_000_000_500, "org:spend_7d": 1_600_000_000_000}

    _, _, text = await console.get("/metrics")

    assert 'tallygate_paused{org="acme"} 1.0' in text
    assert 'tallygate_spend_resume_timestamp_seconds{org="acme"} 1.7000000005e+09' in text, "the last of them"


async def test_the_age_of_what_waits_for_the_ledger_is_in_seconds(console):
    assert "tallygate_ledger_lag_seconds 1.5" in (await console.get("/metrics"))[2]


async def test_it_is_compressed_for_who_can_read_that(console):
    path = f"http://127.0.0.1:{console.port}/metrics"
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.get(path, headers={"Accept-Encoding": "gzip"}) as answer:
            packed, encoding = await answer.read(), answer.headers["Content-Encoding"]
        async with session.get(path, headers={"Accept-Encoding": "identity"}) as answer:
            plain = await answer.text()
            assert "Content-Encoding" not in answer.headers

    assert encoding == "gzip"
    assert gzip.decompress(packed).decode() == plain


async def test_openmetrics_is_negotiated(console):
    _, headers, text = await console.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_a_store_that_is_away_costs_its_families_and_not_the_scrape(console):
    console.store.error = StoreError("no answer")

    status, _, text = await console.get("/metrics")

    assert status == 200
    assert "tallygate_scrape_incomplete 1.0" in text
    assert "tallygate_worker_up" in text
    assert "tallygate_spend_window_usd{" not in text
    assert "tallygate_spend_usd_total{" in text


async def test_a_database_that_is_away_costs_its_families_and_not_the_scrape(console):
    console.totals.error = LedgerUnavailableError("no answer")

    status, _, text = await console.get("/metrics")

    assert status == 200
    assert "tallygate_scrape_incomplete 1.0" in text
    assert "tallygate_ledger_database_up 0.0" in text
    assert "tallygate_spend_usd_total" not in text
    assert "tallygate_requests_total" not in text
    assert "tallygate_spend_window_usd{" in text


async def test_one_scrape_reads_a_bounded_number_of_organizations_and_tells_of_the_rest(console):
    console.holder.current = config(*(organization(f"o{number}", WEEK) for number in range(ORGANIZATIONS_MAX + 3)))

    _, _, text = await console.get("/metrics")

    assert len(console.store.asked) == ORGANIZATIONS_MAX
    assert "tallygate_scrape_organizations_skipped 3.0" in text


async def test_a_worker_that_falls_silent_is_down_and_has_nothing_open(console):
    known = KnownLabels(organizations=frozenset(), credentials=frozenset(), capabilities=frozenset(), limits=frozenset())
    GatewayMetrics(console.counts, known, now_ns=lambda: 0).inc(metrics.OPEN_REQUESTS)
    console.clock.now_ms += STALE_MS
    assert "tallygate_open_requests 1.0" in (await console.get("/metrics"))[2]

    console.clock.now_ms += 1
    _, _, text = await console.get("/metrics")

    assert 'tallygate_worker_up{worker="0"} 0.0' in text
    assert "tallygate_open_requests 1.0" not in text


async def test_counts_of_slots_that_are_no_longer_used_remain(console, tmp_path):
    earlier = CountFile(tmp_path, "worker-7")
    earlier.cells[earlier.allocate(metrics.BAD_REQUESTS.name)] = 11
    earlier.cells[earlier.allocate(metrics.OPEN_REQUESTS.name)] = 5
    earlier.cells[earlier.allocate(metrics.SPOOL_EVENTS.name)] = 4
    WorkerState(earlier, pid=1, new_identity=lambda: 8).beat(console.clock.now_ms)
    earlier.close()

    _, _, text = await console.get("/metrics")

    assert "tallygate_bad_requests_total 11.0" in text
    assert "tallygate_open_requests 5.0" not in text
    assert "tallygate_spool_events 4.0" not in text, "another slot has taken them over"
    assert 'worker="7"' not in text


async def test_a_slot_whose_worker_was_killed_is_down_and_its_counts_still_count(console):
    known = KnownLabels(organizations=frozenset(), credentials=frozenset(), capabilities=frozenset(), limits=frozenset())
    GatewayMetrics(console.counts, known, now_ns=lambda: 0).inc(metrics.BAD_REQUESTS)
    console.clock.now_ms += 60_000
    assert 'tallygate_worker_up{worker="0"} 0.0' in (await console.get("/metrics"))[2]

    successor = CountFile(console.metrics, "worker-0")
    GatewayMetrics(successor, known, now_ns=lambda: 0).inc(metrics.BAD_REQUESTS)
    state = WorkerState(successor, pid=1, new_identity=lambda: 9)
    state.beat(console.clock.now_ms)
    state.serving(True)
    _, _, text = await console.get("/metrics")
    successor.close()

    assert 'tallygate_worker_up{worker="0"} 1.0' in text
    assert 'tallygate_worker_starts_total{worker="0"} 2.0' in text
    assert "tallygate_bad_requests_total 2.0" in text


async def test_ready_tells_each_check(console):
    status, _, text = await console.get("/readyz")

    assert status == 200
    assert '"name": "store", "passed": true' in text


@pytest.mark.parametrize(
    ("error", "reason"),
    [(StoreError("redis://:hunter2@h"), "does not answer"), (LimiterWipedError("lost"), "what was spent")],
)
async def test_not_ready_without_the_store_and_the_reason_leaks_nothing(console, error, reason):
    console.store.error = error

    status, _, text = await console.get("/readyz")

    assert status == 503
    assert reason in text
    assert "hunter2" not in text


FULL = Obstacle("disk", "takes no writes: its disk is full")


async def test_a_store_that_answers_and_takes_no_writes_is_unready_and_says_why(console):
    assert (await console.get("/readyz"))[0] == 200
    console.store.refused_writes = StoreError("MISCONF at redis://:hunter2@h", FULL)
    console.clock.now_ms += EVERY_MS

    status, _, text = await console.get("/readyz")
    _, _, scraped = await console.get("/metrics")

    assert status == 503
    assert "the limiter's store takes no writes: its disk is full" in text
    assert "hunter2" not in text + scraped
    assert 'tallygate_takes_writes{part="store",reason="disk"} 0.0' in scraped
    assert 'tallygate_takes_writes{part="database",reason=""} 1.0' in scraped
    assert "tallygate_ledger_database_up 1.0" in scraped


async def test_a_database_that_takes_no_writes_is_not_up_and_a_gateway_serves_on(console):
    console.totals.refused_writes = LedgerUnavailableError("full", FULL)

    status, _, text = await console.get("/readyz")
    _, _, scraped = await console.get("/metrics")

    assert status == 200
    assert "the ledger's database takes no writes: its disk is full" in text
    assert 'tallygate_takes_writes{part="database",reason="disk"} 0.0' in scraped
    assert "tallygate_ledger_database_up 0.0" in scraped


async def test_one_that_reads_and_never_writes_is_named_too(console, monkeypatch):
    monkeypatch.setattr(write_checks, "WRITE_SECONDS", 0.01)
    console.totals.hangs = True

    assert "the ledger's database takes no writes in time" in (await console.get("/readyz"))[2]
    scraped = (await console.get("/metrics"))[2]
    assert 'tallygate_takes_writes{part="database",reason="slow"} 0.0' in scraped
    assert "tallygate_ledger_database_up 0.0" in scraped


async def test_a_gateway_is_unready_while_as_much_waits_for_the_ledger_as_may(console):
    _, _, scraped = await console.get("/metrics")
    assert "tallygate_ledger_backlog_bytes 40.0" in scraped
    assert "tallygate_ledger_backlog_max_bytes 1000.0" in scraped
    assert "tallygate_store_memory_bytes 7000.0" in scraped
    assert "tallygate_store_memory_max_bytes 1" not in scraped, "it has no bound of its own"
    console.store.memory_max = 10_000
    assert "tallygate_store_memory_max_bytes 10000.0" in (await console.get("/metrics"))[2]
    console.store.waiting = 999
    assert (await console.get("/readyz"))[0] == 200

    console.store.waiting = 1_000
    status, _, text = await console.get("/readyz")

    assert status == 503
    assert "as much usage waits for the ledger as may, so nothing is admitted" in text


async def test_a_gateway_is_unready_while_no_worker_has_room_for_what_it_would_settle(console):
    cell = console.counts.allocate(metrics.SPOOL_FULL.name)
    console.counts.cells[cell] = 1

    status, _, text = await console.get("/readyz")

    assert status == 503
    assert "worker 0 admits nothing: its spool is full, or has no room on the disk" in text
    assert "tallygate_spool_full_workers 1.0" in (await console.get("/metrics"))[2]
    console.counts.cells[cell] = 0
    assert (await console.get("/readyz"))[0] == 200


async def test_one_that_does_not_answer_neither_takes_nor_refuses_writes(console):
    console.store.refused_writes = StoreError("away")

    assert "the limiter's store does not answer" in (await console.get("/readyz"))[2]
    assert 'tallygate_takes_writes{part="store"' not in (await console.get("/metrics"))[2]


async def test_however_often_readiness_is_asked_writes_are_rare(console):
    for _ in range(20):
        await console.get("/readyz")
        await console.get("/metrics")
        console.clock.now_ms += EVERY_MS // 20
    await console.get("/readyz")
    assert console.store.writes == 2
    assert console.store.thorough == 1


async def test_what_the_ledger_has_just_committed_shows_that_its_database_takes_writes(console):
    console.writes.was_taken()
    await console.get("/metrics")
    assert console.totals.writes == 1, "there was no check to save before the first"
    for _ in range(5):
        console.clock.now_ms += EVERY_MS
        console.writes.was_taken()
        console.clock.now_ms += EVERY_MS - 1
        assert 'tallygate_takes_writes{part="database",reason=""} 1.0' in (await console.get("/metrics"))[2]
    assert console.totals.writes == 1

    console.totals.refused_writes = LedgerUnavailableError("full", FULL)
    console.clock.now_ms += 1
    assert 'tallygate_takes_writes{part="database",reason="disk"} 0.0' in (await console.get("/metrics"))[2]
    console.totals.refused_writes = None
    console.clock.now_ms += EVERY_MS
    console.writes.was_taken()
    assert 'tallygate_takes_writes{part="database",reason=""} 1.0' in (await console.get("/metrics"))[2]
    assert console.totals.writes == 3, "what was refused is tried"


async def test_every_command_is_tried_now_and_then_and_for_as_long_as_something_is_wrong(console):
    for _ in range(THOROUGH_MS // EVERY_MS + 1):
        await console.get("/readyz")
        console.clock.now_ms += EVERY_MS
    assert console.store.thorough == 2
    console.store.refused_writes = StoreError("no", FULL)
    for _ in range(4):
        await console.get("/readyz")
        console.clock.now_ms += EVERY_MS
    assert console.store.thorough == 2 + 3


async def test_not_ready_without_a_worker_or_while_draining(console):
    console.state.serving(False)
    assert (await console.get("/readyz"))[0] == 503
    console.state.serving(True)
    assert (await console.get("/readyz"))[0] == 200

    console.readiness.is_draining = True

    assert (await console.get("/readyz"))[0] == 503


async def test_a_rejected_reload_is_told_but_does_not_stop_serving(console):
    console.readiness.config_problems = ("plans.yaml:3: secret detail",)

    status, _, text = await console.get("/readyz")

    assert status == 200
    assert "rejected" in text
    assert "secret detail" not in text


async def test_alive_needs_nothing(console):
    console.store.error = StoreError("away")

    assert (await console.get("/healthz"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/secret-path", 404), ("POST", "/metrics", 405), ("GET", "/metrics/x", 404)]
)
async def test_all_else_gets_a_constant_answer_without_banner_or_cors(console, method, path, status):
    answered, headers, text = await console.get(path, method=method, headers={"Origin": "http://evil.example"})

    assert answered == status
    error = json.loads(text)["error"]
    assert (error["code"], error["param"]) in {("unknown_path", None), ("method_not_allowed", None)}
    assert path not in text
    assert "Server" not in headers
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert headers["Content-Type"].startswith("application/json")


async def test_a_malformed_request_gets_nothing_of_itself_back(console, caplog):
    reader, writer = await asyncio.open_connection("127.0.0.1", console.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer canary-key\x01\r\n\r\n")
    answer = await reader.read()
    writer.close()

    assert answer.split()[1] == b"400"
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == {
        "message": "The request is not valid HTTP/1.1.",
        "type": "invalid_request_error",
        "param": None,
        "code": "bad_request",
    }
    assert b"canary" not in answer
    assert b"aiohttp" not in answer
    assert "canary" not in caplog.text


async def ask(console, request):
    """The one answer to these bytes, over a connection that has to end: status, headers, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", console.port)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers["date"].endswith(" GMT")
    assert "via" not in headers
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize(
    ("request_line", "headers", "status", "code"),
    [
        *(
            (b"GET /healthz HTTP/1.1", b"Host: " + host, 400, "bad_request")
            for host in (
                b"",
                b"a b",
                b"localhost/",
                b"localhost@evil.example",
                b"localhost, a",
                b"localhost:x",
                b"[::1]evil",
                b"http://a",
            )
        ),
        (b"GET /healthz HTTP/1.1", b"Host: a\r\nHost: a", 400, "bad_request"),
        (b"GET /healthz HTTP/1.1", b"X: y", 400, "bad_request"),
        (b"GET http://user@localhost/healthz HTTP/1.1", b"Host: localhost", 400, "bad_request"),
        (b"GET http://localhost:x/healthz HTTP/1.1", b"Host: localhost", 400, "bad_request"),
        (b"GET http://localhost/healthz HTTP/1.1", b"Host: a b", 400, "bad_request"),
        (b"GET ftp://localhost/healthz HTTP/1.1", b"Host: localhost", 400, "bad_request"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1", b"Host: a", 414, "uri_too_long"),
        (b"GET /healthz HTTP/1.1", b"Host: a\r\nX: " + b"a" * 9_000, 431, "head_too_large"),
        (b"GET /healthz HTTP/1.1", b"Host: a\r\nExpect: a-miracle", 417, "expectation_failed"),
        (b"BREW /healthz HTTP/1.1", b"Host: a", 501, "unknown_method"),
        (b"PROPFIND /healthz HTTP/1.1", b"Host: a", 501, "unknown_method"),
        (b"GET /healthz HTTP/2.0", b"Host: a", 505, "http_version_not_supported"),
        (b"PRI * HTTP/2.0", b"\r\nSM", 505, "http_version_not_supported"),
        (b"GET /healthz HTTP/1.1", b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket", 426, "websocket_not_served"),
        (b"POST /healthz HTTP/1.1", b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket", 426, "websocket_not_served"),
        (b"GET /nothing HTTP/1.1", b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket", 404, "unknown_path"),
    ],
)
async def test_http_to_the_letter(console, request_line, headers, status, code):
    answered, told, body = await ask(console, request_line + b"\r\n" + headers + b"\r\n\r\n")

    assert (answered, json.loads(body)["error"]["code"]) == (status, code)
    assert told["connection"] in {"close", "upgrade, close"}
    assert told.get("upgrade") == ("HTTP/1.1" if status == 426 else None)
    assert json.loads(body)["error"]["message"]
    assert "aiohttp" not in told.get("server", "")


async def test_a_target_that_is_a_url_is_taken_for_its_path_at_its_host(console):
    for url, host, status in (
        (b"http://localhost/metrics", b"evil.example", 200),
        (b"http://localhost/metrics", b"", 200),
        (b"http://evil.example/metrics", b"localhost", 403),
    ):
        answered, _, _ = await ask(console, b"GET " + url + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        assert answered == status
    assert (await ask(console, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 204


async def test_an_offer_of_h2c_is_ignored(console):
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", console.port)
    for number in range(3):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + offer + b"\r\n")
        if number == 2:  # what comes with it and behind it is not lost in silence
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readline()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Upgrade" not in head
        assert (b"Connection: close" in head) == (number == 2)
    writer.close()


async def test_off_loopback_metrics_ask_for_the_admin_token_and_health_does_not(console):
    console.server._token_sha256 = hashlib.sha256(b"tga_right").digest()

    assert (await console.get("/metrics"))[0] == 401
    assert (await console.get("/metrics", headers={"Authorization": "Bearer tga_wrong"}))[0] == 401
    assert (await console.get("/metrics", headers={"Authorization": "Basic tga_right"}))[0] == 401
    assert (await console.get("/metrics", headers={"Authorization": "Bearer tga_right"}))[0] == 200
    assert (await console.get("/healthz"))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:9090", "localhost", "LOCALHOST:1", "localhost.", "127.8.9.1", "[::1]:9090", "[::1]", "console.internal:9090"],
)
async def test_metrics_answer_without_a_token_under_a_known_host(console, host):
    console.server._hosts = KnownHosts(["console.internal"])
    assert (await console.get("/metrics", headers={"Host": host}))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io:9090"),
        *("0.0.0.0:9090", "10.0.0.5:9090", "[::2]", "console.internal.evil.example", "2130706433"),
    ],
)
async def test_a_page_whose_name_leads_here_gets_no_metrics(console, host):
    console.server._hosts = KnownHosts(["console.internal"])
    console.server._tokens = PlatformToken(hashlib.sha256(b"tga_right").digest(), actor="metrics", access=Access.METRICS)
    status, _, body = await console.get("/metrics", headers={"Host": host})
    assert (status, json.loads(body)["error"]["code"]) == (403, "unknown_host")
    assert "acme" not in body
    assert (await console.get("/metrics", headers={"Host": host, "Authorization": "Bearer tga_wrong"}))[0] == 401
    assert (await console.get("/metrics", headers={"Host": host, "Authorization": "Bearer tga_right"}))[0] == 200
    assert (await console.get("/healthz", headers={"Host": host}))[0] == 200  # of what it tells nobody has a use


async def test_two_hosts_or_none_or_another_in_the_target_are_no_known_host(console):
    for target, head in (
        (b"/metrics", b"Host: localhost\r\nHost: localhost\r\n"),
        (b"/metrics", b""),
        (b"http://evil.example/metrics", b"Host: localhost\r\n"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", console.port)
        writer.write(b"GET " + target + b" HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.split()[1] in {b"400", b"403"}


async def test_wrong_tokens_are_logged_counted_and_slowed_and_the_right_one_is_not(console, caplog):
    console.server._token_sha256 = hashlib.sha256(b"tga_right").digest()
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    wrong = console.server._wrong_tokens = WrongTokens(now_ms=lambda: 0, sleep=sleep)
    for _ in range(FREE + 2):
        assert (await console.get("/metrics", headers={"Authorization": "Bearer tga_secret-guess"}))[0] == 401
    assert (await console.get("/metrics"))[0] == 401
    assert (await console.get("/metrics", headers={"Authorization": "Bearer tga_right"}))[0] == 200

    assert (len(slept), wrong.count) == (2, FREE + 2)
    fields = [record.fields for record in caplog.records if record.message == "wrong admin token"]
    assert len(fields) == FREE + 2
    assert fields[0] == {"address": "127.0.0.1", "path": "/metrics", "wrong_in_a_row": 1}
    assert "secret-guess" not in caplog.text


async def test_who_keeps_on_guessing_is_sent_away_and_the_right_token_still_answered(console):
    console.server._token_sha256 = hashlib.sha256(b"tga_right").digest()
    gate = asyncio.Event()

    async def held(_seconds):
        await gate.wait()

    console.server._wrong_tokens = WrongTokens(now_ms=lambda: 0, sleep=held)
    guesses = [
        asyncio.ensure_future(console.get("/metrics", headers={"Authorization": "Bearer x"}))
        for _ in range(FREE + WAITING_OF_ONE_MAX + 1)
    ]
    while not any(guess.done() and guess.result()[0] == 429 for guess in guesses):
        await asyncio.sleep(0.01)
    assert (await console.get("/metrics", headers={"Authorization": "Bearer tga_right"}))[0] == 200
    gate.set()
    assert sorted(answer[0] for answer in await asyncio.gather(*guesses)) == [401] * (FREE + WAITING_OF_ONE_MAX) + [429]
