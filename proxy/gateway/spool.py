"""Settlements that the limiter could not take, kept on disk until it can.

A record is a 4-byte length, a 4-byte CRC-32 (both big-endian) and a JSON payload; it is fsynced before the client sees its answer's
end. A torn tail (the process died while writing) ends the file: what was never acknowledged was never promised. Replaying is
idempotent, since every settlement is. Bounded by bytes_max; while the spool is full, nothing new is admitted.
"""

import asyncio
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from proxy.domain.admission import Actual, AdmissionRequest

_FRAME: Final = struct.Struct(">II")
_RECORD_BYTES_MAX: Final = 1_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledSettlement:
    """owed False: a release."""

    admission: AdmissionRequest
    actual: Actual
    owed: bool


class SpoolFullError(Exception):
    """The spool has reached its maximum, or the disk has."""


class Spool:
    """An append-only file per worker. One writer thread keeps records in order and the event loop from waiting for a disk."""

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(SpooledSettlement)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._size = path.stat().st_size if path.exists() else 0

    @property
    def is_empty(self) -> bool:
        return self._size == 0

    @property
    def size_bytes(self) -> int:
        return self._size

    @property
    def is_full(self) -> bool:
        return self._size >= self._bytes_max

    async def append(self, record: SpooledSettlement) -> None:
        """Store a record durably. Raises SpoolFullError if there is no room; then it is nowhere but in the log."""
        payload = self._encoder.encode(record)
        frame = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
        if self._size + len(frame) > self._bytes_max + _RECORD_BYTES_MAX:
            raise SpoolFullError(f"{self._path.name} holds {self._size} bytes")
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._append, frame)
        except OSError as error:
            raise SpoolFullError(str(error)) from error

    async def read(self) -> list[SpooledSettlement]:
        """Every whole record, oldest first."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: list(self._records()))

    async def drop(self, count: int) -> None:
        """Forget the oldest `count` records, which have been settled."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._drop, count)

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    def _append(self, frame: bytes) -> None:
        with self._path.open("ab") as file:
            start = file.tell()
            try:
                file.write(frame)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(start)
                raise
            self._size = file.tell()

    def _records(self) -> Iterator[SpooledSettlement]:
        for payload in self._payloads():
            try:
                yield self._decoder.decode(payload)
            except msgspec.DecodeError:
                _log.exception("spool %s: a record of %d bytes cannot be read and is skipped", self._path.name, len(payload))

    def _payloads(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while len(header := file.read(_FRAME.size)) == _FRAME.size:
                length, crc = _FRAME.unpack(header)
                payload = file.read(length) if length <= _RECORD_BYTES_MAX else b""
                if len(payload) != length or zlib.crc32(payload) != crc:
                    _log.error("spool %s: torn record at byte %d", self._path.name, file.tell())
                    return
                yield payload

    def _drop(self, count: int) -> None:
        kept = list(self._payloads())[count:]
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            for payload in kept:
                file.write(_FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._size = self._path.stat().st_size
