"""The snapshot of the directory: what it has, when it is written, and which one is not believed."""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from directory_world import ME, DirectoryWorld, load

from tallygate.config.directory import StoredSource
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory.replica import DirectoryReplica
from tallygate.ledger.directory.snapshot import (
    CONFIRM_SECONDS,
    LATER_SECONDS,
    SOON_SECONDS,
    SnapshotFile,
    SnapshotKeeper,
    SnapshotUnusableError,
)
from tallygate.telemetry.metrics import SNAPSHOT_AGE

HOUR_MS = 3_600_000
NOW_MS = 1_900_000_000_000


class Machine:
    """A process that keeps the snapshot, with clocks that a test moves: seconds of the loop, and Unix time."""

    def __init__(self, world: DirectoryWorld, directory: Path) -> None:
        self.seconds = 100.0
        self.now_ms = NOW_MS
        self.file = self.file_of(directory)
        self.keeper = SnapshotKeeper(self.file, clock=lambda: self.seconds, now_ms=lambda: self.now_ms)
        self.replica = DirectoryReplica(world.database, lambda: world.config, keeper=self.keeper)

    def file_of(self, directory: Path, database: str = "db:5432/ledger") -> SnapshotFile:
        return SnapshotFile(directory, database=database, age_ms_max=HOUR_MS, now_ms=lambda: self.now_ms)

    async def after(self, seconds: float) -> None:
        self.seconds += seconds
        self.now_ms += round(seconds * 1_000)
        await self.keeper.step()

    async def write(self) -> None:
        await self.replica.read()
        await self.after(SOON_SECONDS)

    def org_ids(self) -> set[str]:
        return {stored.id for stored, _ in self.file.read().rows(0, 1_000)}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> DirectoryWorld:
    return DirectoryWorld(database, load(tmp_path / "config"))


@pytest.fixture
def machine(world: DirectoryWorld, tmp_path: Path) -> Machine:
    return Machine(world, tmp_path)


@pytest.fixture
async def written(world: DirectoryWorld, machine: Machine) -> Machine:
    await world.acme()
    await world.credentials.create(ME, "acme", {"id": "acme-prod"})
    await machine.write()
    return machine


async def begun(world: DirectoryWorld, machine: Machine) -> DirectoryReplica:
    """The copy of a process that begins from the snapshot."""
    replica = DirectoryReplica(world.database, lambda: world.config)
    snapshot = machine.file.read()
    await replica.use(snapshot, is_too_old=lambda: machine.file.is_too_old(snapshot.at_ms))
    return replica


async def test_a_process_that_begins_from_it_has_what_the_database_has(world: DirectoryWorld, machine: Machine) -> None:
    await world.acme(time_zone="Europe/Zurich", rate_limits=[{"requests": 7, "window": "1m"}])
    for number in range(3):
        await world.credentials.create(ME, "acme", {"id": f"key-{number}", "capabilities": ["chat"], "spend_limit": {"usd": "3"}})
    await world.credentials.rotate(ME, "acme", "key-1", overlap_ms=HOUR_MS)
    await world.credentials.revoke(ME, "acme", "key-2")
    await world.organizations.create(ME, {"id": "gone", "plan": "enterprise"})
    await world.credentials.create(ME, "gone", {"id": "gone-key"})
    await world.credentials.revoke(ME, "gone", "gone-key")
    await world.organizations.delete(ME, "gone")
    await world.organizations.create(ME, {"id": "uni", "name": 'Ünï \\ "x"', "plan": "enterprise"})
    await machine.write()

    replica = await begun(world, machine)

    assert replica.organizations == machine.replica.organizations
    assert set(replica.organizations) == {"acme", "uni"}
    assert replica.retired == machine.replica.retired
    assert len(replica.retired) == 1
    assert replica.source is StoredSource.SNAPSHOT


async def test_the_rules_in_force_are_applied_to_it(world: DirectoryWorld, written: Machine, tmp_path: Path) -> None:
    world.without_plan("pay_as_you_go")
    assert not (await begun(world, written)).organizations["acme"].plan.api_access
    world.config = load(
        tmp_path / "config", organizations={"organizations": [{"id": "acme", "name": "In the file", "plan": "enterprise"}]}
    )
    assert (await begun(world, written)).organizations == {}


async def test_only_its_owner_may_read_it_and_no_key_is_in_it(world: DirectoryWorld, machine: Machine) -> None:
    await world.acme()
    made = await world.credentials.create(ME, "acme", {"id": "acme-prod"})
    await machine.write()
    assert machine.file.path.stat().st_mode & 0o777 == 0o600
    content = machine.file.path.read_text()
    assert made.api_key is not None
    assert made.api_key.rpartition("_")[2] not in content
    assert [path.name for path in machine.file.path.parent.glob("directory*")] == ["directory.snapshot"]


async def test_any_changed_or_missing_byte_is_seen(written: Machine) -> None:
    path = written.file.path
    content = path.read_bytes()
    for at in range(len(content)):
        for damaged in (content[:at], content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :]):
            _put(path, damaged)
            with pytest.raises(SnapshotUnusableError):
                written.file.read()
    _put(path, content + b"\n")
    with pytest.raises(SnapshotUnusableError, match="damaged"):
        written.file.read()
    _put(path, content)
    assert written.org_ids() == {"acme"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"form": 2, "more": 1}, "another version of tallygate wrote it"),
        ({"tables": "9999"}, "another version of tallygate wrote it"),
        ({"more": 1}, "its head is of another form"),
        ({"form": "x"}, "its head is of another form"),
        ({"database": "0" * 64}, "it is of another database"),
        ({"organizations": 2}, "organizations are missing"),
    ],
)
async def test_a_head_that_is_not_ours_is_named(written: Machine, change: dict[str, Any], reason: str) -> None:
    _, head, *rest = written.file.path.read_bytes().split(b"\n")
    _put_checked(written.file.path, b"\n".join([msgspec.json.encode(msgspec.json.decode(head) | change), *rest]))
    with pytest.raises(SnapshotUnusableError, match=reason):
        written.file.read()


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"[]\n[]\n", b'{"form":1}\n'])
async def test_a_file_of_another_form_is_named(written: Machine, content: bytes) -> None:
    _put_checked(written.file.path, content)
    with pytest.raises(SnapshotUnusableError, match="form"):
        written.file.read()


async def test_rows_that_this_version_does_not_know_are_named(world: DirectoryWorld, written: Machine) -> None:
    _, head, line, *rest = written.file.path.read_bytes().split(b"\n")
    for other in (line.replace(b'"plan"', b'"later"', 1), b"[]", b"[{},[{}]]", b"{}"):
        _put_checked(written.file.path, b"\n".join([head, other, *rest]))
        with pytest.raises(SnapshotUnusableError, match="its rows are of another form"):
            await begun(world, written)


async def test_one_of_another_database_too_old_or_of_the_future_is_named(written: Machine, tmp_path: Path) -> None:
    with pytest.raises(SnapshotUnusableError, match="another database"):
        written.file_of(tmp_path, "db:5432/another").read()
    written.now_ms = NOW_MS + HOUR_MS
    written.file.read()
    written.now_ms += 2_001
    with pytest.raises(SnapshotUnusableError, match="it is 3602 seconds old, and 3600 are allowed"):
        written.file.read()
    written.now_ms = NOW_MS - HOUR_MS
    with pytest.raises(SnapshotUnusableError, match="future"):
        written.file.read()
    written.file.path.unlink()
    with pytest.raises(SnapshotUnusableError, match="there is none"):
        written.file.read()


async def test_what_takes_away_is_written_soon_and_all_else_later(world: DirectoryWorld, written: Machine) -> None:
    await world.organizations.create(ME, {"id": "new", "plan": "enterprise"})
    await written.replica.refresh()
    await written.after(LATER_SECONDS - 1)
    assert written.org_ids() == {"acme"}
    await written.after(1)
    assert written.org_ids() == {"acme", "new"}

    await world.credentials.revoke(ME, "acme", "acme-prod")
    await written.replica.refresh()
    await written.after(SOON_SECONDS)
    credentials = {stored.id: held for stored, held in written.file.read().rows(0, 2)}
    assert credentials["acme"][0].revoked_at_ms is not None

    await world.organizations.delete(ME, "new")
    await written.replica.refresh()
    await written.after(LATER_SECONDS)  # nobody had a key of it
    assert written.org_ids() == {"acme"}


async def test_a_keeper_rests_until_something_is_read_and_then_misses_no_change(
    world: DirectoryWorld, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.ledger.directory.snapshot._STEP_SECONDS", 0.01)
    monkeypatch.setattr("tallygate.ledger.directory.snapshot.CONFIRM_SECONDS", 3_600.0)
    steps, step = 0, machine.keeper.step

    async def counted() -> None:
        nonlocal steps
        steps += 1
        await step()

    monkeypatch.setattr(machine.keeper, "step", counted)
    keeping = asyncio.create_task(machine.keeper.keep_forever())
    await world.acme()
    await machine.replica.read()
    async with asyncio.timeout(30):  # nobody waits for the next hour
        while steps < 3:
            await asyncio.sleep(0.01)
        assert not machine.file.path.exists()
        machine.seconds += LATER_SECONDS
        while not machine.file.path.exists():
            await asyncio.sleep(0.01)
        before = steps
        await asyncio.sleep(0.1)
        assert steps - before <= 1
        machine.seconds, machine.now_ms = machine.seconds + 3_600, machine.now_ms + 7_000
        await machine.replica.refresh()
        while machine.keeper.samples().get(SNAPSHOT_AGE) != {(): 0.0}:
            await asyncio.sleep(0.01)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_slow_disk_is_not_kept_busy(world: DirectoryWorld, written: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    write = written.file.write
    writes = []

    def slow(*arguments: Any, **named: Any) -> None:
        writes.append(written.seconds)
        written.seconds += 3
        write(*arguments, **named)

    monkeypatch.setattr(written.file, "write", slow)
    for name in ("a", "b"):
        await world.organizations.change(ME, "acme", {"name": name})
        await world.credentials.rotate(ME, "acme", "acme-prod", overlap_ms=0)
        await written.replica.refresh()
        await written.after(SOON_SECONDS)
    assert len(writes) == 1
    await written.after(3 * 19)
    assert len(writes) == 2


async def test_its_age_counts_from_the_last_time_that_the_database_said_so(written: Machine) -> None:
    await written.after(CONFIRM_SECONDS)  # nobody has read the database meanwhile
    assert written.keeper.samples() == {SNAPSHOT_AGE: {(): CONFIRM_SECONDS + SOON_SECONDS}}
    await written.replica.refresh()
    await written.after(CONFIRM_SECONDS)
    assert written.keeper.samples() == {SNAPSHOT_AGE: {(): CONFIRM_SECONDS}}
    assert written.file.age_ms(written.file.read().at_ms) == CONFIRM_SECONDS * 1_000


async def test_a_change_that_is_not_written_yet_is_not_confirmed(world: DirectoryWorld, written: Machine) -> None:
    at_ms = written.file.read().at_ms
    await world.organizations.create(ME, {"id": "new", "plan": "enterprise"})
    await written.replica.refresh()
    await written.replica.refresh()
    await written.after(CONFIRM_SECONDS)
    assert written.file.read().at_ms == at_ms
    await written.keeper.last()
    assert written.org_ids() == {"acme", "new"}


async def test_a_process_that_has_read_nothing_yet_leaves_it_as_it_is(
    world: DirectoryWorld, written: Machine, tmp_path: Path
) -> None:
    at_ms = written.file.read().at_ms
    for directory in (tmp_path, tmp_path / "new"):
        directory.mkdir(exist_ok=True)
        unread = Machine(world, directory)
        await unread.after(CONFIRM_SECONDS)
        await unread.keeper.last()
        assert unread.keeper.samples() == {}
    assert written.file.read().at_ms == at_ms
    assert not unread.file.path.exists()


async def test_a_disk_that_takes_nothing_is_logged_once_and_tried_again(
    world: DirectoryWorld, machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: Any, **_named: Any) -> None:
        raise OSError(28, "No space left on device")

    await world.acme()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        await machine.write()
        await machine.after(1)
        await machine.after(LATER_SECONDS)
        assert len(caplog.records) == 1
        assert "cannot be written" in caplog.text
        assert not machine.file.path.exists()
    with caplog.at_level(logging.WARNING):
        await machine.after(LATER_SECONDS)
    assert machine.org_ids() == {"acme"}
    assert "is written again" in caplog.text


async def test_a_deleted_one_is_made_anew(written: Machine) -> None:
    written.file.path.unlink()
    await written.replica.refresh()
    await written.after(CONFIRM_SECONDS)
    await written.after(LATER_SECONDS)
    assert written.org_ids() == {"acme"}


class AwayReplica(DirectoryReplica):
    """Its database is away until a test says otherwise."""

    is_away = True

    async def refresh(self) -> frozenset[str]:
        if self.is_away:
            raise LedgerUnavailableError("away")
        return await super().refresh()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.ledger.directory.replica.POLL_SECONDS", 0.002)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.usefixtures("quick")
async def test_the_database_is_turned_to_when_it_answers_and_what_changed_meanwhile_holds(
    world: DirectoryWorld, written: Machine
) -> None:
    replica = AwayReplica(world.database, lambda: world.config)
    await replica.use(written.file.read(), is_too_old=lambda: False)
    told: list[tuple[frozenset[str], StoredSource]] = []
    following = asyncio.create_task(replica.follow_forever(lambda changed: told.append((changed, replica.source))))
    await world.credentials.revoke(ME, "acme", "acme-prod")
    assert replica.organizations["acme"].credentials[0].enabled
    replica.is_away = False
    await until(lambda: replica.source is StoredSource.DATABASE)
    await until(lambda: len(told) == 2)
    following.cancel()
    assert told == [(frozenset({"acme"}), StoredSource.SNAPSHOT), (frozenset(), StoredSource.DATABASE)]
    assert not replica.organizations["acme"].credentials[0].enabled


@pytest.mark.usefixtures("quick")
async def test_one_that_becomes_too_old_is_dropped(world: DirectoryWorld, written: Machine) -> None:
    replica = AwayReplica(world.database, lambda: world.config)
    at_ms = written.file.read().at_ms
    await replica.use(written.file.read(), is_too_old=lambda: written.file.is_too_old(at_ms))
    told: list[frozenset[str]] = []
    following = asyncio.create_task(replica.follow_forever(told.append))
    await asyncio.sleep(0.02)
    assert set(replica.organizations) == {"acme"}
    written.now_ms += HOUR_MS
    await until(lambda: bool(told))
    following.cancel()
    assert told == [frozenset({"acme"})]
    assert (replica.organizations, replica.source) == ({}, StoredSource.NOTHING)


def _put(path: Path, content: bytes) -> None:
    """Replace the content, and keep the time."""
    found = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _put_checked(path: Path, content: bytes) -> None:
    _put(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
