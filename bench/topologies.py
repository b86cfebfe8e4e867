"""tallygate over stores of each topology (docs/high-availability.md), for rows in the same run as everything else.

The tests' harness starts the servers, so it is on the path (Makefile): all over TCP on loopback, with their append-only files on.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from cluster_processes import running_cluster
from sentinel_processes import running_sentinels
from valkey_process import running_valkey

from bench.contenders import Contender, Stage
from bench.stepped import serves
from bench.tallygate import start_tallygate

Servers = tuple[str, tuple[int, ...]]  # the URL of a store, and its processes


@contextmanager
def one_server() -> Iterator[Servers]:
    with running_valkey(append_only=True) as server:
        yield server.url, (server.pid,)


@contextmanager
def watched_pair() -> Iterator[Servers]:
    """A master and a replica, which three Sentinels watch."""
    with running_sentinels(append_only=True) as watched:
        yield watched.url, tuple(process.pid for process in (*watched.servers, *watched.processes))


@contextmanager
def three_masters() -> Iterator[Servers]:
    with running_cluster(append_only=True) as cluster:
        yield cluster.url, tuple(server.pid for server in cluster.masters)


@contextmanager
def three_pairs() -> Iterator[Servers]:
    """Three masters, each with a replica."""
    with running_cluster(has_replicas=True, append_only=True) as cluster:
        yield cluster.url, tuple(server.pid for server in (*cluster.masters, *cluster.replicas))


TOPOLOGIES = {"one server": one_server, "Sentinels": watched_pair, "3 masters": three_masters, "3 masters, 3 replicas": three_pairs}


@asynccontextmanager
async def started(name: str, stage: Stage, upstream_port: int) -> AsyncIterator[Contender]:
    """A gateway with everything on, over the topology of this name. Raises UnavailableError."""
    with TOPOLOGIES[name]() as (url, pids):
        for pid in pids:
            stage.pinning.pin_to_proxy(pid)
        label = f"tallygate, {name}"
        settings = {"TALLYGATE_REDIS_URL": url}
        tallygate = await start_tallygate(stage, upstream_port, settings=settings, label=label, store=pids)
        await serves(tallygate.contenders[0].target)
        yield replace(tallygate.contenders[0], name=label, streams=False, memory=False)
