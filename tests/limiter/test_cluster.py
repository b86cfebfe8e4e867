"""A store over a Redis Cluster: real masters and replicas, slots that move under load, masters that die."""

import asyncio
import binascii
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cluster_processes import SLOTS, Cluster, ask, running_cluster
from limiter_values import a_request, a_spend, an_account
from marked_partitions import mark_all
from valkey_process import ValkeyProcess, free_port

from tallygate.app.stores import open_store
from tallygate.config.settings import load_settings
from tallygate.doctor.stores import examine_stores
from tallygate.domain.errors import ConfigError, LimiterWipedError, StoreError
from tallygate.limiter.address import parse_address
from tallygate.limiter.backlog import read_backlog
from tallygate.limiter.cluster import ClusterConnection
from tallygate.limiter.commands import access_list, check_commands, check_permissions, check_writes
from tallygate.limiter.fence import Fence
from tallygate.limiter.generation import mark_partition, partition_runs, unmarked_partitions
from tallygate.limiter.keys import ALL_PARTITIONS, org_keys, partition_keys, partition_of
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts

pytestmark = pytest.mark.process
ORGS = [f"org-{number}" for number in range(200)]
ACME = partition_of("acme")
ACME_SLOT = binascii.crc_hqx(b"p%02d" % ACME, 0) % SLOTS


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster(append_only=True) as found:
        yield found


@pytest.fixture
def replicated() -> Iterator[Cluster]:
    with running_cluster(has_replicas=True, append_only=True) as found:
        yield found


async def opened(url: str) -> ClusterConnection:
    connection = ClusterConnection(parse_address(url), timeout_ms=5_000, name="test", fence=Fence(load_scripts().fence))
    await connection.open()
    return connection


@pytest.fixture
async def connection(cluster: Cluster) -> AsyncIterator[ClusterConnection]:
    found = await opened(cluster.url)
    yield found
    await found.close()


async def mark_each(connection: ClusterConnection) -> None:
    """As a ledger does once it has restored what was spent."""
    for partition, run in (await partition_runs(connection)).items():
        await mark_partition(connection, partition, run)


async def until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


def other_than(cluster: Cluster, server: ValkeyProcess) -> ValkeyProcess:
    return next(each for each in cluster.masters if each is not server)


async def test_each_call_goes_to_the_master_of_its_partition(cluster: Cluster, connection: ClusterConnection) -> None:
    await mark_each(connection)
    limiter = RedisLimiter(connection, load_scripts())
    requests = [a_request(f"r-{org}", 10, org=org) for org in ORGS]

    admitted = await asyncio.gather(*(limiter.admit(request) for request in requests))
    settled = await asyncio.gather(*(limiter.settle(an_account(request, 7)) for request in requests))

    assert all(decision.admitted for decision in admitted)
    assert not any(settlement.repeated for settlement in settled)
    nodes = connection.nodes()
    assert sorted(partition for node in nodes for partition in node.partitions) == list(ALL_PARTITIONS)
    assert len(nodes) == 3
    lengths = await asyncio.gather(*(connection.command(b"XLEN", partition_keys(each).events) for each in ALL_PARTITIONS))
    assert sum(lengths) == len(ORGS)

    await limiter.forget([(request.org, [request.reservation_id]) for request in requests])
    left = await asyncio.gather(*(connection.command(b"EXISTS", org_keys(org).holds) for org in ORGS))
    assert not any(left)

    for each in ALL_PARTITIONS:
        stream = partition_keys(each).events
        await connection.command(b"XGROUP", b"CREATE", stream, b"group", b"0", b"MKSTREAM")
        await connection.command(b"XREADGROUP", b"GROUP", b"group", b"me", b"COUNT", b"1", b"STREAMS", stream, b">")
    assert not [server.port for server in cluster.masters if b"errorstat_MOVED" in ask(server, "INFO", "errorstats")]


async def test_a_call_that_is_sent_again_is_known_to_be(cluster: Cluster, connection: ClusterConnection) -> None:
    await mark_each(connection)
    limiter, server = RedisLimiter(connection, load_scripts()), cluster.owner(ACME_SLOT)
    assert (await limiter.admit(a_request("r1", 10))).sent_once
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        asked = asyncio.ensure_future(limiter.admit(a_request("r2", 10)))
        await until(lambda: _is(client.info("clients")["blocked_clients"] == 1), "the call waits in the server")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        client.execute_command("CLIENT", "UNPAUSE")

    assert (decision := await asked).admitted
    assert not decision.sent_once


async def test_a_busy_slot_moves_without_an_error_and_stays_open(cluster: Cluster, connection: ClusterConnection) -> None:
    await mark_each(connection)
    limiter = RedisLimiter(connection, load_scripts())
    source = cluster.owner(ACME_SLOT)
    target = other_than(cluster, source)
    is_over, served = False, 0

    async def keep_asking(caller: int) -> None:
        nonlocal served
        number = 0
        while not is_over:
            number += 1
            request = a_request(f"r-{caller}-{number}", 10)
            assert (await limiter.admit(request)).admitted
            await limiter.settle(an_account(request, 1))
            served += 1

    async def moves() -> None:
        nonlocal is_over
        for one, other in ((source, target), (target, source), (source, target)):
            before = served
            await asyncio.to_thread(cluster.move, ACME_SLOT, one, other)
            await until(lambda before=before: _is(served > before + 20), "traffic flows after a move")
        is_over = True

    await asyncio.gather(moves(), *(keep_asking(caller) for caller in range(8)))

    assert cluster.owner(ACME_SLOT) is target
    (window,) = await limiter.read_windows("acme", (a_spend(),))
    assert (window.spent_nano_usd, window.held_nano_usd) == (served, 0)
    assert await unmarked_partitions(connection) == ()
    newcomer = await opened(cluster.url)  # its fence knows the run in which the partition was marked: that of another master
    assert await unmarked_partitions(newcomer) == ()
    await newcomer.close()


async def _is(value: bool) -> bool:
    return value


async def test_a_master_that_dies_is_replaced_and_only_its_partitions_are_closed(replicated: Cluster) -> None:
    connection = await opened(replicated.url)
    await mark_each(connection)
    limiter = RedisLimiter(connection, load_scripts())
    victim = replicated.owner(ACME_SLOT)
    lost = next(node.partitions for node in connection.nodes() if node.name.endswith(f":{victim.port}"))
    other = next(org for org in ORGS if partition_of(org) not in lost)
    assert victim.client().wait(1, 20_000) == 1
    victim.kill()

    async def is_served_again() -> bool:
        assert (await limiter.admit(a_request(f"r{time.monotonic_ns()}", 1, org=other))).admitted  # all the time
        try:
            await limiter.admit(a_request(f"r{time.monotonic_ns()}", 1))
        except LimiterWipedError:
            return True
        except StoreError:
            return False
        raise AssertionError("it admits what may have been lost")

    await until(is_served_again, "the replica is promoted and used")
    assert sorted(await unmarked_partitions(connection)) == sorted(lost)
    await mark_each(connection)
    assert (await limiter.admit(a_request("again", 1))).admitted
    await connection.close()


async def test_whoever_asks_servers_and_no_partition_follows_a_failover_too(replicated: Cluster) -> None:
    """A readiness check: its connection to the former master, now a replica, stays open and answers MOVED ever after."""
    connection = await opened(replicated.url)
    former, replica = replicated.masters[0], replicated.replicas[0]
    ask(replica, "CLUSTER", "FAILOVER")

    async def takes_writes_again() -> bool:
        try:
            await check_writes(connection)
            await read_backlog(connection, bytes_max=1_000)
        except StoreError:
            return False
        return str(former.port) not in {node.name.rpartition(":")[2] for node in connection.nodes()}

    await until(takes_writes_again, "it has found the new master")
    await connection.close()


async def test_a_master_that_was_restarted_is_fenced(cluster: Cluster, connection: ClusterConnection) -> None:
    await mark_each(connection)
    victim = cluster.owner(ACME_SLOT)
    has = next(node.partitions for node in connection.nodes() if node.name.endswith(f":{victim.port}"))
    victim.kill()
    await asyncio.to_thread(victim.start)

    async def is_closed() -> bool:
        try:
            return sorted(await unmarked_partitions(connection)) == sorted(has)
        except StoreError:
            return False

    await until(is_closed, "its partitions are closed")


async def test_a_partition_of_a_master_that_is_gone_is_closed_where_it_went(
    cluster: Cluster, connection: ClusterConnection
) -> None:
    """Its mark is of a run that nobody has any more."""
    await mark_all(connection, "a run that is over")
    newcomer = await opened(cluster.url)
    assert await unmarked_partitions(newcomer) == ALL_PARTITIONS
    await newcomer.close()


async def test_the_least_user_is_enough_and_what_it_lacks_is_named(cluster: Cluster, connection: ClusterConnection) -> None:
    assert connection.is_up
    for server in cluster.masters:
        ask(server, *access_list("limits", is_cluster=True).replace("PASSWORD", "hunter2").split())
    url = cluster.url.replace("://", "://limits:hunter2@")
    least = await opened(url)
    await check_commands(least)
    await mark_each(least)
    assert (await RedisLimiter(least, load_scripts()).admit(a_request("r1", 1))).admitted

    ask(cluster.masters[1], "ACL", "SETUSER", "limits", "-asking")
    with pytest.raises(StoreError, match="refuses ASKING to its user"):
        await check_permissions(least)
    await least.close()


async def test_doctor_looks_at_each_master(replicated: Cluster, tmp_path: Path) -> None:
    settings = load_settings({"redis_url": replicated.url, "data_dir": str(tmp_path)})
    replicated.masters[2].client().config_set("maxmemory-policy", "allkeys-lru")

    found = await examine_stores(settings)

    bad = {finding.text.partition(": ")[0] for finding in found if finding.check == "eviction" and not finding.is_good}
    assert bad == {f"127.0.0.1:{replicated.masters[2].port}"}
    assert sum(finding.check == "replicas" and not finding.is_good for finding in found) == 3
    with pytest.raises(ConfigError, match="maxmemory-policy is allkeys-lru"):
        await open_store(settings)


async def test_one_seed_that_answers_is_enough(cluster: Cluster) -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{cluster.masters[2].port}"
    connection = await opened(url)
    assert len(connection.nodes()) == 3
    await connection.close()


async def test_a_server_that_is_no_cluster_says_so(valkey_url: str) -> None:
    with pytest.raises(StoreError, match="cluster support disabled"):
        await opened(valkey_url.replace("redis://", "redis+cluster://").removesuffix("/0"))
