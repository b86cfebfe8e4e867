"""Settlements that the limiter could not accept, kept on disk until it can.

The file begins with 8 bytes: the offset of its first live record. A record is a 4-byte length, a 4-byte CRC-32 (all
big-endian) and a JSON payload; it is fsynced before the client gets the end of its answer. A torn tail (the process died while
writing) is cut off at the next start, since it was never acknowledged. Replaying is idempotent, since every settlement is.

Bounded by bytes_max, and on the disk: behind the records there is always room for those of all admitted requests.
While the spool is full, or that room cannot be reserved, nothing new is admitted.
"""

import asyncio
import logging
import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from tallygate.domain.admission import Account, AdmissionRequest

ROOM_BYTES: Final = 16 << 20  # 5,000 open requests at about 2.5 KB each, and some more
_STEP_BYTES: Final = 1 << 20  # reserved at once, so that not every record allocates blocks
_START: Final = struct.Struct(">Q")
_FRAME: Final = struct.Struct(">II")
_NAME: Final = re.compile(r"worker-(\d{1,6})\.spool", re.ASCII)
_RECORD_BYTES_MAX: Final = 1_000_000
_log = logging.getLogger(__name__)


class _FormerAmounts(msgspec.Struct):
    cost_nano_usd: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    event: bytes = b"{}"


class _FormerRecord(msgspec.Struct):
    """A record in the former format, with an account's amounts in an object of their own: an upgrade may find some."""

    admission: AdmissionRequest
    actual: _FormerAmounts
    owed: bool
    spooled_at_ms: int = 0

    def account(self) -> Account:
        return Account(
            admission=self.admission,
            cost_nano_usd=self.actual.cost_nano_usd,
            prompt_tokens=self.actual.prompt_tokens,
            completion_tokens=self.actual.completion_tokens,
            event=self.actual.event,
            is_owed=self.owed,
            noted_at_ms=self.spooled_at_ms,
        )


_FORMER: Final = msgspec.json.Decoder(_FormerRecord)


class SpoolFullError(Exception):
    """The spool has reached its maximum, or the disk is full."""


class Position(NamedTuple):
    """A place between two records, while the spool is open: bytes and records before it, those that were dropped included."""

    offset: int
    number: int


FIRST: Final = Position(0, 0)


class Spool:
    """A worker's spool file. One writer thread keeps records in order, and the event loop never waits for the disk."""

    def __init__(self, path: Path, *, bytes_max: int, room_bytes: int = ROOM_BYTES) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._room_bytes = room_bytes
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Account)
        self._start = self._end = _START.size  # offsets of the live records
        self._count = 0
        self._dropped = 0  # records since the start
        self._cut_off = 0  # bytes that the file has lost in front of its records since the start
        self._reserved = 0  # length of the file, with allocated blocks
        self._trouble = ""  # why the room cannot be reserved
        path.parent.mkdir(parents=True, exist_ok=True)
        self._load()

    @property
    def count(self) -> int:
        """The number of waiting records, including those that cannot be decoded."""
        return self._count

    @property
    def is_empty(self) -> bool:
        return self._end == self._start

    @property
    def is_full(self) -> bool:
        return self._end - _START.size >= self._bytes_max or not self._has_room

    @property
    def _has_room(self) -> bool:
        return self._reserved >= self._end + self._room_bytes

    async def append(self, record: Account) -> None:
        """Store a record durably. Raises SpoolFullError if there is no room; the record is then only in the log."""
        payload = self._encoder.encode(record)
        frame = _frame(payload)
        if len(payload) > _RECORD_BYTES_MAX or self._end + len(frame) > self._bytes_max + self._room_bytes + _START.size:
            raise SpoolFullError(f"{self._path.name} holds {self._end - self._start} bytes")
        await self._append_durably(frame, 1)

    async def append_some(self, records: Sequence[Account]) -> int:
        """Store as many of the first records as fit now, in one step; return how many. Raises SpoolFullError if the disk fails.

        They may not use the room behind a full spool, which is reserved for admitted requests.
        """
        free = self._bytes_max + _START.size - self._end
        frames: list[bytes] = []
        for record in records:
            frame = _frame(self._encoder.encode(record))
            free -= len(frame)
            if free < 0 or len(frame) > _RECORD_BYTES_MAX:
                break
            frames.append(frame)
        if frames:
            await self._append_durably(b"".join(frames), len(frames))
        return len(frames)

    def take_over(self, path: Path) -> bool:
        """Take over the records of another spool, whose worker is gone, and remove its file; called before this spool is used.

        False if they do not fit, or the disk fails: the file stays. After an interruption both files have the records, and
        replaying both settles each once.
        """
        try:
            with path.open("rb", buffering=0) as file:
                payloads = list(self._payloads(file, _start_of(file)))
            frames = b"".join(_frame(payload) for payload in payloads)
            if self._end + len(frames) > self._bytes_max + _START.size:
                _log.error("spool %s: no room for the %d records of %s", self._path.name, len(payloads), path.name)
                return False
            if frames:
                self._append(frames, len(payloads))
            path.unlink()
        except OSError as error:
            _log.error("spool %s is not taken over: %s", path.name, error.strerror)
            return False
        _log.warning("spool %s: took over %d records of %s", self._path.name, len(payloads), path.name)
        return True

    async def read_oldest(self, count_max: int | None = None) -> list[Account | None]:
        """The oldest whole records, oldest first. A record that cannot be decoded is None, and is logged. Raises OSError."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: list(islice(self._records(), count_max)))

    def count_after(self, position: Position) -> int:
        """How many records wait behind a position."""
        return self._dropped + self._count - max(position.number, self._dropped)

    async def read_after(self, position: Position, bytes_max: int) -> tuple[list[Account], Position]:
        """Records behind a position, oldest first, and the position behind them. FIRST is in front of all.

        As many as make up `bytes_max`, and at least one, if there are any. What cannot be decoded is left out. Raises OSError.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read_after, position, bytes_max)

    async def drop(self, count: int) -> None:
        """Remove the oldest `count` records, which have been settled. Raises OSError; they are then read again."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._drop, count)

    async def keep_room(self) -> None:
        """Try again to reserve the room, if that failed: the disk may have been cleared."""
        if not self._has_room:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._load)

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    async def _append_durably(self, frames: bytes, count: int) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._append, frames, count)
        except OSError as error:
            raise SpoolFullError(str(error)) from error

    def _load(self) -> None:
        """Find the end of the records, cut off a torn tail, and reserve the room."""
        try:
            with self._opened() as file:
                self._start = self._end = _start_of(file)
                self._count = 0
                for payload in self._payloads(file, self._start):
                    self._end += _FRAME.size + len(payload)
                    self._count += 1
                file.truncate(self._end)
                self._reserved = self._end
                self._reserve(file)
        except OSError as error:
            self._note(f"it cannot be used: {error.strerror}")

    def _opened(self) -> BinaryIO:
        return os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)

    def _reserve(self, file: BinaryIO) -> None:
        """Allocate blocks behind the records. If that fails, the reservation stays as it is, and the spool is full."""
        if self._has_room:
            return
        try:
            _allocate(file, self._end, self._room_bytes + _STEP_BYTES)
            self._reserved = self._end + self._room_bytes + _STEP_BYTES
        except OSError as error:
            self._note(f"no room on the disk: {error.strerror}")
        else:
            self._note("")

    def _note(self, trouble: str) -> None:
        """Log what closes admission, once however often it is tried, and once that nothing does any more."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            _log.error("spool %s: %s; nothing is admitted", self._path.name, trouble)
        else:
            _log.warning("spool %s has its room again", self._path.name)

    def _append(self, frames: bytes, count: int) -> None:
        with self._opened() as file:
            try:
                _write(file, self._end, frames)
                if self._end == _START.size:
                    _write(file, 0, _START.pack(self._start))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(self._end)
                self._reserved = self._end
                raise
            self._end += len(frames)
            self._count += count
            self._reserve(file)

    def _records(self) -> Iterator[Account | None]:
        with self._opened() as file:
            for payload in self._payloads(file, self._start):
                try:
                    yield self._decoded(payload)
                except msgspec.DecodeError:
                    _log.critical(
                        "spool %s: not a settlement, re-enter it by hand: %s", self._path.name, payload.decode(errors="replace")
                    )
                    yield None

    def _read_after(self, position: Position, bytes_max: int) -> tuple[list[Account], Position]:
        offset, number = max(position, Position(self._cut_off + self._start, self._dropped))
        found: list[Account] = []
        read = 0
        with self._opened() as file:
            for payload in self._payloads(file, offset - self._cut_off):
                number += 1
                read += _FRAME.size + len(payload)
                with suppress(msgspec.DecodeError):  # the replay tells of it
                    found.append(self._decoded(payload))
                if read >= bytes_max:
                    break
        return found, Position(offset + read, number)

    def _decoded(self, payload: bytes) -> Account:
        try:
            return self._decoder.decode(payload)
        except msgspec.ValidationError:
            return _FORMER.decode(payload).account()

    def _payloads(self, file: BinaryIO, start: int) -> Iterator[bytes]:
        file.seek(start)
        while len(header := file.read(_FRAME.size)) == _FRAME.size:
            length, crc = _FRAME.unpack(header)
            if not length:
                return  # the room behind the records
            payload = file.read(length) if length <= _RECORD_BYTES_MAX else b""
            if len(payload) != length or zlib.crc32(payload) != crc:
                _log.error("spool %s: torn record before byte %d", self._path.name, file.tell())
                return
            yield payload

    def _drop(self, count: int) -> None:
        """Move the start, which needs no disk. An empty file is cut back; a half-settled one is replaced by a fresh one."""
        with self._opened() as file:
            start, dropped = self._start, 0
            for _, payload in zip(range(count), self._payloads(file, start), strict=False):
                start += _FRAME.size + len(payload)
                dropped += 1
            _write(file, 0, _START.pack(start))
            os.fsync(file.fileno())
            self._start = start
            self._count -= dropped
            self._dropped += dropped
            if start == self._end:
                file.truncate(_START.size)
                _write(file, 0, _START.pack(_START.size))
                self._cut_off += start - _START.size
                self._start = self._end = self._reserved = _START.size
                self._reserve(file)
                return
            if start < self._bytes_max // 2:
                return
            file.seek(start)
            kept = file.read(self._end - start)
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("wb", buffering=0) as file:
                _write(file, 0, _START.pack(_START.size) + kept)
                _allocate(file, _START.size + len(kept), self._room_bytes + _STEP_BYTES)
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            _log.warning("spool %s keeps its length: %s", self._path.name, error.strerror)
            return
        self._cut_off += start - _START.size
        self._start, self._end = _START.size, _START.size + len(kept)
        self._reserved = self._end + self._room_bytes + _STEP_BYTES


def spools_without_worker(directory: Path, *, slot: int, workers: int) -> list[Path]:
    """Spools of slots that no longer run and that this slot takes over; each has exactly one heir."""
    found = [(int(match[1]), path) for path in directory.glob("worker-*.spool") if (match := _NAME.fullmatch(path.name))]
    return [path for number, path in sorted(found) if number >= workers and number % workers == slot]


def _frame(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _start_of(file: BinaryIO) -> int:
    """The offset of the first record, from the file's header if it has one."""
    head = os.pread(file.fileno(), _START.size, 0)
    return max(_START.size, _START.unpack(head)[0] if len(head) == _START.size else 0)


def _write(file: BinaryIO, offset: int, data: bytes) -> None:
    """Write all of it, or raise OSError: a nearly full disk first accepts a part."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        offset += written
        view = view[written:]


def _allocate(file: BinaryIO, offset: int, length: int) -> None:
    """Extend the file by zeros with allocated blocks."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), offset, length)
    else:  # macOS
        _write(file, offset, bytes(length))
