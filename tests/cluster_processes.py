"""A Redis Cluster of three masters, each with a replica if asked for: real servers as child processes, on loopback."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from valkey_process import START_SECONDS_MAX, ValkeyProcess, free_port, running_valkey

SLOTS = 16_384
MASTERS = 3
NODE_TIMEOUT_MS = 1_000
INSIST_MAX = 300  # times, a tenth of a second apart


@dataclass(kw_only=True)
class Cluster:
    """masters, replicas: as they started; a replica stands where its master does."""

    masters: list[ValkeyProcess]
    replicas: list[ValkeyProcess]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.masters)

    def owner(self, slot: int) -> ValkeyProcess:
        """The server that has a slot now, as the first that answers knows."""
        servers = (*self.masters, *self.replicas)
        alive = next(server for server in servers if server.answers())
        found = next(master[2].decode() for first, last, master, *_ in ask(alive, "CLUSTER", "SLOTS") if first <= slot <= last)
        return next(server for server in servers if server.answers() and node_id(server) == found)

    def move(self, slot: int, source: ValkeyProcess, target: ValkeyProcess) -> None:
        """Move a slot with its keys, as `redis-cli --cluster reshard` does."""
        of_source, of_target = node_id(source), node_id(target)
        insist(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", of_source)
        insist(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", of_target)
        while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            insist(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        for server in (target, source, *(other for other in self.serving() if other not in {source, target})):
            insist(server, "CLUSTER", "SETSLOT", slot, "NODE", of_target)

    def serving(self) -> list[ValkeyProcess]:
        """Those that answer and are masters now, in the order of their ports."""
        servers = sorted((*self.masters, *self.replicas), key=lambda server: server.port)
        return [server for server in servers if server.answers() and ask(server, "ROLE")[0] == b"master"]


def node_id(server: ValkeyProcess) -> str:
    return str(ask(server, "CLUSTER", "MYID").decode())


def ask(server: ValkeyProcess, *words: object) -> Any:
    """A command's plain reply."""
    connection = redis.Connection(host="127.0.0.1", port=server.port, socket_timeout=5)
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        connection.disconnect()


def insist(server: ValkeyProcess, *words: object) -> None:
    """Ask again while replicas are behind, as on a machine that is very busy."""
    for _ in range(INSIST_MAX):
        try:
            ask(server, *words)
        except redis.ResponseError as error:
            if "NOREPLICAS" not in str(error):
                raise
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"replicas stay behind: {words}")


@contextmanager
def running_cluster(*, has_replicas: bool = False, append_only: bool = False, extra: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """extra: options of every server, in place of those here too."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-replica-validity-factor", "0")
    with ExitStack() as stack:
        count = MASTERS * (1 + has_replicas)
        bus = [free_port() for _ in range(count)]  # the usual one, 10,000 above, is where outgoing connections are
        own = [(*options, *extra, "--cluster-port", str(port)) for port in bus]
        servers = [stack.enter_context(running_valkey(append_only=append_only, extra=words)) for words in own]
        cluster = Cluster(masters=servers[:MASTERS], replicas=servers[MASTERS:])
        for number, master in enumerate(cluster.masters):
            first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            ask(master, "CLUSTER", "ADDSLOTSRANGE", first, last)
            ask(master, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            ask(server, "CLUSTER", "MEET", "127.0.0.1", servers[0].port, bus[0])
        _until(lambda: all(ask(server, "CLUSTER", "INFO").count(b"cluster_known_nodes:%d\r" % count) for server in servers))
        for master, replica in zip(cluster.masters, cluster.replicas, strict=False):
            ask(replica, "CLUSTER", "REPLICATE", node_id(master))
        _until(lambda: all(b"cluster_state:ok" in ask(server, "CLUSTER", "INFO") for server in servers))
        _until(lambda: all(b"master_link_status:up" in ask(replica, "INFO", "replication") for replica in cluster.replicas))
        yield cluster


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX * 2
    while not condition():
        assert time.monotonic() < deadline, "the cluster does not come together"
        time.sleep(0.05)
