"""A store over a Redis Cluster: one connection to each master, and each call goes to the one that has its partition.

All keys of a call share a hash tag, so they are in one slot (Redis Cluster specification, "Hash tags"). The map of slots is read
when the store is opened, when a server says that a slot has moved (MOVED), and while a connection is down. A slot on its way (ASK,
TRYAGAIN) and a failover that is under way (CLUSTERDOWN) are waited for within the deadline of the call. Whoever asks servers
themselves (`nodes`) gets the error, and the map is read behind it: a master that was replaced may keep its connections, and says
MOVED on them ever after.
"""

import asyncio
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from tallygate.domain.errors import NothingSentError, StoreError
from tallygate.limiter.address import Place, RedisAddress, place_text
from tallygate.limiter.connection import Command, RedisConnection
from tallygate.limiter.fence import Fence
from tallygate.limiter.keys import ALL_PARTITIONS, PARTITIONS, partition_keys
from tallygate.limiter.script import Script, StoreNode

SLOTS: Final = 16_384
WATCH_SECONDS: Final = 0.5  # between two looks at the map while a connection is down, or after a MOVED
WAIT_FIRST_SECONDS: Final = 0.01  # before a call that met a slot on its way is sent again; doubled each time
WAIT_MAX_SECONDS: Final = 0.1
_TAG: Final = re.compile(rb"\{([^}]+)\}")
_KEYLESS: Final = frozenset({b"ACL", b"CLIENT", b"INFO", b"PING", b"PUBLISH", b"SELECT", b"TIME"})
_SUBCOMMANDS: Final = frozenset({b"MEMORY", b"XGROUP", b"XINFO"})  # whose key is their second argument
_REDIRECTED: Final = re.compile(r"^[^:]+: (MOVED|ASK|TRYAGAIN|CLUSTERDOWN|MASTERDOWN)\b(?: \d+ (\S*):(\d+))?")


class ClusterConnection:
    """Implements Store. `open` it before use; from then on it follows the cluster until `close`. Belongs to one event loop.

    fence   of every server: it is asked at each new connection, and for each partition that a server has got from another one
    """

    def __init__(self, address: RedisAddress, *, timeout_ms: int, name: str, fence: Fence | None = None) -> None:
        self._address = address
        self._timeout_ms = timeout_ms
        self._name = name
        self._fence = fence
        self._servers: dict[Place, RedisConnection] = {}
        self._owners: list[Place | None] = [None] * SLOTS  # in force
        self._read: list[Place | None] = self._owners  # as they were read last
        self._joined: set[Place] = set()  # masters whose next connection is not their first
        self._slots: dict[bytes, int] = {}  # by hash tag, of which there is one for each partition and a few more
        self._is_outdated = False  # a server has said so since the map was read
        self.resent = 0
        self._refreshing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_cluster(self) -> bool:
        return True

    @property
    def is_up(self) -> bool:
        return bool(self._servers) and all(server.is_up for server in self._servers.values())

    async def open(self) -> None:
        """Connect to every master. Raises StoreError if one cannot be reached, or a partition has none."""
        try:
            await self._refresh()
            self._need_every_partition()
        except BaseException:
            await self._close_servers()
            raise
        self._watching = asyncio.get_running_loop().create_task(self._watch_forever())

    def _need_every_partition(self) -> None:
        if sum(len(node.partitions) for node in self.nodes()) < PARTITIONS:
            raise StoreError(f"slots of the cluster {self._address} have no master")

    async def close(self) -> None:
        for task in (self._watching, self._refreshing):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._close_servers()

    async def run_script(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        slot = self._slot(keys[0]) if keys else None
        try:
            return await self._server(slot).run_script(script, keys, args)
        except StoreError as error:
            parts = (b"EVAL", script.source, b"%d" % len(keys), *keys, *args)
            return await self._again(error, slot, lambda server: server.run_script(script, keys, args), parts)

    async def command(self, *parts: bytes) -> Any:
        slot = self._slot_of(parts)
        try:
            return await self._server(slot).command(*parts)
        except StoreError as error:
            return await self._again(error, slot, lambda server: server.command(*parts), parts)

    def post(self, *parts: bytes) -> Awaitable[Any]:
        """As `RedisConnection.post`, in the order of calls with what is sent to the same partition."""
        return self._server(self._slot_of(parts)).post(*parts)

    def nodes(self) -> Sequence[StoreNode]:
        """The masters that have partitions, in the order of their places."""
        return self._nodes_of(self._owners, self._servers)

    def _nodes_of(self, owners: Sequence[Place | None], servers: Mapping[Place, RedisConnection]) -> Sequence[StoreNode]:
        found: dict[Place, list[int]] = {}
        for partition in ALL_PARTITIONS:
            if (place := owners[self._slot_of_partition(partition)]) is not None and place in servers:
                found.setdefault(place, []).append(partition)
        return tuple(StoreNode(place_text(place), servers[place], tuple(has)) for place, has in sorted(found.items()))

    async def _again(
        self, error: StoreError, slot: int | None, send: Callable[[RedisConnection], Awaitable[Any]], parts: tuple[bytes, ...]
    ) -> Any:
        """Send a call again that was redirected, until its deadline; raise any other error. parts: the call as one command."""
        loop = asyncio.get_running_loop()
        deadline, wait = loop.time() + self._timeout_ms / 1000, WAIT_FIRST_SECONDS
        while True:
            found = _REDIRECTED.match(str(error))
            if found is None:
                raise error
            try:
                if found[1] == "ASK":
                    return await self._asking((found[2], int(found[3])), parts)
                if found[1] == "MOVED":
                    await self._refresh_soon()
                else:
                    if loop.time() + wait > deadline:
                        raise error
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, WAIT_MAX_SECONDS)
                return await send(self._server(slot))
            except StoreError as next_error:
                if loop.time() > deadline:
                    raise
                error = next_error

    async def _asking(self, place: Place, parts: tuple[bytes, ...]) -> Any:
        """Call the server to which a slot is on its way (Redis Cluster specification, "ASK redirection")."""
        if place not in self._servers:
            await self._refresh_soon()
        server = self._servers.get(place)
        if server is None:
            raise NothingSentError(f"no connection to {place_text(place)} of the cluster {self._address}")
        _, reply = await asyncio.gather(server.command(b"ASKING"), server.command(*parts))  # one behind the other on the wire
        return reply

    def _server(self, slot: int | None) -> RedisConnection:
        place = self._owners[slot or 0]
        server = None if place is None else self._servers.get(place)
        if server is None:
            raise NothingSentError(f"no master of the cluster {self._address} has slot {slot or 0}")
        return server

    def _slot_of_partition(self, partition: int) -> int:
        return self._slot(partition_keys(partition).generation)

    def _slot_of(self, parts: tuple[bytes, ...]) -> int | None:
        """The slot of a command's key; None for one without."""
        name = parts[0]
        if name in _KEYLESS:
            return None
        if name in {b"EVAL", b"EVALSHA"}:
            return self._slot(parts[3]) if int(parts[2]) else None
        if name == b"XREADGROUP":
            return self._slot(parts[parts.index(b"STREAMS") + 1])
        return self._slot(parts[2 if name in _SUBCOMMANDS else 1])

    def _slot(self, key: bytes) -> int:
        """CRC16 (XMODEM) of the hash tag (Redis Cluster specification, "Key distribution model")."""
        tag = _TAG.search(key)
        hashed = tag[1] if tag else key
        slot = self._slots.get(hashed)
        if slot is None:
            slot = self._slots[hashed] = binascii.crc_hqx(hashed, 0) % SLOTS
        return slot

    async def _watch_forever(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._is_outdated or not self.is_up:
                with suppress(StoreError):
                    await self._refresh_soon()

    async def _refresh_soon(self) -> None:
        """Read the map again; calls that ask meanwhile wait for the same reading. Raises StoreError."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        """Read the map, connect to new masters, leave those that have no slots any more. Raises StoreError.

        Nothing goes to a new master, or to a partition's new one, before the fence was asked.
        """
        self._read = owners = await self._read_owners()
        servers, failure = dict(self._servers), None
        for place in sorted({place for place in owners if place is not None} - servers.keys()):
            server = RedisConnection(
                replace(self._address, seeds=(), host=place[0], port=place[1]),
                timeout_ms=self._timeout_ms,
                name=self._name,
                on_run=partial(self._connected, place),
                on_moved=self._note_moved,
                on_resend=self._note_resent,
            )
            try:
                await server.open()
            except StoreError as error:
                failure = error
            else:
                servers[place] = server
                self._joined.add(place)
        try:
            await self._check_fence(owners, servers)
        except BaseException:
            for place in servers.keys() - self._servers.keys():
                self._joined.discard(place)
                await servers[place].close()
            raise
        self._owners, self._servers = owners, servers
        for place in servers.keys() - set(owners):
            self._joined.discard(place)
            await servers.pop(place).close()
        if failure is not None:
            raise failure
        self._is_outdated = False

    def _note_moved(self) -> None:
        self._is_outdated = True

    def _note_resent(self) -> None:
        self.resent += 1

    async def _check_fence(self, owners: Sequence[Place | None], servers: Mapping[Place, RedisConnection]) -> None:
        if self._fence is None:
            return
        nodes = self._nodes_of(owners, servers)
        if servers.keys() != self._servers.keys():
            await self._fence.check_nodes(nodes)
        for node in nodes:
            slots = {partition: self._slot_of_partition(partition) for partition in node.partitions}
            moved = [partition for partition, slot in slots.items() if self._owners[slot] not in {None, owners[slot]}]
            if moved:
                await self._fence.check_moved(node.store.command, moved)

    async def _connected(self, place: Place, command: Command, info: bytes) -> None:
        """Check the fence at a connection that is made again; a first one is checked with the others, whose runs are known then."""
        if self._fence is not None and place in self._joined:
            has = [partition for partition in ALL_PARTITIONS if self._read[self._slot_of_partition(partition)] == place]
            await self._fence.check_run_id(command, info, server=place_text(place), partitions=has)

    async def _read_owners(self) -> list[Place | None]:
        """By slot, the master (redis.io/docs/latest/commands/cluster-slots). Raises StoreError."""
        known = tuple(dict.fromkeys((*(place for place, server in self._servers.items() if server.is_up), *self._address.seeds)))
        link = RedisConnection(replace(self._address, seeds=known), timeout_ms=self._timeout_ms, name=f"{self._name}-map")
        await link.open()
        try:
            ranges = await link.command(b"CLUSTER", b"SLOTS")
        finally:
            await link.close()
        owners: list[Place | None] = [None] * SLOTS
        for first, last, master, *_replicas in ranges:
            host = (master[0] or b"").decode() or link.host
            owners[first : last + 1] = [(host, int(master[1]))] * (last - first + 1)
        return owners

    async def _close_servers(self) -> None:
        for server in self._servers.values():
            await server.close()
        self._servers.clear()
