"""What `tallygate doctor` finds: of the store, the database, and the service that looks keys up."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from click.testing import CliRunner
from new_ledger import ledger_file, postgres_ledger
from postgres_process import PostgresProcess, running_standby
from sqlalchemy import insert
from valkey_process import ValkeyProcess

from tallygate.cli import main
from tallygate.config.key_lookup import KeyLookup
from tallygate.doctor.examination import _key_lookup
from tallygate.ledger.opening import open_database
from tallygate.ledger.schema import SPOOL_COPIES
from tallygate.limiter.keys import partition_keys
from tallygate.outbound.way_out import WayOut


@pytest.fixture
def service() -> Iterator[Any]:
    class Service(BaseHTTPRequestHandler):
        answer = b'{"active": false}'
        asked: dict[str, list[str]]

        def do_POST(self) -> None:
            Service.asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200 if self.headers["Authorization"] == "Bearer ours" else 401)
            self.end_headers()
            self.wfile.write(Service.answer)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Service.url = f"http://127.0.0.1:{server.server_port}/introspect"  # type: ignore[attr-defined]
    yield Service
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_that_denies_an_invented_key_is_good_and_any_other_is_not(service: Any) -> None:
    ours = KeyLookup(url=service.url, secret="ours")
    good = _key_lookup(ours, WayOut())
    assert (good.is_good, good.text) == (True, "127.0.0.1 says that an invented key is not active (status 200)")
    assert service.asked["token_type_hint"] == ["key_sha256"]
    assert not _key_lookup(KeyLookup(url=service.url), WayOut()).is_good
    for answer in (b'{"active": true, "client_id": "acme"}', b"[]", b"no", b""):
        service.answer = answer
        assert not _key_lookup(ours, WayOut()).is_good
    assert "does not answer" in _key_lookup(KeyLookup(url="http://127.0.0.1:9/"), WayOut()).text


def findings(run_doctor: Any, **variables: str) -> dict[str, tuple[bool, str]]:
    return {found["check"]: (found["is_good"], found["text"]) for found in json.loads(run_doctor(variables))}


@pytest.fixture
def run_doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def run(variables: dict[str, str]) -> str:
        for name, value in {
            "TALLYGATE_UPSTREAM_URL": "http://127.0.0.1:9",
            "TALLYGATE_DATA_DIR": str(tmp_path),
            **variables,
        }.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(main, ["doctor", "--json"]).stdout

    return run


def test_a_store_that_takes_no_writes_or_is_a_replica_is_found(run_doctor: Any, valkey_server: ValkeyProcess) -> None:
    client, url = valkey_server.client(), valkey_server.url
    assert findings(run_doctor, TALLYGATE_REDIS_URL=url)["store writes"] == (True, "takes writes")
    client.config_set("maxmemory", "1")
    try:
        found = findings(run_doctor, TALLYGATE_REDIS_URL=url)
    finally:
        client.config_set("maxmemory", "0")
    assert found["store writes"] == (False, "takes no writes: its memory is full (OOM, maxmemory)")
    assert not found["memory"][0]
    client.replicaof("127.0.0.1", "1")
    try:
        found = findings(run_doctor, TALLYGATE_REDIS_URL=url)
    finally:
        client.replicaof("NO", "ONE")
    assert found["store"] == (False, "takes no writes: it is a replica, and the master is elsewhere")


def test_usage_that_waits_for_a_ledger_is_told_before_nothing_is_admitted(run_doctor: Any, valkey_server: ValkeyProcess) -> None:
    variables = {"TALLYGATE_REDIS_URL": valkey_server.url, "TALLYGATE_STREAM_BYTES_MAX": "1000000"}
    client = valkey_server.client()
    client.flushall()
    assert findings(run_doctor, **variables)["backlog"] == (True, "0.0 of 1 MB of usage wait for the ledger")
    found = []
    for _ in range(2):
        for number in range(700):
            client.xadd(partition_keys(number % 64).events, {"event": b"e" * 1_000})
        found.append(findings(run_doctor, **variables)["backlog"])
    client.flushall()
    assert [is_good for is_good, _ in found] == [False, False]
    assert found[0][1].endswith(
        "of 1 MB of usage wait for the ledger: at the bound nothing is admitted; does `tallygate ledger` run?"
    )
    assert found[1][1].endswith("of 1 MB of usage wait for the ledger: nothing is admitted until `tallygate ledger` has taken some")


def test_the_database_is_examined_as_it_is_and_nothing_is_made(run_doctor: Any, tmp_path: Path) -> None:
    assert findings(run_doctor)["database"] == (True, f"a SQLite database will be made: {tmp_path}/ledger.db")
    assert not (tmp_path / "ledger.db").exists()
    (tmp_path / "ledger.db").write_bytes(asyncio.run(ledger_file()))
    found = findings(run_doctor)
    assert found["database"][0]
    assert found["database writes"] == (True, "takes writes")
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1_000)
    assert findings(run_doctor)["database"] == (False, "takes no writes: its file is damaged, or is no SQLite database")
    assert not findings(run_doctor, TALLYGATE_DATABASE_URL="postgresql://:hunter2@127.0.0.1:1/x")["database"][0]


async def test_a_read_replica_is_to_follow_the_database(run_doctor: Any, postgres_server: PostgresProcess) -> None:
    async def found(url: str, read_url: str) -> dict[str, tuple[bool, str]]:
        variables = {"TALLYGATE_DATABASE_URL": url, "TALLYGATE_DATABASE_READ_URL": read_url}
        return await asyncio.to_thread(findings, run_doctor, **variables)

    async with postgres_ledger(postgres_server) as url:
        with running_standby(postgres_server) as standby:
            name = url.rpartition("/")[2]
            is_good, text = (await found(url, standby.url(name)))["read replica"]
            assert is_good
            assert re.fullmatch(r"follows the database, at most \d+ ms behind", text)
            for other in (url, standby.url("postgres")):
                is_good, text = (await found(url, other))["read replica"]
                assert not is_good
                assert text.startswith("is no standby of this database")
        is_good, text = (await found(url, standby.url(name)))["read replica"]
        assert not is_good
        assert text.startswith("does not answer")
    assert (await found("", "postgresql://standby/ledger"))["database"] == (
        False,
        "TALLYGATE_DATABASE_READ_URL needs a PostgreSQL in TALLYGATE_DATABASE_URL: SQLite has no replicas",
    )


async def test_spooled_settlements_that_nobody_settles_are_found(run_doctor: Any, postgres_server: PostgresProcess) -> None:
    async def found(url: str) -> tuple[bool, str]:
        return (await asyncio.to_thread(findings, run_doctor, TALLYGATE_DATABASE_URL=url))["spool copies"]

    async with postgres_ledger(postgres_server) as url:
        assert await found(url) == (True, "no spooled settlement waits")
        database = open_database(url, Path())
        for minutes, text in ((2, "1 spooled settlements wait"), (20, "2 spooled settlements wait")):
            noted_at_ms = time.time_ns() // 1_000_000 - minutes * 60_000 - 1_000
            row = {"id": text, "is_deferred": False, "org": "acme", "gateway": "g", "noted_at_ms": noted_at_ms, "record": b"{}"}
            async with database.write() as connection:
                await connection.execute(insert(SPOOL_COPIES).values(**row))
            is_good, said = await found(url)
            assert is_good == (minutes == 2)
            assert said == f"{text} for their gateways or for a ledger, the oldest for {minutes} minutes"
        await database.close()
