from pathlib import Path

import pytest

from proxy.domain.admission import Actual, AdmissionRequest, Settlement
from proxy.domain.errors import StoreError
from proxy.gateway.settlement import Settler
from proxy.gateway.spool import Spool, SpooledSettlement, SpoolFullError


def a_record(number: int, *, owed: bool = True) -> SpooledSettlement:
    admission = AdmissionRequest(
        reservation_id=f"r{number}",
        org="acme",
        rate=(),
        spend=(),
        hold_nano_usd=100,
        hold_min_nano_usd=100,
        floor_nano_usd=10,
        lease_ms=30_000,
        event=b'{"a":1}',
        totals=("prod", "chat"),
    )
    return SpooledSettlement(admission=admission, actual=Actual(cost_nano_usd=number, event=b"{}"), owed=owed)


class FlakyLimiter:
    """Answers or fails as told, and keeps what it was given."""

    def __init__(self) -> None:
        self.is_up = True
        self.posted: list[tuple[str, int, bool]] = []

    async def settle(self, admission: AdmissionRequest, actual: Actual) -> Settlement:
        return await self._post(admission, actual, owed=True)

    async def release(self, admission: AdmissionRequest, actual: Actual) -> Settlement:
        return await self._post(admission, actual, owed=False)

    async def _post(self, admission: AdmissionRequest, actual: Actual, *, owed: bool) -> Settlement:
        if not self.is_up:
            raise StoreError("away")
        self.posted.append((admission.reservation_id, actual.cost_nano_usd, owed))
        return Settlement(settled_at_ms=1)


async def test_records_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool" / "0.spool", bytes_max=10_000)
    records = [a_record(number) for number in range(3)]
    for record in records:
        await first.append(record)
    first.close()

    second = Spool(tmp_path / "spool" / "0.spool", bytes_max=10_000)

    assert not second.is_empty
    assert await second.read() == records
    second.close()


@pytest.mark.parametrize("lost", [1, 5, 20])
async def test_a_torn_tail_costs_only_the_last_record(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "0.spool"
    spool = Spool(path, bytes_max=10_000)
    for number in range(3):
        await spool.append(a_record(number))
    path.write_bytes(path.read_bytes()[:-lost])

    assert [record.actual.cost_nano_usd for record in await spool.read()] == [0, 1]
    spool.close()


async def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "0.spool"
    spool = Spool(path, bytes_max=10_000)
    await spool.append(a_record(0))
    await spool.append(a_record(1))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)

    assert len(await spool.read()) == 1
    spool.close()


async def test_a_full_spool_says_so_and_takes_what_was_already_admitted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=1)
    await spool.append(a_record(0))

    assert spool.is_full
    await spool.append(a_record(1))
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
    settler = Settler(limiter, spool)  # type: ignore[arg-type]
    limiter.is_up = False
    owed, released = a_record(1), a_record(2, owed=False)

    assert await settler.settle(owed.admission, owed.actual, owed=True) is None
    assert await settler.settle(released.admission, released.actual, owed=False) is None
    assert await settler.replay() == 0
    limiter.is_up = True

    assert await settler.replay() == 2
    assert limiter.posted == [("r1", 1, True), ("r2", 2, False)]
    assert await settler.replay() == 0
    assert spool.is_empty
    spool.close()


async def test_what_arrives_during_a_replay_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=10_000)
    await spool.append(a_record(1))
    await spool.append(a_record(2))
    await spool.drop(1)

    assert [record.actual.cost_nano_usd for record in await spool.read()] == [2]
    assert not spool.is_empty
    spool.close()
