"""What is spooled is copied elsewhere in its order, whatever is dropped meanwhile, and what has no copy is counted."""

import asyncio
import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from recording_metrics import RecordingMetrics
from small_admission import small_admission

from tallygate.domain.admission import Account, Settlement
from tallygate.domain.errors import StoreError
from tallygate.gateway.settling.recent import RecentSettlements
from tallygate.gateway.settling.spool import FIRST, Spool
from tallygate.gateway.settling.spool_copier import AWAY_STEPS, BATCH_BYTES, SpoolCopier
from tallygate.telemetry.metrics import SPOOL_UNCOPIED

NOW_MS = 1_800_000_000_000


def a_record(number: int, *, event: bytes = b"{}") -> Account:
    return Account(admission=small_admission(f"r{number}"), cost_nano_usd=number, event=event)


def numbers(records: Sequence[Account]) -> list[int]:
    return [record.cost_nano_usd for record in records]


class Copies:
    """Where copies are kept: away or short of room as told."""

    def __init__(self) -> None:
        self.is_up = True
        self.room = 10**6
        self.kept: list[Account] = []
        self.batches = 0
        self.asked = 0

    async def keep(self, records: Sequence[Account]) -> int:
        self.asked += 1
        if not self.is_up:
            raise StoreError("away")
        taken = records[: self.room]
        self.room -= len(taken)
        self.batches += 1
        self.kept += taken
        return len(records) - len(taken)


class Site:
    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.copies = Copies()
        self.metrics = RecordingMetrics()
        self.recent = RecentSettlements(lambda: "run", lambda: NOW_MS)
        self.seconds = 0.0
        self.copier = SpoolCopier(spool, self.recent, self.metrics, self.copies.keep, clock=lambda: self.seconds)

    async def append(self, *wanted: int) -> None:
        for number in wanted:
            await self.spool.append(a_record(number))

    @property
    def uncopied(self) -> int:
        return self.metrics.levels[SPOOL_UNCOPIED]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    spool = Spool(tmp_path / "0.spool", bytes_max=4_000, room_bytes=1 << 20)
    yield Site(spool)
    spool.close()


async def test_each_record_is_copied_once_whatever_is_settled_meanwhile(site: Site) -> None:
    await site.append(0, 1)
    await site.copier.step()
    await site.append(2, 3, 4)
    await site.spool.drop(3)  # of which one was never copied
    await site.copier.step()
    await site.spool.drop(2)  # the file begins anew
    await site.append(5)
    await site.copier.step()
    await site.copier.step()

    assert numbers(site.copies.kept) == [0, 1, 3, 4, 5]
    assert site.uncopied == 0


async def test_a_file_that_is_cut_in_front_loses_no_place(site: Site) -> None:
    """A spool that is half settled is replaced by a fresh file of what is left."""
    await site.append(*range(20))
    await site.copier.step()
    await site.append(20, 21)
    size = (site.spool._start, site.spool._end)
    await site.spool.drop(15)
    assert site.spool._start < size[1]
    assert site.spool._end < size[1]
    await site.copier.step()

    assert numbers(site.copies.kept) == list(range(22))


async def test_what_another_life_of_the_worker_has_spooled_is_copied_again(tmp_path: Path) -> None:
    first = Spool(tmp_path / "0.spool", bytes_max=4_000)
    for number in range(3):
        await first.append(a_record(number))
    await first.drop(1)
    first.close()
    spool = Spool(tmp_path / "0.spool", bytes_max=4_000)
    site = Site(spool)
    await site.copier.step()

    assert numbers(site.copies.kept) == [1, 2]
    spool.close()


async def test_what_has_no_copy_is_counted_until_it_has_one(site: Site) -> None:
    site.copies.is_up = False
    await site.append(0, 1)
    with pytest.raises(StoreError):
        await site.copier.step()
    assert site.uncopied == 2

    site.copies.is_up = True
    await site.append(2)
    await site.copier.step()
    assert site.uncopied == 0
    assert numbers(site.copies.kept) == [0, 1, 2]


async def test_what_found_no_room_has_no_copy_until_it_is_settled(site: Site) -> None:
    site.copies.room = 2
    await site.append(0, 1, 2)
    await site.copier.step()
    assert site.uncopied == 1

    await site.spool.drop(3)
    await site.copier.step()
    assert site.uncopied == 0


async def test_many_are_copied_some_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=10**8)
    site = Site(spool)
    event = b"x" * (BATCH_BYTES // 8)
    for number in range(20):
        await spool.append(a_record(number, event=event))
    await site.copier.step()

    assert numbers(site.copies.kept) == list(range(20))
    assert site.copies.batches >= 3
    spool.close()


async def test_what_cannot_be_read_is_left_out_and_passed(site: Site, tmp_path: Path) -> None:
    await site.append(0)
    await site.spool._append_durably(_framed(b"no record"), 1)
    await site.append(2)

    records, position = await site.spool.read_after(FIRST, BATCH_BYTES)
    assert numbers(records) == [0, 2]
    assert position.number == 3
    await site.copier.step()
    assert site.uncopied == 0


def _framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4) + zlib.crc32(payload).to_bytes(4) + payload


async def test_while_the_store_stays_away_what_it_acknowledged_last_is_copied_too(site: Site) -> None:
    """It may come back without them, and this worker's memory is lost with it."""
    for number in (7, 8):
        site.recent.keep(a_record(number), Settlement(settled_at_ms=NOW_MS - number))
    for _ in range(AWAY_STEPS):
        await site.copier.step()
    assert site.copies.kept == []

    await site.append(0)
    for _ in range(3 * AWAY_STEPS):
        await site.copier.step()
    assert numbers(site.copies.kept) == [0, 7, 8]
    assert [record.noted_at_ms for record in site.copies.kept[1:]] == [NOW_MS - 7, NOW_MS - 8]


async def test_a_store_that_answers_again_at_once_costs_no_copies_of_what_it_has(site: Site) -> None:
    site.recent.keep(a_record(7), Settlement(settled_at_ms=NOW_MS))
    for number in range(5):
        await site.append(number)
        await site.copier.step()
        await site.spool.drop(1)
        await site.copier.step()

    assert numbers(site.copies.kept) == [0, 1, 2, 3, 4]


async def test_a_process_that_ends_copies_once_more_and_says_what_it_could_not(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.append(0)
    await site.copier.copy_last()
    assert numbers(site.copies.kept) == [0]
    assert caplog.records == []

    await site.append(1)
    site.copies.is_up = False
    with caplog.at_level(logging.WARNING):
        await site.copier.copy_last()
    assert [record.getMessage() for record in caplog.records] == ["settlements stay in the spool without a copy: away"]


async def test_a_database_that_is_away_is_told_once_a_minute(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.gateway.settling.spool_copier.COPY_EVERY_S", 0)
    await site.append(0)
    site.copies.is_up = False
    copying = asyncio.ensure_future(site.copier.copy_forever())
    for seconds in (0, 59, 60, 61):
        site.seconds = seconds
        asked = site.copies.asked
        while site.copies.asked < asked + 3:
            await asyncio.sleep(0)
    copying.cancel()

    assert [record.getMessage() for record in caplog.records] == ["spooled settlements are on this disk alone: away"] * 2
