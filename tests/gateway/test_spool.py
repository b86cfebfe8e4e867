import asyncio
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from recording_metrics import RecordingMetrics
from small_admission import small_admission

from tallygate.domain.admission import Account, Settlement
from tallygate.domain.errors import StoreError
from tallygate.gateway.settling.settler import REMEMBERED_MS, REPLAY_BATCH, Settler
from tallygate.gateway.settling.spool import Spool, SpoolFullError, spools_without_worker
from tallygate.limiter.redis_limiter import ENDED_MS
from tallygate.telemetry.metrics import SPOOL_EVENTS, SPOOL_FULL


def a_record(number: int, *, owed: bool = True) -> Account:
    admission = small_admission(f"r{number}", event=b'{"a":1}')
    return Account(admission=admission, cost_nano_usd=number, event=b"{}", is_owed=owed)


class FlakyLimiter:
    """Answers or fails as told, and keeps what it was given."""

    def __init__(self) -> None:
        self.is_up = True
        self.posted: list[tuple[str, int, bool]] = []

    async def settle(self, account: Account) -> Settlement:
        if not self.is_up:
            raise StoreError("away")
        self.posted.append((account.admission.reservation_id, account.cost_nano_usd, account.is_owed))
        return Settlement(settled_at_ms=1)


NOW_MS = 1_000_000_000


class Ledger:
    """Knows some final words, or is away."""

    def __init__(self, *finished: str, is_up: bool = True) -> None:
        self.finished = frozenset(finished)
        self.is_up = is_up

    async def __call__(self, event_ids: Sequence[str]) -> frozenset[str]:
        if not self.is_up:
            raise StoreError("away")
        return self.finished & set(event_ids)


def a_settler(limiter: Any, spool: Spool, ledger: Ledger | None = None) -> Settler:
    return Settler(limiter, spool, RecordingMetrics(), finished=ledger or Ledger(), now_ms=lambda: NOW_MS)


async def test_records_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool" / "0.spool", bytes_max=10_000)
    records = [a_record(number) for number in range(3)]
    for record in records:
        await first.append(record)
    first.close()

    second = Spool(tmp_path / "spool" / "0.spool", bytes_max=10_000)

    assert not second.is_empty
    assert await second.read_oldest() == records
    second.close()


@pytest.mark.parametrize("lost", [1, 5, 20])
async def test_a_torn_tail_costs_only_the_last_record(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "0.spool"
    spool = Spool(path, bytes_max=10_000)
    for number in range(3):
        await spool.append(a_record(number))
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-lost])

    assert [record.cost_nano_usd for record in await spool.read_oldest()] == [0, 1]
    spool.close()


async def test_it_is_known_how_many_settlements_wait(tmp_path: Path) -> None:
    limiter, metrics = FlakyLimiter(), RecordingMetrics()
    limiter.is_up = False
    spool = Spool(tmp_path / "0.spool", bytes_max=10_000)
    settler = Settler(limiter, spool, metrics, finished=Ledger(), now_ms=lambda: NOW_MS)  # type: ignore[arg-type]
    for number in range(3):
        await settler.settle(a_record(number))
    spool.close()
    successor = Spool(tmp_path / "0.spool", bytes_max=10_000)
    settler = Settler(limiter, successor, metrics, finished=Ledger(), now_ms=lambda: NOW_MS)  # type: ignore[arg-type]
    limiter.is_up = True
    await settler.replay()

    assert metrics.set_to[SPOOL_EVENTS] == [0, 1, 2, 3, 3, 0]
    successor.close()


async def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "0.spool"
    spool = Spool(path, bytes_max=10_000)
    await spool.append(a_record(0))
    await spool.append(a_record(1))
    data = bytearray(path.read_bytes().rstrip(b"\0"))
    data[-3] ^= 1
    path.write_bytes(data)

    assert len(await spool.read_oldest()) == 1
    spool.close()


async def test_a_full_spool_says_so_and_takes_what_was_already_admitted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=1)
    await spool.append(a_record(0))

    assert spool.is_full
    await spool.append(a_record(1))
    spool.close()


async def test_a_disk_without_room_is_counted_and_told_once_and_again_when_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limiter, metrics, path = FlakyLimiter(), RecordingMetrics(), tmp_path / "spool" / "0.spool"
    path.mkdir(parents=True)  # no file can be there
    spool = Spool(path, bytes_max=10_000)
    settler = Settler(limiter, spool, metrics, finished=Ledger(), now_ms=lambda: NOW_MS)  # type: ignore[arg-type]
    assert metrics.levels[SPOOL_FULL] == 1
    await spool.keep_room()
    path.rmdir()
    replaying = asyncio.ensure_future(settler.replay_forever())
    async with asyncio.timeout(10):
        while metrics.levels[SPOOL_FULL]:
            await asyncio.sleep(0)
    replaying.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        "spool 0.spool: it cannot be used: Is a directory; nothing is admitted",
        "spool 0.spool has its room again",
    ]
    spool.close()


async def test_what_follows_a_torn_tail_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "0.spool"
    spool = Spool(path, bytes_max=10_000)
    for number in range(3):
        await spool.append(a_record(number))
    spool.close()
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-5])

    after = Spool(path, bytes_max=10_000)
    await after.append(a_record(7))

    assert [record.cost_nano_usd for record in await after.read_oldest()] == [0, 1, 7]
    after.close()


async def test_the_space_of_what_was_settled_is_given_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=3_000, room_bytes=10_000)
    for _ in range(20):  # ten times what fits at once
        while not spool.is_full:
            await spool.append(a_record(1))
        kept = len(await spool.read_oldest())
        await spool.drop(kept - 1)
        assert not spool.is_full
    assert len(await spool.read_oldest()) == 1
    assert not list(tmp_path.glob("*.new"))
    spool.close()


async def test_what_was_dropped_stays_dropped_after_a_restart(tmp_path: Path) -> None:
    first = Spool(tmp_path / "0.spool", bytes_max=1_000_000)
    for number in range(4):
        await first.append(a_record(number))
    await first.drop(3)
    first.close()

    second = Spool(tmp_path / "0.spool", bytes_max=1_000_000)
    assert [record.cost_nano_usd for record in await second.read_oldest()] == [3]
    second.close()


async def test_a_disk_without_room_for_what_is_admitted_closes_admission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.posix_fallocate", no_room)
        spool = Spool(tmp_path / "0.spool", bytes_max=100_000)
        assert spool.is_full
        await spool.keep_room()
        assert spool.is_full
    await spool.keep_room()

    assert not spool.is_full
    spool.close()


async def test_a_disk_that_refuses_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0.spool").mkdir()
    spool = Spool(tmp_path / "0.spool", bytes_max=100_000)

    with pytest.raises(SpoolFullError):
        await spool.append(a_record(0))
    spool.close()


async def test_a_settlement_without_limiter_is_spooled_and_replayed_once(tmp_path: Path) -> None:
    limiter = FlakyLimiter()
    spool = Spool(tmp_path / "0.spool", bytes_max=10_000)
    settler = a_settler(limiter, spool)
    limiter.is_up = False
    owed, released = a_record(1), a_record(2, owed=False)

    assert await settler.settle(owed) is None
    assert await settler.settle(released) is None
    assert await settler.replay() == 0
    limiter.is_up = True

    assert await settler.replay() == 2
    assert limiter.posted == [("r1", 1, True), ("r2", 2, False)]
    assert await settler.replay() == 0
    assert spool.is_empty
    spool.close()


async def test_a_long_spool_is_replayed_in_batches_and_whole(tmp_path: Path) -> None:
    limiter = FlakyLimiter()
    spool = Spool(tmp_path / "0.spool", bytes_max=10_000_000)
    for number in range(2 * REPLAY_BATCH + 7):
        await spool.append(a_record(number))
    read_at_once = []
    read = spool.read_oldest

    async def watched(count_max: int | None = None) -> list[Account | None]:
        records = await read(count_max)
        read_at_once.append(len(records))
        return records

    spool.read_oldest = watched  # type: ignore[method-assign]
    settler = a_settler(limiter, spool)

    assert await settler.replay() == 2 * REPLAY_BATCH + 7
    assert [cost for _, cost, _ in limiter.posted] == list(range(2 * REPLAY_BATCH + 7))
    assert read_at_once == [REPLAY_BATCH, REPLAY_BATCH, 7]
    assert spool.is_empty
    spool.close()


async def test_a_record_that_is_no_settlement_is_told_and_does_not_stop_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "0.spool"
    first = Spool(path, bytes_max=10_000)
    await first.append(a_record(1))
    first.close()
    nonsense = b'{"nonsense":1}'
    with path.open("r+b") as file:
        file.seek(len(path.read_bytes().rstrip(b"\0")))
        file.write(struct.pack(">II", len(nonsense), zlib.crc32(nonsense)) + nonsense)
    spool = Spool(path, bytes_max=10_000)
    await spool.append(a_record(2))
    limiter = FlakyLimiter()

    assert await a_settler(limiter, spool).replay() == 3
    assert [reservation for reservation, _, _ in limiter.posted] == ["r1", "r2"]
    assert spool.is_empty
    assert "nonsense" in caplog.text
    spool.close()


async def test_what_the_ledger_has_is_not_settled_again_when_the_limiter_has_forgotten_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=10_000)
    for number in range(3):
        await spool.append(a_record(number))
    limiter = FlakyLimiter()

    assert await a_settler(limiter, spool, Ledger("r1")).replay() == 3
    assert [reservation for reservation, _, _ in limiter.posted] == ["r0", "r2"]
    assert spool.is_empty
    spool.close()


@pytest.mark.parametrize(("age_ms", "posted"), [(REMEMBERED_MS, ["r1"]), (REMEMBERED_MS + 1, [])])
async def test_without_the_ledger_only_what_the_limiter_still_remembers_is_settled(
    tmp_path: Path, age_ms: int, posted: list[str]
) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=10_000)
    await spool.append(replace(a_record(1), noted_at_ms=NOW_MS - age_ms))
    limiter, ledger = FlakyLimiter(), Ledger(is_up=False)
    settler = a_settler(limiter, spool, ledger)

    await settler.replay()
    assert [reservation for reservation, _, _ in limiter.posted] == posted

    ledger.is_up = True
    await settler.replay()
    assert [reservation for reservation, _, _ in limiter.posted] == ["r1"]
    assert spool.is_empty
    spool.close()


def test_the_limiter_remembers_longer_than_the_replay_relies_on() -> None:
    assert REMEMBERED_MS < ENDED_MS


async def test_a_slot_that_is_no_longer_run_leaves_its_spool_to_one_that_is(tmp_path: Path) -> None:
    for slot in range(5):
        left = Spool(tmp_path / f"worker-{slot}.spool", bytes_max=10_000)
        for number in range(3):
            await left.append(a_record(10 * slot + number))
        await left.drop(1)
        left.close()
    (tmp_path / "worker-3.spool").write_bytes((tmp_path / "worker-3.spool").read_bytes()[:-1])

    heirs = [Spool(tmp_path / f"worker-{slot}.spool", bytes_max=10_000) for slot in range(2)]
    for slot, heir in enumerate(heirs):
        for path in spools_without_worker(tmp_path, slot=slot, workers=2):
            assert heir.take_over(path)

    assert sorted(path.name for path in tmp_path.glob("*.spool")) == ["worker-0.spool", "worker-1.spool"]
    kept = [sorted(record.cost_nano_usd for record in await heir.read_oldest() if record) for heir in heirs]
    assert kept == [[1, 2, 21, 22, 41, 42], [11, 12, 31, 32]]
    assert [heir.count for heir in heirs] == [6, 4]
    for heir in heirs:
        heir.close()
    again = Spool(tmp_path / "worker-0.spool", bytes_max=10_000)
    assert len(await again.read_oldest()) == 6
    again.close()


async def test_a_spool_that_has_no_room_for_another_leaves_it_where_it_is(tmp_path: Path) -> None:
    left, heir = (Spool(tmp_path / f"worker-{slot}.spool", bytes_max=1_500) for slot in (1, 0))
    for number in range(3):
        await left.append(a_record(number))
        await heir.append(a_record(10 + number))
    left.close()

    assert not heir.take_over(tmp_path / "worker-1.spool")

    assert (tmp_path / "worker-1.spool").exists()
    assert heir.count == 3
    heir.close()


async def test_what_arrives_during_a_replay_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=10_000)
    await spool.append(a_record(1))
    await spool.append(a_record(2))
    await spool.drop(1)

    assert [record.cost_nano_usd for record in await spool.read_oldest()] == [2]
    assert not spool.is_empty
    spool.close()


async def test_records_of_before_are_settled_as_they_were_meant(tmp_path: Path) -> None:
    """A worker that was upgraded finds what its predecessor wrote."""
    limiter, path = FlakyLimiter(), tmp_path / "0.spool"
    admission = msgspec.json.encode(small_admission("old")).decode()
    frames = b""
    for amounts, owed in (('{"cost_nano_usd":7,"prompt_tokens":1,"event":"e30="}', "true"), ('{"cost_nano_usd":0}', "false")):
        record = f'{{"admission":{admission},"actual":{amounts},"owed":{owed},"spooled_at_ms":{NOW_MS}}}'.encode()
        frames += struct.pack(">II", len(record), zlib.crc32(record)) + record
    path.write_bytes(struct.pack(">Q", 8) + frames)
    spool = Spool(path, bytes_max=10_000)

    assert await a_settler(limiter, spool).replay() == 2
    assert limiter.posted == [("old", 7, True), ("old", 0, False)]
    spool.close()
