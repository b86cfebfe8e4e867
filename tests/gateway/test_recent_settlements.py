"""What a worker remembers of what its store acknowledged: bounded, and suspected once the store runs anew."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from recording_metrics import RecordingMetrics
from small_admission import small_admission

from tallygate.domain.admission import Account, Settlement
from tallygate.domain.errors import StoreError
from tallygate.gateway.settling.recent import (
    GROUP,
    GROUPS_MAX,
    KEPT_MAX,
    KEPT_MS,
    ORGS_MAX,
    SUSPECTED_MS_MAX,
    RecentSettlements,
)
from tallygate.gateway.settling.settler import Settler
from tallygate.gateway.settling.spool import Spool

NOW_MS = 1_800_000_000_000
ALL = 2 * KEPT_MAX


class Store:
    """Acknowledges everything, and runs anew when told to."""

    def __init__(self) -> None:
        self.run = "one"
        self.now_ms = NOW_MS
        self.taken: list[tuple[str, bool]] = []
        self.is_away = False

    async def settle(self, account: Account) -> Settlement:
        if self.is_away:
            raise StoreError("away")
        self.taken.append((account.admission.reservation_id, account.is_owed))
        return Settlement(settled_at_ms=self.now_ms)


def what_is_kept(store: Store) -> RecentSettlements:
    return RecentSettlements(lambda: store.run, lambda: store.now_ms)


def an_account(name: str, *, cost_nano_usd: int = 1, is_owed: bool = True) -> Account:
    return Account(admission=small_admission(name), cost_nano_usd=cost_nano_usd, is_owed=is_owed)


def keep(recent: RecentSettlements, name: str, at_ms: int) -> None:
    recent.keep(an_account(name), Settlement(settled_at_ms=at_ms))


def keep_last_word(recent: RecentSettlements, name: str, at_ms: int) -> None:
    recent.keep(replace(an_account(name), admitted_once=True), Settlement(settled_at_ms=at_ms, sent_once=True))


def names(recent: RecentSettlements) -> list[str]:
    return [record.admission.reservation_id for record in recent.suspected(ALL)]


def test_nothing_is_suspected_while_the_store_runs_on() -> None:
    recent = what_is_kept(Store())
    keep(recent, "r1", NOW_MS)

    assert names(recent) == []


def test_what_was_acknowledged_long_before_the_last_is_not_suspected() -> None:
    store = Store()
    recent = what_is_kept(store)
    for name, age_ms in (("old", KEPT_MS + 1), ("oldest that counts", KEPT_MS), ("last", 0)):
        keep(recent, name, NOW_MS - age_ms)
    store.run = "two"

    assert names(recent) == ["oldest that counts", "last"]


def test_a_store_that_is_away_for_long_is_not_forgotten_but_one_of_yesterday_is() -> None:
    store = Store()
    recent = what_is_kept(store)
    keep(recent, "yesterday", NOW_MS - 1)
    keep(recent, "today", NOW_MS)
    store.run, store.now_ms = "two", NOW_MS + SUSPECTED_MS_MAX

    assert names(recent) == ["today"]


def test_as_many_are_kept_as_there_is_room_for_and_the_oldest_go_first() -> None:
    store = Store()
    recent = what_is_kept(store)
    for number in range(KEPT_MAX + 3):
        keep(recent, f"r{number}", NOW_MS)
    store.run = "two"

    assert names(recent) == [f"r{number}" for number in range(3, KEPT_MAX + 3)]


def test_those_that_wait_already_stay_when_the_store_crashes_again() -> None:
    store = Store()
    recent = what_is_kept(store)
    for run, count in (("two", KEPT_MAX - 1), ("three", 3)):
        for number in range(count):
            keep(recent, f"before {run}: {number}", NOW_MS)
        store.run = run
        recent.suspected(1)

    assert names(recent) == [*(f"before two: {number}" for number in range(KEPT_MAX - 1)), "before three: 2"]


def test_what_the_new_run_acknowledges_is_not_suspected_of_having_been_lost_with_the_former() -> None:
    store = Store()
    recent = what_is_kept(store)
    keep(recent, "before", NOW_MS)
    store.run = "two"
    keep(recent, "after", NOW_MS)

    assert names(recent) == ["before"]
    store.run = "three"
    assert names(recent) == ["before", "after"]


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.gateway.settling.recent.GROUP", 1)


@pytest.mark.usefixtures("one_by_one")
def test_what_is_recent_no_more_can_be_repeated_by_nobody_if_it_was_told_once() -> None:
    recent = what_is_kept(Store())
    keep_last_word(recent, "r1", NOW_MS)
    keep(recent, "sent twice", NOW_MS)
    keep_last_word(recent, "r2", NOW_MS)
    keep_last_word(recent, "recent", NOW_MS + 1)
    assert not recent.take_unrepeatable()

    keep_last_word(recent, "last", NOW_MS + KEPT_MS + 1)
    assert recent.take_unrepeatable() == (("acme", ["r1"]), ("acme", ["r2"]))
    assert not recent.take_unrepeatable()


@pytest.mark.usefixtures("one_by_one")
def test_what_a_lost_run_may_have_lost_can_be_repeated() -> None:
    store = Store()
    recent = what_is_kept(store)
    keep_last_word(recent, "suspected", NOW_MS)
    store.run = "two"
    keep_last_word(recent, "first of the new run", NOW_MS + 1)
    keep_last_word(recent, "last", NOW_MS + KEPT_MS + 2)

    assert recent.take_unrepeatable() == (("acme", ["first of the new run"]),)
    assert [each.admitted_once for each in recent.suspected(ALL)] == [False]


@pytest.mark.usefixtures("one_by_one")
def test_what_was_copied_for_others_can_be_repeated() -> None:
    recent = what_is_kept(Store())
    keep_last_word(recent, "copied", NOW_MS)
    assert [each.admitted_once for each in recent.copies()] == [False]
    keep_last_word(recent, "afterwards", NOW_MS)
    keep_last_word(recent, "last", NOW_MS + KEPT_MS + 1)

    assert recent.take_unrepeatable() == (("acme", ["afterwards"]),)


def let_go(recent: RecentSettlements, *orgs: str) -> None:
    """One exchange of each organization leaves what is recent."""
    for org in orgs:
        account = replace(an_account(f"of {org}"), admitted_once=True)
        account = replace(account, admission=replace(account.admission, org=org))
        recent.keep(account, Settlement(settled_at_ms=NOW_MS, sent_once=True))
    keep(recent, "last", NOW_MS + KEPT_MS + 1)
    keep(recent, "last", NOW_MS)  # as of a clock that was put back, for whoever is next


def test_the_store_is_told_of_groups_of_one_organization() -> None:
    recent = what_is_kept(Store())
    let_go(recent, *["acme"] * (GROUP - 1), *["globex"] * (2 * GROUP + 1))
    assert recent.take_unrepeatable() == (("globex", ["of globex"] * GROUP),) * 2

    let_go(recent, "acme", "globex")
    assert recent.take_unrepeatable() == (("acme", ["of acme"] * GROUP),)


def test_no_more_wait_to_be_forgotten_than_there_is_room_for() -> None:
    recent = what_is_kept(Store())
    let_go(recent, *["acme"] * (GROUP - 1), *(f"org-{number}" for number in range(ORGS_MAX)))
    let_go(recent, "acme")
    assert not recent.take_unrepeatable()  # its others went when one organization too many came

    let_go(recent, *["acme"] * (GROUP * (GROUPS_MAX + 3)))
    assert len(recent.take_unrepeatable()) == GROUPS_MAX


@pytest.fixture
def store() -> Store:
    return Store()


def a_settler(store: Store, spool: Spool, *, clock: Callable[[], float] = time.perf_counter) -> Settler:
    async def finished(_event_ids: object) -> frozenset[str]:
        return frozenset()

    limiter = store
    return Settler(  # type: ignore[arg-type]
        limiter, spool, RecordingMetrics(), finished=finished, now_ms=lambda: store.now_ms, store_run=lambda: store.run, clock=clock
    )


async def test_settlements_and_releases_of_the_former_run_are_told_again_once(tmp_path: Path, store: Store) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=100_000)
    settler = a_settler(store, spool)
    await settler.settle(an_account("owed"))
    await settler.settle(an_account("released", cost_nano_usd=0, is_owed=False))
    store.run = "two"
    store.taken.clear()

    assert await settler.replay() == 2
    assert await settler.replay() == 0
    assert store.taken == [("owed", True), ("released", False)]
    assert spool.is_empty
    spool.close()


async def test_they_take_no_room_of_the_requests_that_are_open_and_are_told_again_all_the_same(
    tmp_path: Path, store: Store
) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=700)  # two records
    settler = a_settler(store, spool)
    names = [f"r{number}" for number in range(7)]
    for name in names:
        await settler.settle(an_account(name))
    await spool.append(an_account("spooled"))
    store.run = "two"
    store.taken.clear()
    fullest, append_some = 0, spool.append_some

    async def watched(records: Sequence[Account]) -> int:
        nonlocal fullest
        taken = await append_some(records)
        fullest = max(fullest, spool.count)
        return taken

    spool.append_some = watched  # type: ignore[method-assign]

    assert await settler.replay() == 8
    assert fullest == 2
    assert store.taken == [(name, True) for name in ("spooled", *names)]
    spool.close()


async def test_a_disk_that_refuses_lets_them_wait_in_memory(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "0.spool", bytes_max=100_000)
    settler = a_settler(store, spool)
    await settler.settle(an_account("r1"))
    store.run = "two"
    store.taken.clear()

    def fails(_file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", fails)
        assert await settler.replay() == 0
    assert await settler.replay() == 1
    assert store.taken == [("r1", True)]
    spool.close()


async def test_a_spool_that_waits_says_so_once_a_minute_and_again_at_the_next_outage(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    spool, seconds = Spool(tmp_path / "0.spool", bytes_max=100_000), [0.0]
    settler = a_settler(store, spool, clock=lambda: seconds[0])

    async def try_for(tries: int) -> int:
        for _ in range(tries):
            await settler.replay()
            seconds[0] += 1
        lines = [record.getMessage() for record in caplog.records if "spool replay waits" in record.getMessage()]
        caplog.clear()
        return len(lines)

    await spool.append(an_account("one"))
    store.is_away = True
    assert await try_for(120) == 2
    store.is_away = False
    assert await try_for(1) == 0
    await spool.append(an_account("two"))
    store.is_away = True
    assert await try_for(1) == 1
    spool.close()


async def test_a_result_of_a_batch_is_not_kept(tmp_path: Path, store: Store) -> None:
    """Whoever reads the results comes back to each, and there may be a million."""
    settler = a_settler(store, Spool(tmp_path / "0.spool", bytes_max=100_000))
    await settler.settle_part(replace(an_account("result"), part_of="batch"))
    await settler.settle_job(an_account("batch"))

    assert [account.admission.reservation_id for account in settler.recent.copies()] == ["batch"]
