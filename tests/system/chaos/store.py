"""A Redis Cluster of three masters and three replicas behind proxies, which clients, replicas and the bus go through."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import redis
from cluster_processes import SLOTS, Cluster, ask, node_id, running_cluster
from fault_proxy import FaultProxy
from redis.crc import key_slot
from valkey_process import ValkeyProcess

from chaos.bus import BusProxy
from tallygate.limiter.keys import ALL_PARTITIONS, org_keys, partition_keys, partition_of

WHOLE_SECONDS = 120.0
POLL_SECONDS = 0.1
LOOKS = 20  # at whether replicas have what was there
PROMOTED_SECONDS = 15.0
OPTIONS = (
    *("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"),  # as docs/high-availability.md asks for it
    *("--cluster-node-timeout", "2000"),  # of a machine that is busy with the load as well: a shorter one has failovers of its own
    *("--repl-diskless-sync-delay", "0"),
)


@dataclass(frozen=True, kw_only=True)
class Door:
    """The way to one server: of clients and replicas, and of the other servers."""

    node: str
    clients: FaultProxy
    bus: BusProxy


@dataclass(kw_only=True)
class ChaosStore:
    """isolated: node ids of servers to which nothing on the bus leads."""

    cluster: Cluster
    doors: dict[int, Door]  # by the server's port
    isolated: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{door.clients.port}" for door in self.doors.values())

    def client(self) -> redis.Redis:
        """Of one server."""
        return self.servers[0].client()

    @property
    def servers(self) -> list[ValkeyProcess]:
        return [*self.cluster.masters, *self.cluster.replicas]

    def door(self, server: ValkeyProcess) -> Door:
        return self.doors[server.port]

    async def master(self, which: int) -> ValkeyProcess:
        """One of those that are."""
        found = await asyncio.to_thread(self.cluster.serving)
        return found[which % len(found)]

    async def replica(self, which: int) -> ValkeyProcess:
        masters = await asyncio.to_thread(self.cluster.serving)
        found = [server for server in self.servers if server not in masters]
        return found[which % len(found)]

    async def promote(self, replica: ValkeyProcess, *words: str) -> None:
        """By hand: a cluster may give it up, which is none of a test's business."""
        await asyncio.to_thread(ask, replica, "CLUSTER", "FAILOVER", *words)
        deadline = asyncio.get_running_loop().time() + PROMOTED_SECONDS
        while (await asyncio.to_thread(ask, replica, "ROLE"))[0] != b"master" and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(POLL_SECONDS)

    def cut_bus(self) -> None:
        for door in self.doors.values():
            door.bus.cut()

    async def until_whole(self) -> None:
        """Every server answers, every slot is served, and each replica has what its master had when this was asked."""
        deadline = asyncio.get_running_loop().time() + WHOLE_SECONDS
        while not await self._is_whole():
            assert asyncio.get_running_loop().time() < deadline, self.told()
            await asyncio.sleep(POLL_SECONDS)

    async def _is_whole(self) -> bool:
        offsets = await asyncio.to_thread(self._offsets)
        for _ in range(LOOKS if offsets is not None else 0):
            if await asyncio.to_thread(self._have_replicas, offsets):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False  # or a replica has become the master since

    def told(self) -> str:
        """What each server says of itself. Blocks."""
        found = []
        for server in self.servers:
            try:
                found.append(f"{server.port}: {ask(server, 'ROLE')} {ask(server, 'CLUSTER', 'INFO')[:20]}")
            except (redis.RedisError, OSError) as error:
                found.append(f"{server.port}: {error}")
        return "the cluster is not whole\n" + "\n".join(found)

    def _offsets(self) -> dict[int, int] | None:
        """Of each master's replication, by port; None while the cluster is not whole."""
        found = {}
        try:
            for server in self.servers:
                if b"cluster_state:ok" not in ask(server, "CLUSTER", "INFO"):
                    return None
                role = ask(server, "ROLE")
                if role[0] == b"master":
                    found[server.port] = int(role[1])
                elif role[3] != b"connected":
                    return None
        except (redis.RedisError, OSError):
            return None
        return found if len(found) == len(self.cluster.masters) else None

    def _have_replicas(self, offsets: Mapping[int, int]) -> bool:
        try:
            for server in self.servers:
                if server.port in offsets:
                    role = ask(server, "ROLE")
                    if role[0] != b"master" or not role[2] or any(int(one[2]) < offsets[server.port] for one in role[2]):
                        return False
        except (redis.RedisError, OSError):
            return False
        return True

    def window(self, org: str, key: str) -> tuple[int, int]:
        """Spent and held of a window. Blocks."""
        words = ask(self._owner(partition_of(org)), "HMGET", org_keys(org).spend, f"{key}|spent", f"{key}|held")
        spent, held = (int(word or 0) for word in words)
        return spent, held

    def backlog(self) -> int:
        """Events that wait to be stored. Blocks."""
        return sum(int(ask(self._owner(partition), "XLEN", partition_keys(partition).events)) for partition in ALL_PARTITIONS)

    def _owner(self, partition: int) -> ValkeyProcess:
        return self.cluster.owner(slot_of(partition))


def slot_of(partition: int) -> int:
    return int(key_slot(partition_keys(partition).events, SLOTS))


@asynccontextmanager
async def running_store() -> AsyncIterator[ChaosStore]:
    running = running_cluster(has_replicas=True, append_only=True, extra=OPTIONS)
    cluster = await asyncio.to_thread(running.__enter__)
    try:
        store = ChaosStore(cluster=cluster, doors={})
        for server in store.servers:
            bus_port = int(ask(server, "CONFIG", "GET", "cluster-port")[b"cluster-port"])
            node = node_id(server)
            door = Door(node=node, clients=FaultProxy(server.port), bus=BusProxy(node, bus_port, store.isolated))
            await door.clients.start()
            await door.bus.start()
            store.doors[server.port] = door
        for server in store.servers:
            await asyncio.to_thread(server.keep, "cluster-announce-port", store.door(server).clients.port)
            await asyncio.to_thread(server.keep, "cluster-announce-bus-port", store.door(server).bus.port)
        await store.until_whole()
        yield store
        for door in store.doors.values():
            await door.bus.stop()
            await door.clients.stop()
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)
