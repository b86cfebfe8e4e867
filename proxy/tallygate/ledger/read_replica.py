"""A read replica beside the ledger's database: a standby of PostgreSQL that answers questions about the past.

What an answer says of its age must hold. So once a second the primary is asked how far its log is written: a replica that has
replayed the log up to this mark has everything that was committed when the mark was made. The newest mark that it was seen to have
passed is the claim: every answer is at least as new, whichever server gives it. Clocks of servers play no part.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.database import Database, LogPosition, log_position
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.telemetry.metric import Samples
from tallygate.telemetry.metrics import LEDGER_READS, READ_REPLICA_LAG

LOOK_EVERY_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 2.0  # for a server to say where it is, and for a transaction on the replica to begin
LAG_MS_MAX: Final = 10_000  # with more, the primary answers
REST_LOOKS: Final = 30  # for which a replica that broke off an answer is left alone, so that nobody meets it twice
MARKS_MAX: Final = 900  # a quarter of an hour: a replica further behind is known to be so, not by how much
NO_STANDBY: Final = "is no standby of this database: it was promoted, or is another one"
_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class ReplicaLostError(LedgerUnavailableError):
    """The replica broke off within an answer. Whoever asks again is answered by the primary."""


class _Mark(NamedTuple):
    """What was committed at at_ms, by the clock of this process, lies before `lsn` in the primary's log."""

    at_ms: int
    lsn: int


class ReadReplica:
    """Reads from the replica while it is at hand and less than LAG_MS_MAX behind, else from the primary.

    now_ms   Unix time
    """

    def __init__(self, primary: Database, replica: Database, *, now_ms: Callable[[], int]) -> None:
        self._primary = primary
        self._replica = replica
        self._now_ms = now_ms
        self._marks: deque[_Mark] = deque(maxlen=MARKS_MAX)  # that the replica was not seen to have passed, the oldest first
        self._passed: _Mark | None = None  # the newest that it was seen to have passed
        self._claim: _Mark | None = None  # None: the primary answers
        self._is_used: bool | None = None  # whether the replica was seen to have passed the claim; None before the first look
        self._rest = 0  # looks
        self._since_ms = now_ms()
        self._at_primary: LogPosition | None = None
        self._reads = {"replica": 0, "primary": 0}

    def as_of_ms(self) -> int:
        """The instant of which every answer that is asked for from now on has all that was committed."""
        return self._now_ms() if self._claim is None else self._claim.at_ms

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view of committed data. Raises ReplicaLostError where the replica breaks off, LedgerUnavailableError."""
        opened = await self._opened()
        if opened is None:
            self._reads["primary"] += 1
            async with self._primary.read() as connection:
                yield connection
            return
        self._reads["replica"] += 1
        stack, connection = opened
        try:
            async with stack:
                yield connection
        except LedgerUnavailableError as error:
            self._rest = REST_LOOKS
            self._leave(str(error))
            raise ReplicaLostError(str(error), error.obstacle) from error

    async def ask(self, work: Callable[[Connection], _Result]) -> _Result:
        """The answer of `work`, from the primary where the replica breaks off. Raises LedgerUnavailableError."""
        try:
            async with self.read() as connection:
                return await connection.run_sync(work)
        except ReplicaLostError:
            return await self._primary.ask(work)

    async def watch_forever(self) -> None:
        """Follow both servers until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """See where both servers are, and decide who answers from now on."""
        at_ms, is_primary_there = self._now_ms(), await self._mark()
        try:
            position = await _position(self._replica)
            self._require_standby(position)
        except LedgerUnavailableError as error:
            self._leave(str(error))
            return
        while self._marks and self._marks[0].lsn <= position.lsn:
            self._passed = self._marks.popleft()
        self._rest = max(self._rest - 1, 0)
        if self._passed is None or self._rest:
            return
        if is_primary_there and at_ms - self._passed.at_ms > LAG_MS_MAX:  # without a primary, nobody has anything newer
            self._leave(f"is {(at_ms - self._passed.at_ms) // 1_000} seconds behind")
            return
        if self._claim is None:  # answers of the primary were as new as that: the replica is to have reached it before it answers
            self._claim = self._marks[-1] if self._marks else self._passed
        self._claim = max(self._claim, self._passed)
        if self._claim.lsn <= position.lsn and not self._is_used:
            self._is_used = True
            _log.info("the read replica answers questions about the past")

    async def close(self) -> None:
        await self._replica.close()

    def samples(self) -> Samples:
        """Samples of this process, for /metrics."""
        known_ms = self._since_ms if self._passed is None else self._passed.at_ms
        return {
            READ_REPLICA_LAG: {(): max(self._now_ms() - known_ms, 0)},
            LEDGER_READS: {(server,): count for server, count in self._reads.items()},
        }

    async def _mark(self) -> bool:
        """Note how far the primary is; return whether it says so."""
        at_ms = self._now_ms()
        try:
            position = await _position(self._primary)
        except LedgerUnavailableError:
            return False
        if position.is_standby:  # in a failover, until the address leads to the next primary
            return False
        before, self._at_primary = self._at_primary, position
        if before is not None and (before.server != position.server or position.lsn < before.lsn):
            self._marks.clear()  # of another log, or of a part of it that is lost
            self._passed = None
            self._leave("the primary is another one than before")
        self._marks.append(_Mark(at_ms, position.lsn))
        return True

    async def _opened(self) -> tuple[AsyncExitStack, AsyncConnection] | None:
        """A transaction on a server that has what is claimed; None where the primary is to answer."""
        if not self._is_used:
            return None
        try:
            async with AsyncExitStack() as stack, asyncio.timeout(LOOK_SECONDS):
                connection = await stack.enter_async_context(self._replica.read())
                position = await log_position(connection)  # behind one address may be several servers, and one may be promoted
                try:
                    self._require_standby(position)
                except LedgerUnavailableError:
                    await connection.invalidate()  # so that the next connection finds another server
                    raise
                claim = self._claim
                if claim is None or position.lsn < claim.lsn:
                    return None
                return stack.pop_all(), connection
        except (LedgerUnavailableError, TimeoutError) as error:
            self._leave(str(error) or "does not answer")
            return None

    def _require_standby(self, position: LogPosition) -> None:
        """Raises LedgerUnavailableError for a server that does not follow the primary."""
        if not position.is_standby or (self._at_primary is not None and position.server != self._at_primary.server):
            raise LedgerUnavailableError(NO_STANDBY)

    def _leave(self, reason: str) -> None:
        """Let the primary answer until the next look."""
        if self._is_used is not False:
            _log.warning("the read replica is not used: the primary answers", extra={"fields": {"reason": reason}})
        self._claim, self._is_used = None, False


async def _position(database: Database) -> LogPosition:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await database.position()
    except TimeoutError as error:
        raise LedgerUnavailableError("does not answer") from error
