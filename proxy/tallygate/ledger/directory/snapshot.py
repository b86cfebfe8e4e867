"""A snapshot of the directory in a file, from which a process begins while the database is away.

A line with the SHA-256 of all that follows, in hex; the head; a line for each organization, with the rows of it and of its
credentials as they are stored; the retired Client IDs. Rows are kept and not what follows from them, so that the configuration in
force is applied to them as to the database's. Keys are digests in the rows, too. The time of the file is when it last was what the
database had.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from tallygate.ledger.directory.records import StoredCredential, StoredOrganization
from tallygate.ledger.file_backup import sync_path
from tallygate.ledger.table_version import newest_version
from tallygate.shares.ticks import Alarm, until_tick
from tallygate.telemetry.metric import Samples
from tallygate.telemetry.metrics import SNAPSHOT_AGE

FILE: Final = "directory.snapshot"
FORM: Final = 1  # of the file; one with a higher number is from a later version
SOON_SECONDS: Final = 1.0  # from a change that takes something away, such as a revoked key, to its writing
LATER_SECONDS: Final = 60.0  # from any other change
SHARE: Final = 20  # of the time, one part at most is spent on writing
CONFIRM_SECONDS: Final = 10.0  # between two notes that the file is what the database has
AHEAD_MS_MAX: Final = 60_000  # by which a file's time may lie in the future: clocks are set
_STEP_SECONDS: Final = 1.0  # between two looks while a change is to be written
_PIECE_LINES: Final = 1_000  # written at once
_log = logging.getLogger(__name__)
_Retired = Mapping[tuple[str, str], str]


class SnapshotUnusableError(Exception):
    """The text says why, for a line of the log."""


class _Head(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """form: see FORM. tables: version of the tables. database: digest of its address. organizations: the number of lines."""

    form: int
    tables: str
    database: str
    organizations: int


class _Form(msgspec.Struct):
    form: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """at_ms: when it last was what the database had. lines: rows, encoded. retired: as of a DirectoryReplica."""

    at_ms: int
    lines: Sequence[bytes]
    retired: _Retired

    def rows(self, start: int, end: int) -> Iterator[tuple[StoredOrganization, tuple[StoredCredential, ...]]]:
        """Some of the organizations with their credentials. Raises SnapshotUnusableError."""
        try:
            for line in self.lines[start:end]:
                organization, credentials = msgspec.json.decode(line, type=tuple[dict[str, Any], list[dict[str, Any]]])
                yield StoredOrganization.of_row(organization), tuple(map(StoredCredential.of_row, credentials))
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise SnapshotUnusableError(f"its rows are of another form: {error}") from error


def row_line(stored: StoredOrganization, credentials: Collection[StoredCredential]) -> bytes:
    """The line of an organization."""
    return msgspec.json.encode((stored.row(), [credential.row() for credential in credentials]))


class SnapshotFile:
    """The file. Its methods block.

    database     the address of the database, of which only a digest is kept
    age_ms_max   an older one is not used; 0: there is none
    """

    def __init__(self, data_dir: Path, *, database: str, age_ms_max: int, now_ms: Callable[[], int]) -> None:
        self.path = data_dir / FILE
        self.age_ms_max = age_ms_max
        self._database = hashlib.sha256(database.encode()).hexdigest()
        self._now_ms = now_ms

    @property
    def is_there(self) -> bool:
        return self.age_ms_max > 0 and self.path.exists()

    def age_ms(self, at_ms: int) -> int:
        return max(self._now_ms() - at_ms, 0)

    def is_too_old(self, at_ms: int) -> bool:
        return self.age_ms(at_ms) > self.age_ms_max

    def write(self, lines: Collection[bytes], retired: _Retired, *, at_ms: int) -> None:
        """Replace the file in one step. A crash leaves the old one or the new one. Raises OSError."""
        head = _Head(form=FORM, tables=newest_version(), database=self._database, organizations=len(lines))
        ended = [[client_id, scope, org] for (client_id, scope), org in retired.items()]
        written = [msgspec.json.encode(head), *lines, msgspec.json.encode(ended)]
        digest = hashlib.sha256()
        pieces = [b"".join(line + b"\n" for line in written[at : at + _PIECE_LINES]) for at in range(0, len(written), _PIECE_LINES)]
        for piece in pieces:
            digest.update(piece)
        new = self.path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(digest.hexdigest().encode() + b"\n")
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.utime(file.fileno(), ns=(at_ms * 1_000_000, at_ms * 1_000_000))
            os.fsync(file.fileno())
        new.replace(self.path)
        sync_path(self.path.parent)

    def confirm(self, at_ms: int) -> None:
        """Note that the file still was what the database had. Raises OSError."""
        os.utime(self.path, ns=(at_ms * 1_000_000, at_ms * 1_000_000))

    def read(self) -> Snapshot:
        """Read the file. Raises SnapshotUnusableError, which says why."""
        try:
            with self.path.open("rb") as file:
                at_ms = os.fstat(file.fileno()).st_mtime_ns // 1_000_000
                digest, _, content = file.read().partition(b"\n")
        except FileNotFoundError:
            raise SnapshotUnusableError("there is none") from None
        except OSError as error:
            raise SnapshotUnusableError(f"it cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise SnapshotUnusableError("it is damaged: its checksum is another")
        head, *lines = content.split(b"\n")
        self._check_head(head, lines)
        if at_ms - self._now_ms() > AHEAD_MS_MAX:
            raise SnapshotUnusableError("its time lies in the future: a clock was set")
        if self.is_too_old(at_ms):
            raise SnapshotUnusableError(
                f"it is {self.age_ms(at_ms) // 1_000} seconds old, and {self.age_ms_max // 1_000} are allowed"
            )
        return Snapshot(at_ms=at_ms, lines=lines[:-2], retired=_retired(lines[-2]))

    def _check_head(self, line: bytes, lines: Sequence[bytes]) -> None:
        try:
            form = msgspec.json.decode(line, type=_Form).form
            head = msgspec.json.decode(line, type=_Head) if form == FORM else None
        except msgspec.MsgspecError as error:
            raise SnapshotUnusableError(f"its head is of another form: {error}") from error
        if head is None or head.tables > newest_version():
            raise SnapshotUnusableError("another version of tallygate wrote it")
        if head.database != self._database:
            raise SnapshotUnusableError("it is of another database")
        if head.organizations != len(lines) - 2:  # the retired Client IDs, and nothing behind the last line
            raise SnapshotUnusableError("organizations are missing from it")


class SnapshotKeeper:
    """Keeps the file as the database is. One process of a machine does so, by what its own copy of the directory reads.

    clock   of the event loop, in seconds
    """

    def __init__(self, file: SnapshotFile, *, clock: Callable[[], float], now_ms: Callable[[], int]) -> None:
        self._file = file
        self._clock = clock
        self._now_ms = now_ms
        self._lines: dict[str, bytes] = {}
        self._retired: _Retired = {}
        self._began_ms = self._read_at_ms = 0
        self._due: float | None = None  # when the next change is to be written
        self._not_before = 0.0
        self._confirmed_at = 0.0
        self._kept_at_ms = 0  # 0: not known. What was never read is never confirmed
        self._is_failing = False
        self._was_read = Alarm()  # until then there is nothing to do

    def begin(self) -> None:
        """Note that reading begins: what is read then is as of now."""
        self._began_ms = self._now_ms()

    def replace(self, lines: Mapping[str, bytes], retired: _Retired, *, changed: Collection[str] | None, takes_away: bool) -> None:
        """Take what was read of the database.

        lines        by organization; of those that changed, a missing one is gone
        changed      None if everything was read
        takes_away   whether something that was allowed is so no more
        """
        if changed is None:
            self._lines = dict(lines)
        else:
            for org in changed:
                self._lines.pop(org, None)
            self._lines.update(lines)
        self._retired, self._read_at_ms = retired, self._began_ms
        due = self._clock() + (SOON_SECONDS if takes_away else LATER_SECONDS)
        self._due = due if self._due is None else min(self._due, due)
        self._was_read.set()

    def confirm(self) -> None:
        """Take that nothing has changed since the last time."""
        self._read_at_ms = self._began_ms
        self._was_read.set()

    async def keep_forever(self) -> None:
        """Write and confirm until cancelled."""
        while True:
            await self._was_read.wait(until_tick(CONFIRM_SECONDS if self._due is None else _STEP_SECONDS))
            self._was_read.clear()
            await self.step()

    async def step(self) -> None:
        """Write what is due, or confirm what is there."""
        now = self._clock()
        if self._due is not None:
            if now >= max(self._due, self._not_before):
                await self._attempt(self._write)
        elif self._kept_at_ms != self._read_at_ms and now - self._confirmed_at >= CONFIRM_SECONDS:
            await self._attempt(self._confirm)

    async def last(self) -> None:
        """Write at the end what is not written yet."""
        if self._due is not None:
            await self._attempt(self._write)

    def samples(self) -> Samples:
        """Samples for /metrics."""
        return {} if not self._kept_at_ms else {SNAPSHOT_AGE: {(): self._file.age_ms(self._kept_at_ms) / 1_000}}

    async def _attempt(self, work: Callable[[], Any]) -> None:
        try:
            await work()
        except OSError as error:
            self._not_before = self._clock() + LATER_SECONDS
            self._due = self._not_before if self._due is None else self._due
            if not self._is_failing:
                _log.error(
                    "the snapshot of the directory cannot be written: workers that start while the database is away serve an older "
                    "one, or none",
                    extra={"fields": {"reason": error.strerror}},
                )
            self._is_failing = True
        else:
            if self._is_failing:
                _log.warning("the snapshot of the directory is written again")
            self._is_failing = False

    async def _write(self) -> None:
        began, at_ms, self._due = self._clock(), self._read_at_ms, None
        try:
            await asyncio.to_thread(self._file.write, list(self._lines.values()), self._retired, at_ms=at_ms)
        except OSError:
            self._due = began
            raise
        self._kept_at_ms, self._confirmed_at = at_ms, self._clock()
        self._not_before = self._confirmed_at + (SHARE - 1) * (self._confirmed_at - began)

    async def _confirm(self) -> None:
        at_ms = self._read_at_ms
        await asyncio.to_thread(self._file.confirm, at_ms)
        self._kept_at_ms, self._confirmed_at = at_ms, self._clock()


def _retired(line: bytes) -> _Retired:
    try:
        return {(client_id, scope): org for client_id, scope, org in msgspec.json.decode(line, type=list[tuple[str, str, str]])}
    except msgspec.MsgspecError as error:
        raise SnapshotUnusableError(f"its retired Client IDs are of another form: {error}") from error
