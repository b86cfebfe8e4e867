"""A store that sentinels watch: real servers, sentinels and failovers, and what each kind of trouble is called."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from limiter_values import a_request
from marked_partitions import mark_all
from sentinel_processes import SERVICE, Watched, running_sentinels
from valkey_process import free_port

from tallygate.config.settings import load_settings
from tallygate.doctor.finding import Finding
from tallygate.doctor.stores import examine_stores
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.sentinel import SentinelLookup

pytestmark = pytest.mark.process


@pytest.fixture
def watched() -> Iterator[Watched]:
    with running_sentinels() as found:
        yield found


async def opened(url: str) -> RedisConnection:
    connection = RedisConnection(parse_address(url), timeout_ms=2_000)
    await connection.open()
    return connection


async def until_served(connection: RedisConnection, port: int) -> None:
    """Until calls reach the server of this port."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if b"tcp_port:%d\r" % port in await connection.command(b"INFO"):
                return
        except StoreError:
            pass
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_the_master_is_found_and_followed_through_an_orderly_failover(watched: Watched) -> None:
    master, replica = watched.servers
    connection = await opened(watched.url)
    await until_served(connection, master.port)
    await mark_all(connection, "g")
    limiter = RedisLimiter(connection, load_scripts())
    assert (await limiter.admit(a_request("r1", 1))).admitted
    assert master.client().wait(1, 20_000) == 1  # the replica has it

    watched.failover()
    await watched.moved(master.port)
    await until_served(connection, replica.port)

    assert (await limiter.admit(a_request("r2", 1))).admitted
    await connection.close()


async def test_sentinels_that_ask_for_a_password_get_it() -> None:
    with running_sentinels(password="sesame") as watched:
        connection = await opened(f"{watched.url}?sentinel_password=sesame")
        await until_served(connection, watched.servers[0].port)
        await connection.close()
        for query, reason in (("?sentinel_password=open", "WRONGPASS"), ("", "NOAUTH")):
            with pytest.raises(StoreError, match=reason):
                await opened(watched.url + query)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_master_that_dies_or_hangs_is_replaced(watched: Watched, fault: signal.Signals) -> None:
    master, replica = watched.servers
    connection = await opened(watched.url)
    await until_served(connection, master.port)

    master.signal(fault)
    await watched.moved(master.port)
    await until_served(connection, replica.port)

    await connection.close()


async def test_a_master_that_was_replaced_behind_its_back_is_left_within_seconds(watched: Watched) -> None:
    """It is cut off from the sentinels, and goes on answering to those who are connected to it."""
    master, replica = watched.servers
    connection = await opened(watched.url)
    await until_served(connection, master.port)
    for number in range(3):  # the sentinels are told that it is gone; nobody tells the server itself
        watched.ask(number).execute_command("SENTINEL", "REMOVE", SERVICE)
        watched.ask(number).execute_command("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", replica.port, 2)
    replica.client().replicaof("NO", "ONE")

    await until_served(connection, replica.port)

    assert b"role:master" in await connection.command(b"INFO")
    assert master.client().ping()
    await connection.close()


async def test_sentinels_that_are_gone_do_not_matter_while_one_answers(watched: Watched) -> None:
    for process in watched.processes[:2]:
        process.kill()
        process.wait()
    connection = await opened(watched.url)
    await until_served(connection, watched.servers[0].port)
    await connection.close()


async def test_without_any_sentinel_the_connection_that_stands_serves_on(watched: Watched) -> None:
    connection = await opened(watched.url)
    for process in watched.processes:
        process.kill()
        process.wait()
    await asyncio.sleep(0)
    assert await connection.command(b"PING") == b"PONG"
    await connection.close()

    with pytest.raises(StoreError, match=rf"sentinel 127.0.0.1:{watched.sentinels[2]} does not answer"):
        await opened(watched.url)


async def test_a_service_that_no_sentinel_knows_is_named(watched: Watched) -> None:
    with pytest.raises(StoreError, match=r"No such master with that name"):
        await opened(watched.url.replace(SERVICE, "other"))


async def test_doctor_names_sentinels_that_do_not_answer_and_a_master_that_nothing_holds_back(
    watched: Watched, tmp_path: Path
) -> None:
    settings = load_settings({"redis_url": watched.url, "data_dir": str(tmp_path)})

    async def found() -> dict[str, Finding]:
        return {one.check: one for one in await examine_stores(settings)}

    before = await found()
    assert (before["sentinels"].is_good, before["replicas"].is_good) == (True, False)
    assert before["sentinels"].text == f"of the master of {SERVICE} 3 of 3 name 127.0.0.1:{watched.servers[0].port}"
    assert "min-replicas-to-write 1" in before["replicas"].text

    master = watched.servers[0].client()
    master.config_set("min-replicas-to-write", 1, "min-replicas-max-lag", 2)
    watched.processes[1].kill()
    watched.processes[1].wait()
    after = await found()
    assert (after["sentinels"].is_good, after["replicas"].is_good) == (False, True)
    assert f"127.0.0.1:{watched.sentinels[1]} does not answer" in after["sentinels"].text


async def test_the_sentinel_that_knows_the_latest_failover_is_believed() -> None:
    """One that is cut off names the master of before."""

    def reply(port: int, epoch: int) -> str:
        words = ["ip", "127.0.0.1", "port", str(port), "config-epoch", str(epoch)]
        return f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)

    ended: list[asyncio.Future[None]] = []

    async def sentinel(text: str) -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended.append(asyncio.get_running_loop().create_future())
            done = ended[-1]
            with suppress(OSError):
                while await reader.read(1_000):
                    writer.write(text.encode())
            writer.close()
            done.set_result(None)

        return await asyncio.start_server(answer, "127.0.0.1", 0)

    servers = [await sentinel(text) for text in (reply(1, 4), reply(2, 6), reply(3, 5), "")]  # the last one says nothing
    ports = [server.sockets[0].getsockname()[1] for server in servers] + [free_port()]
    address = parse_address(f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/limits")
    assert address.sentinels is not None
    lookup = SentinelLookup(address, address.sentinels, timeout_s=0.5)

    assert await lookup.master() == ("127.0.0.1", 2)
    assert [view.epoch for view in await lookup.views()] == [4, 6, 5, -1, -1]

    lookup.close()
    await asyncio.gather(*ended)
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://user:p%40w@h:7/3", "redis://h:7/3"),
        ("redis://[::1]:7/3", "redis://[::1]:7/3"),
        ("redis+sentinel://a,b:7,[::1]:8/limits", "redis+sentinel://a:26379,b:7,[::1]:8/limits/0"),
        ("redis+sentinel://u:p@a,a/limits/2?sentinel_username=s&sentinel_password=q", "redis+sentinel://a:26379/limits/2"),
        ("rediss+sentinel://a/limits?ssl_cert_reqs=none&ssl_check_hostname=false", "rediss+sentinel://a:26379/limits/0"),
        ("unix:///run/valkey.sock?db=3", "unix:///run/valkey.sock"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    assert str(parse_address(url)) == shown


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+sentinel://a,b", "name the service that the sentinels watch"),
        ("redis+sentinel://a,b/limits/first", "the database must be a number"),
        ("redis+sentinel://a,b:/limits", "a server is host, host:port"),
        ("redis+sentinel://a:99999/limits", "the port must be a number"),
        ("redis://a,b/0", "several are for redis[+]sentinel"),
        ("redis://a/0/1", "the database must be a number"),
        ("redis://a?sentinel_password=secret", "the option sentinel_password is not known"),
        ("redis+sentinel://a/limits?ssl_ca_certs=/f", "the option ssl_ca_certs is not known without TLS"),
        ("redis+other://a/limits", "must look like"),
        ("redis://:secret@", "must look like"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        parse_address(url)
    assert "secret" not in str(refused.value.problems).replace("sentinel_password", "")
