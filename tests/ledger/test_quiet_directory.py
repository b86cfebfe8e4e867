"""A copy of the directory while changes are announced: few questions, no session in between, and no change that it misses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from directory_world import DirectoryWorld, load

from tallygate.ledger.database import Database
from tallygate.ledger.directory.replica import QUIET_BEATS, DirectoryReplica

_POLL_SECONDS = 0.002


class CountedReplica(DirectoryReplica):
    """refreshes: questions asked; looks: how often it was asked whether changes are announced, about once a poll."""

    def __init__(self, world: DirectoryWorld) -> None:
        super().__init__(world.database, lambda: world.config, is_announced=self._look)
        self.refreshes = self.looks = 0
        self.is_heard = True

    def _look(self) -> bool:
        self.looks += 1
        return self.is_heard

    async def refresh(self) -> frozenset[str]:
        self.refreshes += 1
        return await super().refresh()

    async def after(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(_POLL_SECONDS)


@pytest.fixture
def world(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryWorld:
    for name in ("POLL_SECONDS", "BEAT_SECONDS"):
        monkeypatch.setattr(f"tallygate.ledger.directory.replica.{name}", _POLL_SECONDS)
    return DirectoryWorld(database, load(tmp_path / "config"))


@asynccontextmanager
async def following(world: DirectoryWorld) -> AsyncIterator[CountedReplica]:
    copy = CountedReplica(world)
    await copy.refresh()
    task = asyncio.create_task(copy.follow_forever(lambda _ids: None))
    yield copy
    task.cancel()


async def test_while_changes_are_announced_the_database_is_asked_seldom_and_has_no_session_between(
    world: DirectoryWorld, database_url: str
) -> None:
    async with following(world) as copy:
        await copy.after(lambda: copy.looks > 5 * QUIET_BEATS)
        assert 4 <= copy.refreshes <= 7
        if world.database.dialect == "postgresql":
            observer = await asyncpg.connect(database_url)
            question = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            sessions = [await observer.fetchval(question) for _ in range(20)]
            await observer.close()
            assert min(sessions) == 0

        copy.is_heard = False
        before = copy.refreshes
        await copy.after(lambda: copy.refreshes > before + QUIET_BEATS)


async def test_a_change_that_is_announced_is_read_at_once(world: DirectoryWorld) -> None:
    async with following(world) as copy:
        await world.acme()
        looks = copy.looks
        copy.wake()
        await copy.after(lambda: "acme" in copy.organizations)
        assert copy.looks - looks < QUIET_BEATS


async def test_what_was_changed_while_nobody_announced_is_read_at_the_next_poll(world: DirectoryWorld) -> None:
    async with following(world) as copy:
        copy.is_heard = False
        await world.acme()
        await copy.after(lambda: "acme" in copy.organizations)


async def test_new_rules_are_applied_without_an_announcement(world: DirectoryWorld) -> None:
    await world.acme()
    async with following(world) as copy:
        assert copy.organizations["acme"].plan.api_access
        looks = copy.looks
        world.without_plan("pay_as_you_go")
        await copy.after(lambda: not copy.organizations["acme"].plan.api_access)
        assert copy.looks - looks < QUIET_BEATS
