"""A store that answers and takes no writes, and a master that is one no more: real servers, real refusals."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy
from limiter_values import a_request
from marked_partitions import mark_all
from valkey_process import ValkeyProcess, running_valkey

from tallygate.app import stores
from tallygate.config.settings import load_settings
from tallygate.domain.errors import StoreError
from tallygate.limiter.address import parse_address
from tallygate.limiter.commands import check_commands
from tallygate.limiter.connection import BACKOFF_MAX_MS, TIMEOUT_MS, RedisConnection
from tallygate.limiter.keys import partition_keys
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.writes import obstacle_of

pytestmark = pytest.mark.process

FOUND_SECONDS = 2.0  # from the new master's first write to ours


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[ValkeyProcess, ValkeyProcess]]:
    at_once = ("--repl-diskless-sync-delay", "0")
    with running_valkey(extra=at_once) as first, running_valkey(extra=at_once) as second:
        yield first, second


@pytest.fixture
async def through(pair: tuple[ValkeyProcess, ValkeyProcess]) -> AsyncIterator[tuple[FaultProxy, RedisConnection]]:
    """A name that leads to the first of two masters, and a connection to it."""
    for server in pair:
        server.client().replicaof("NO", "ONE")
        server.client().flushall()
    proxy = FaultProxy(pair[0].port)
    await proxy.start()
    opened = RedisConnection(parse_address(proxy.url), timeout_ms=500)
    await opened.open()
    yield proxy, opened
    await opened.close()
    await proxy.stop()


@pytest.fixture
def only() -> Iterator[ValkeyProcess]:
    with running_valkey() as server:
        yield server


def demote(server: ValkeyProcess, master: ValkeyProcess) -> None:
    server.client().replicaof("127.0.0.1", str(master.port))


async def until_written(opened: RedisConnection) -> float:
    """Seconds until a write is taken."""
    started = time.monotonic()
    while True:
        try:
            await check_commands(opened)
        except StoreError:
            assert time.monotonic() - started < 20
            await asyncio.sleep(0.01)
        else:
            return time.monotonic() - started


async def test_a_demoted_masters_connection_is_dropped_and_the_new_master_is_found(
    pair: tuple[ValkeyProcess, ValkeyProcess], through: tuple[FaultProxy, RedisConnection]
) -> None:
    (old, new), (proxy, opened) = pair, through
    await mark_all(opened, "g")
    limiter = RedisLimiter(opened, load_scripts())
    demote(old, new)
    with pytest.raises(StoreError):  # its connection stays open, and the name leads to it still
        await limiter.admit(a_request("r1", 1))
    with pytest.raises(StoreError) as refused:
        await check_commands(opened)
    assert refused.value.obstacle is not None
    assert refused.value.obstacle.name == "replica"
    assert not opened.is_up  # a replica is not connected to, however often it is tried

    proxy.lead_to(new.port)
    found_after = await until_written(opened)

    assert found_after < 10  # on a machine that is busy; the pauses between attempts add up to less than two seconds
    await mark_all(opened, "g")
    assert (await limiter.admit(a_request("r2", 1))).admitted


async def test_where_the_name_has_moved_already_not_even_one_admission_fails(
    pair: tuple[ValkeyProcess, ValkeyProcess], through: tuple[FaultProxy, RedisConnection]
) -> None:
    (old, new), (proxy, opened) = pair, through
    new.client().replicaof("127.0.0.1", str(old.port))
    await mark_all(opened, "g")
    while not new.client().exists(partition_keys(63).generation):
        await asyncio.sleep(0.01)
    new.client().replicaof("NO", "ONE")
    proxy.lead_to(new.port)
    demote(old, new)
    assert (await RedisLimiter(opened, load_scripts()).admit(a_request("r1", 1))).admitted


async def test_a_name_with_several_addresses_leads_to_the_master_among_them(
    pair: tuple[ValkeyProcess, ValkeyProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = pair
    new.client().replicaof("NO", "ONE")
    demote(old, new)

    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)  # it accepts, and never answers

    async def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        assert host == "store.example"
        ports = (1, old.port, silent.sockets[0].getsockname()[1], new.port)  # none, a replica, one that hangs, the master
        return [(0, 0, 0, "", ("127.0.0.1", port)) for port in ports]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    opened = RedisConnection(parse_address("redis://store.example:1/0"), timeout_ms=2_000)
    await opened.open()
    assert b"role:master" in await opened.command(b"INFO", b"replication")
    await opened.close()
    silent.close()


def test_pauses_between_attempts_let_a_new_master_be_found_in_time() -> None:
    assert BACKOFF_MAX_MS + TIMEOUT_MS <= FOUND_SECONDS * 1_000


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [("maxmemory", "1", "memory"), ("min-replicas-to-write", "1", "replicas")],
)
async def test_a_store_that_refuses_writes_says_why_and_the_log_says_it_once(
    only: ValkeyProcess, caplog: pytest.LogCaptureFixture, setting: str, value: str, name: str
) -> None:
    opened = RedisConnection(parse_address(only.url))
    await opened.open()
    await check_commands(opened)
    only.client().config_set(setting, value)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(StoreError) as refused:
                await check_commands(opened)
    assert refused.value.obstacle is not None
    assert refused.value.obstacle.name == name
    assert opened.is_up
    assert [record.fields["obstacle"] for record in caplog.records] == [name]  # type: ignore[attr-defined]
    only.client().config_set(setting, "0")
    await check_commands(opened)
    await opened.close()


async def test_a_save_that_failed_is_a_full_disk(only: ValkeyProcess) -> None:
    (only.directory / "dump.rdb").mkdir()  # what is to be replaced by a file cannot be
    client = only.client()
    client.config_set("save", "1 1")
    client.set("a", 1)
    client.bgsave()
    opened = RedisConnection(parse_address(only.url))
    await opened.open()
    for _ in range(200):
        if client.info("persistence")["rdb_last_bgsave_status"] == "err":
            break
        await asyncio.sleep(0.02)
    with pytest.raises(StoreError, match="MISCONF") as refused:
        await check_commands(opened)
    assert refused.value.obstacle is not None
    assert refused.value.obstacle.name == "disk"
    await opened.close()


@pytest.mark.parametrize(
    ("error", "name"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'. script: 1ce8, on @user_script:1.", "memory"),
        ("ERR Error running script (call to f_1ce8): @user_script:9: -READONLY You can't write", "replica"),
        ("ERR The user executing the script can't run this command or subcommand script: 1ce8", "permission"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", ""),
        ("ERR value is BUSYBODY", ""),
    ],
)
def test_an_error_is_read_by_its_word_also_out_of_a_script(error: str, name: str) -> None:
    found = obstacle_of(error)
    assert (found.name if found else "") == name


async def test_a_start_waits_for_a_store_that_is_loading_its_data_and_logs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that takes two seconds to load: the server waits between two of its entries, and answers at every 1,024th."""
    monkeypatch.setattr(stores, "LOADING_SECONDS", 0.01)
    with running_valkey(append_only=True) as server:
        client = server.client()
        for number in range(2_100):
            client.set(f"key{number}", "x")
        server.kill()
        slow = ValkeyProcess(server.directory, append_only=True, extra=("--key-load-delay", "1000"))
        starting = asyncio.create_task(asyncio.to_thread(slow.start))
        while not (server.directory / "valkey.sock").exists():
            await asyncio.sleep(0.01)
        patient = {"store_deadline_ms": 20_000}
        settings = load_settings({"redis_url": slow.url, "data_dir": str(tmp_path), **patient})
        while True:
            with suppress(StoreError):  # until it listens
                opened = await stores.open_store(settings)
                break
        await opened.close()
        await starting
        slow.kill()
    fields = [record.fields for record in caplog.records if "refuses calls" in record.message]  # type: ignore[attr-defined]
    assert [found["obstacle"] for found in fields] == ["loading"]
