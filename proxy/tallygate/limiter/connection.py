"""The limiter's own connection to Redis: hiredis over one asyncio transport, all calls of a loop tick in one write.

Two script calls a request are the largest part of the limiter's cost in the gateway, and most of that is the client library:
an admission and its settlement took 33 µs of CPU here against 159 µs over redis-py with 32 exchanges in flight (1 : 5), and 100 µs
against 314 µs one at a time (1 : 3), each beside 22 µs for encoding and decoding (bench/limiter_calls.py, on a busy machine).
What is left out makes the difference: no connection pool (one connection carries everything, in order), no per-call timer, no
retry machinery, no reply callbacks. What is kept is what money needs: a bounded wait, a bounded number of outstanding calls, one
explicit retry of the same script call (scripts are idempotent on the reservation) after a lost connection, and no answer to the
wrong caller.

A master that was demoted keeps its connections and refuses every write. So does a name that leads to a replica. Neither is used:
a connection is closed at its first READONLY, a new one is used only where INFO says master, and every attempt looks the name up
again and tries each of its addresses. Where sentinels watch the master, they are asked instead, and once a second whether it is
still the same: a master that is cut off from them does not know that it was replaced.
"""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Final

import hiredis

from tallygate.domain.errors import NothingSentError, StoreError
from tallygate.domain.obstacle import Obstacle
from tallygate.limiter.address import Place, RedisAddress
from tallygate.limiter.keys import ALL_PARTITIONS
from tallygate.limiter.link import LINE_END, ConnectionLostError, Link, continued, encoded, login, open_link
from tallygate.limiter.script import Script, StoreNode
from tallygate.limiter.sentinel import SentinelLookup
from tallygate.limiter.writes import REPLICA, is_replica, obstacle_of
from tallygate.shares.seldom import Seldom

Command = Callable[..., Awaitable[Any]]  # as `RedisConnection.command`
TIMEOUT_MS: Final = 500  # a call without an answer after this is a StoreError
OUTSTANDING_MAX: Final = 20_000  # calls waiting for a reply; one more is a StoreError at once
PREFIXES_MAX: Final = 50_000  # encoded beginnings of script calls, one per script and organization; then all are dropped
BACKOFF_FIRST_MS: Final = 20
BACKOFF_MAX_MS: Final = 1_000
FOLLOW_SECONDS: Final = 1.0  # between two questions to the sentinels whether the master is still the same
MANY_WORDS: Final = 32  # of a command with a key of each partition, which is sent again and again as it is
_MOVED: Final = "MOVED "
_log = logging.getLogger(__name__)


class RedisConnection:
    """Implements Store. `open` it before use; from then on it reconnects by itself until `close`.

    While Redis is away calls fail at once with StoreError; only calls made before the first attempt to reconnect has failed wait
    for it, within their time limit. Belongs to one event loop.

    on_run    given a way to call the store and its answer to INFO, at every new connection before it is used for anything else
    on_push   called for each message of a channel to which on_run has subscribed
    on_moved  called when a server of a cluster answers that another has the slot (MOVED)
    on_resend called before a call is sent a second time
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        timeout_ms: int = TIMEOUT_MS,
        outstanding_max: int = OUTSTANDING_MAX,
        name: str = "tallygate",
        on_run: Callable[[Command, bytes], Awaitable[object]] | None = None,
        on_push: Callable[[], None] | None = None,
        on_moved: Callable[[], None] | None = None,
        on_resend: Callable[[], None] | None = None,
    ) -> None:
        self._address = address
        self._timeout_s = timeout_ms / 1000
        self._outstanding_max = outstanding_max
        self._name = name
        self._on_run = on_run
        self._on_push = on_push
        self._on_moved = on_moved
        self._on_resend = on_resend
        self.resent = 0
        self._needs_master = not address.seeds  # what any server of a cluster may be asked, a replica may be, too
        self._link: Link | None = None
        self._place = (address.host, address.port)  # to which it connected last
        sentinels = address.sentinels  # asked in a third of the time, so that enough is left for connecting
        self._lookup = None if sentinels is None else SentinelLookup(address, sentinels, timeout_s=self._timeout_s / 3)
        self._following: asyncio.Task[None] | None = None
        self._nodes = (StoreNode(str(address), self, ALL_PARTITIONS),)
        self._prefixes: dict[tuple[Script, tuple[bytes, ...]], bytes] = {}
        self._closed = False
        self._reconnecting: asyncio.Task[None] | None = None
        self._first_attempt: asyncio.Future[None] | None = None
        self._obstacle: Obstacle | None = None  # of the last attempt to connect
        self._seldom = Seldom(time.monotonic)  # lines of the log, by the name of an obstacle

    @property
    def is_up(self) -> bool:
        return self._link is not None

    @property
    def is_cluster(self) -> bool:
        return bool(self._address.seeds)

    @property
    def host(self) -> str:
        """The name of the server to which it connected last."""
        return self._place[0]

    async def open(self) -> None:
        """Connect once. Raises StoreError if Redis cannot be reached or refuses the credentials."""
        try:
            self._link = await self._connect()
        except StoreError:
            if self._lookup is not None:
                self._lookup.close()
            raise
        if self._lookup is not None:
            self._following = asyncio.get_running_loop().create_task(self._follow_master(self._lookup))

    async def close(self) -> None:
        self._closed = True
        for task in (self._reconnecting, self._following):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._lookup is not None:
            self._lookup.close()
        if self._link is not None:
            self._link.close()
            await asyncio.sleep(0)  # lets the transport report its end

    async def run_script(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        prefix = self._prefixes.get((script, keys))
        if prefix is None:
            prefix = self._new_prefix(script, keys, args)
        sent = continued(prefix, args, LINE_END)
        is_retry = False
        while True:
            try:
                link = self._link or await self._link_when_up()
                reply = await link.call(sent)
                return await self._evaluate(link, script, keys, args, reply) if isinstance(reply, hiredis.ReplyError) else reply
            except ConnectionLostError:
                if is_retry:
                    raise
                is_retry = True
                self.resent += 1
                if self._on_resend is not None:
                    self._on_resend()
            except NothingSentError as error:
                if not is_retry:
                    raise
                raise StoreError(str(error), error.obstacle) from error  # this time; the first call may have arrived

    async def _evaluate(
        self, link: Link, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...], error: hiredis.ReplyError
    ) -> Any:
        """Sends the source of a script that the server does not know (it restarted, or its cache was flushed)."""
        if not str(error).startswith("NOSCRIPT"):
            raise self._refused(link, script.name, error)
        reply = await link.call(encoded((b"EVAL", script.source, b"%d" % len(keys), *keys, *args)))
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(link, script.name, reply)
        return reply

    async def command(self, *parts: bytes) -> Any:
        link = self._link or await self._link_when_up()
        reply = await link.call(encoded(parts) if len(parts) < MANY_WORDS else _encoded_again(parts))
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(link, parts[0].decode(), reply)
        return reply

    def post(self, *parts: bytes) -> Awaitable[Any]:
        """One plain command, in the order of calls with whatever is sent after it; its reply may be awaited, or not.

        Raises NothingSentError at once where it cannot be sent. An error of Redis is the reply (hiredis.ReplyError).
        """
        link = self._link
        if link is None:
            raise NothingSentError(f"no connection to Redis at {self._address}")
        return link.call(encoded(parts))

    def nodes(self) -> Sequence[StoreNode]:
        return self._nodes

    def _refused(self, link: Link, call: str, error: hiredis.ReplyError) -> StoreError:
        """The error of a call that was answered with one. What refuses every write is logged by name, once in a while."""
        refused = _error_of(call, error)
        if self._on_moved is not None and str(error).startswith(_MOVED):
            self._on_moved()
        if refused.obstacle is not None:
            self._log_obstacle(refused)
        if refused.obstacle != REPLICA:
            return refused
        self._link_lost(link)
        link.close()
        return ConnectionLostError(str(refused), REPLICA)

    def _log_obstacle(self, refused: StoreError) -> None:
        name = refused.obstacle.name if refused.obstacle else ""
        if self._seldom.is_due(name):
            _log.error("the limiter's store refuses calls", extra={"fields": {"obstacle": name, "reason": str(refused)}})

    def _new_prefix(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> bytes:
        """A script always takes the same number of arguments, so all up to them is the same for an organization, and kept."""
        parts = (b"EVALSHA", script.sha, b"%d" % len(keys), *keys)
        prefix = continued(b"*%d" % (len(parts) + len(args)), parts)
        if not script.has_own_keys:
            if len(self._prefixes) >= PREFIXES_MAX:
                self._prefixes.clear()
            self._prefixes[script, keys] = prefix
        return prefix

    async def _link_when_up(self) -> Link:
        """The link after the attempt to reconnect that is under way. Raises NothingSentError if there is none, or if it fails."""
        attempt = self._first_attempt
        if attempt is not None and not self._closed:
            try:
                await asyncio.wait_for(asyncio.shield(attempt), self._timeout_s)
            except TimeoutError as error:
                message = f"no connection to Redis at {self._address} within {self._timeout_s * 1000:.0f} ms"
                raise NothingSentError(message) from error
        link = self._link
        if link is None:
            raise NothingSentError(f"no connection to Redis at {self._address}", self._obstacle)
        return link

    async def _connect(self) -> Link:
        """A link to a master that has authenticated and answered a PING. Raises StoreError."""
        failure: Exception = OSError("its name has no address")
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._resolved()
                for place, host, port in found:
                    try:
                        async with asyncio.timeout(self._timeout_s / len(found)):  # one that is silent leaves time for the others
                            link = await self._connect_to(place[0], host, port)
                    except (OSError, StoreError) as error:
                        failure = error
                    else:
                        self._place = place
                        return link
        except (OSError, StoreError) as error:  # a TimeoutError is an OSError
            failure = error
        self._obstacle = failure.obstacle if isinstance(failure, StoreError) else None
        reason = str(failure) or type(failure).__name__
        refused = StoreError(f"cannot connect to Redis at {self._address}: {reason}", self._obstacle)
        if self._obstacle is not None:
            self._log_obstacle(refused)
        raise refused from failure

    async def _resolved(self) -> list[tuple[Place, str, int]]:
        """Each place that may serve, and host and port of each address that its name has now. Raises OSError, StoreError."""
        address = self._address
        if address.path:
            return [(self._place, "", 0)]
        if self._lookup is not None:
            places: tuple[Place, ...] = (await self._lookup.master(),)
        else:
            places = address.seeds or ((address.host, address.port),)
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(
            *(loop.getaddrinfo(*place, type=socket.SOCK_STREAM) for place in places), return_exceptions=True
        )
        if all(isinstance(addresses, BaseException) for addresses in found):
            raise next(addresses for addresses in found if isinstance(addresses, BaseException))
        return [
            (place, str(each[4][0]), int(each[4][1]))
            for place, addresses in zip(places, found, strict=True)
            if not isinstance(addresses, BaseException)
            for each in addresses
        ]

    async def _connect_to(self, name: str, host: str, port: int) -> Link:
        """name: for which a certificate must be. Raises OSError, StoreError."""
        address, loop = self._address, asyncio.get_running_loop()

        def new_link() -> Link:
            return Link(loop, self._timeout_s, self._outstanding_max, self._link_lost, self._on_push)

        link: Link | None = None
        try:
            if address.path:
                _, link = await loop.create_unix_connection(new_link, address.path)
            else:
                link = await open_link(new_link, host, port, tls=address.tls, name=name)
            await self._handshake(link)
        except BaseException:
            if link is not None:
                link.close()
            raise
        return link

    async def _handshake(self, link: Link) -> None:
        address = self._address
        commands: list[tuple[bytes, ...]] = [(b"CLIENT", b"SETNAME", self._name.encode()), (b"PING",), (b"INFO",)]
        if address.database:
            commands.insert(0, (b"SELECT", b"%d" % address.database))
        if words := login(address.username, address.password):
            commands.insert(0, words)
        replies = await asyncio.gather(*(link.call(encoded(command)) for command in commands))
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, hiredis.ReplyError) and command[0] != b"CLIENT":  # a proxy may not know CLIENT SETNAME
                raise _error_of(command[0].decode(), reply)
        info = replies[-1]
        if self._needs_master and is_replica(info):
            raise StoreError("INFO: role:slave", REPLICA)
        if self._on_run is not None:
            await self._on_run(partial(_command, link), info)
        if not link.is_open:  # it closed between its last reply and this line
            raise ConnectionLostError("closed after the handshake")

    async def _follow_master(self, lookup: SentinelLookup) -> None:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            link, place = self._link, self._place
            with suppress(StoreError):
                if link is not None and await lookup.master() != place and link is self._link:
                    _log.warning("the master of %s has moved", self._address)
                    self._link_lost(link)
                    link.close()

    def _link_lost(self, link: Link) -> None:
        if link is not self._link:
            return
        self._link = None
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._first_attempt = loop.create_future()
            self._reconnecting = loop.create_task(self._reconnect(self._first_attempt))

    async def _reconnect(self, first_attempt: "asyncio.Future[None]") -> None:
        backoff_ms = BACKOFF_FIRST_MS
        while True:
            try:
                self._link = await self._connect()
            except StoreError:
                self._first_attempt = None
            else:
                self._first_attempt = None
                return
            finally:
                if not first_attempt.done():
                    first_attempt.set_result(None)
            await asyncio.sleep(backoff_ms * random.uniform(0.5, 1) / 1000)
            backoff_ms = min(backoff_ms * 2, BACKOFF_MAX_MS)


_encoded_again = lru_cache(maxsize=8)(encoded)


async def _command(link: Link, *parts: bytes) -> Any:
    reply = await link.call(encoded(parts))
    if isinstance(reply, hiredis.ReplyError):
        raise _error_of(parts[0].decode(), reply)
    return reply


def _error_of(call: str, error: hiredis.ReplyError) -> StoreError:
    return StoreError(f"{call}: {error}", obstacle_of(str(error)))
