"""Questions about the past at a standby: what it may answer, what an answer says of its age, and who answers without it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from api_values import NOW_MS, an_entry
from api_world import World, served
from new_ledger import postgres_ledger
from postgres_process import PostgresProcess, running_standby
from sqlalchemy import Connection, text

from tallygate.domain.instants import instant_text, millisecond_text
from tallygate.ledger.database import Database, LogPosition
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry_months import EntryMonths
from tallygate.ledger.opening import open_database, open_read_replica
from tallygate.ledger.read_replica import LAG_MS_MAX, NO_STANDBY, REST_LOOKS, ReadReplica, ReplicaLostError
from tallygate.telemetry.metrics import LEDGER_READS, READ_REPLICA_LAG

pytestmark = pytest.mark.timeout(120)
_PORT = text("SELECT inet_server_port()")


@dataclass(kw_only=True)
class Pair:
    """A primary with a standby beside it, and an API over both. The console's clock moves by hand."""

    world: World
    primary: Database
    standby: PostgresProcess
    replica: ReadReplica
    name: str  # of the database

    async def on_standby(self, statement: str) -> Any:
        connection = await asyncpg.connect(self.standby.url(self.name))
        found = await connection.fetchval(statement)
        await connection.close()
        return found

    async def pause(self) -> None:
        await self.on_standby("SELECT pg_wal_replay_pause()")
        async with asyncio.timeout(20):  # it comes into force when the standby next looks
            while await self.on_standby("SELECT pg_get_wal_replay_pause_state()") != "paused":
                await asyncio.sleep(0.01)

    async def follow(self) -> None:
        """Look until the replica answers, with all that there is now."""
        self.world.now_ms += 1_000
        async with asyncio.timeout(20):
            while self.replica.as_of_ms() != self.world.now_ms or not await self.is_used():
                await asyncio.sleep(0.01)
                await self.replica.look()

    async def is_used(self) -> bool:
        return await self.replica.ask(lambda connection: connection.execute(_PORT).scalar_one()) == self.standby.port

    async def pass_seconds(self, seconds: int) -> None:
        """Move the clock, with a look after every second."""
        for _ in range(seconds):
            self.world.now_ms += 1_000
            await self.replica.look()

    @property
    def now(self) -> str:
        return instant_text(self.world.now_ms)

    async def costs(self) -> tuple[str, str]:
        """The cost of all usage, and as of when, by the usage API."""
        answer = await self.world.ok("/api/usage", bucket="total")
        return answer["totals"]["cost_usd"], answer["as_of"]


@asynccontextmanager
async def a_pair(server: PostgresProcess, standby: PostgresProcess, folder: Path) -> AsyncIterator[Pair]:
    async with postgres_ledger(server) as url:
        name = url.rpartition("/")[2]
        primary = open_database(url, folder)
        await EntryMonths(primary).make(1_700_000_000_000, 1_800_000_000_000)
        clock: list[World] = []
        replica = ReadReplica(primary, open_read_replica(standby.url(name)), now_ms=lambda: clock[0].now_ms if clock else NOW_MS)
        async with served(primary, replica=replica) as world:
            clock.append(world)
            pair = Pair(world=world, primary=primary, standby=standby, replica=replica, name=name)
            await pair.follow()
            yield pair
        await replica.close()
        await primary.close()


@pytest.fixture(scope="module")
def standby(postgres_server: PostgresProcess) -> Iterator[PostgresProcess]:
    with running_standby(postgres_server) as standby:
        yield standby


@pytest.fixture
async def pair(postgres_server: PostgresProcess, standby: PostgresProcess, tmp_path: Path) -> AsyncIterator[Pair]:
    """With a standby that is there after the test, too."""
    async with a_pair(postgres_server, standby, tmp_path) as pair:
        yield pair
        await pair.on_standby("SELECT pg_wal_replay_resume()")


@pytest.fixture
async def pair_of_its_own(postgres_server: PostgresProcess, tmp_path: Path) -> AsyncIterator[Pair]:
    with running_standby(postgres_server) as standby:
        async with a_pair(postgres_server, standby, tmp_path) as pair:
            yield pair


async def test_a_replica_that_stands_still_says_so_and_is_left_when_it_is_too_far_behind(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    await pair.world.record([an_entry(1)])
    await pair.follow()
    assert await pair.costs() == ("0.0005", pair.now)
    await pair.pause()
    paused_at = pair.now
    await pair.world.record([an_entry(2)])

    await pair.pass_seconds(LAG_MS_MAX // 1_000)
    assert await pair.costs() == ("0.0005", paused_at)  # older, and it says so
    assert pair.replica.samples()[READ_REPLICA_LAG] == {(): LAG_MS_MAX}
    await pair.pass_seconds(1)
    assert await pair.costs() == ("0.001", pair.now)
    assert "the primary answers" in caplog.text

    await pair.on_standby("SELECT pg_wal_replay_resume()")
    await pair.follow()
    assert await pair.costs() == ("0.001", pair.now)
    assert pair.replica.samples()[READ_REPLICA_LAG] == {(): 0}


async def test_what_takes_over_from_the_primary_is_no_older_than_its_answers(pair: Pair) -> None:
    await pair.pause()
    await pair.world.record([an_entry(1)])
    await pair.pass_seconds(LAG_MS_MAX // 1_000 + 1)
    await pair.world.record([an_entry(2)])
    answered = await pair.costs()
    assert answered == ("0.001", pair.now)
    await pair.on_standby("SELECT pg_wal_replay_resume()")
    while not await pair.is_used():
        assert await pair.costs() == answered
        await pair.replica.look()
    assert await pair.costs() == answered


async def test_what_must_not_be_old_is_asked_of_the_primary(pair: Pair) -> None:
    await pair.pause()
    entry = an_entry(1)
    await pair.world.record([entry])
    await pair.world.keep("hooli")
    counts = pair.replica.samples()[LEDGER_READS]

    assert (await pair.world.ok(f"/api/events/{entry.event_id}"))["event"]["event_id"] == entry.event_id
    assert (await pair.world.ok("/api/spend", org="acme", days=1))["daily"][0]["cost"]["usd"] == "0.0005"
    assert (await pair.world.ok("/api/organizations/hooli"))["id"] == "hooli"
    assert (await pair.world.ok("/api/audit"))["entries"]
    assert pair.replica.samples()[LEDGER_READS] == counts
    assert (await pair.world.ok("/api/events"))["events"] == []


async def test_an_export_says_as_of_when_it_is(pair: Pair) -> None:
    await pair.pause()
    paused_at = millisecond_text(pair.world.now_ms)
    await pair.world.record([an_entry(1)])
    await pair.pass_seconds(3)
    assert pair.world.session is not None
    query = {"format": "jsonl", "org": "globex", "from": "2026-08-30T00:00:00Z"}
    async with pair.world.session.get("/api/export", params=query, headers={"Authorization": "Bearer platform"}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["tallygate-export-as-of"] == paused_at


async def test_a_replica_that_is_killed_costs_nobody_an_answer(pair: Pair) -> None:
    await pair.world.record([an_entry(1)])
    await pair.follow()
    pair.standby.stop("immediate")
    assert await pair.costs() == ("0.0005", pair.now)  # the first question meets it
    assert not await pair.is_used()
    await pair.replica.look()
    assert not await pair.is_used()
    pair.standby.start()
    await pair.follow()


async def test_an_answer_that_the_replica_breaks_off_is_given_by_the_primary(pair: Pair) -> None:
    """As a standby does with long reads that keep it from following (max_standby_streaming_delay)."""

    def broken_off(connection: Connection) -> int:
        port = int(connection.execute(_PORT).scalar_one())
        if port == pair.standby.port:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return port

    assert await pair.replica.ask(broken_off) != pair.standby.port
    for _ in range(REST_LOOKS - 1):  # nobody meets it twice
        await pair.replica.look()
        assert not await pair.is_used()
    await pair.follow()
    with pytest.raises(ReplicaLostError):
        async with pair.replica.read() as connection:
            await connection.run_sync(broken_off)


async def test_a_question_that_the_replica_breaks_off_is_asked_again(pair: Pair) -> None:
    """The second of the statements of an answer fails, as it does while the API reads."""
    await pair.world.record([an_entry(1)])
    await pair.follow()
    before = pair.replica.samples()[LEDGER_READS]["primary",]
    read = pair.replica.read

    @asynccontextmanager
    async def breaking() -> AsyncIterator[Any]:
        async with read() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid()) WHERE pg_is_in_recovery()"))
            yield connection

    pair.replica.read = breaking  # type: ignore[method-assign]
    assert (await pair.costs())[0] == "0.0005"
    assert pair.replica.samples()[LEDGER_READS]["primary",] > before


async def test_a_replica_that_is_promoted_is_a_replica_no_more(pair_of_its_own: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair = pair_of_its_own
    await asyncio.to_thread(pair.standby.promote)
    await pair.world.record([an_entry(1)])
    assert (await pair.costs())[0] == "0.0005"  # the next read finds it out, before the next look
    await pair.replica.look()
    assert not await pair.is_used()
    reasons = [getattr(record, "fields", {}).get("reason") for record in caplog.records]
    assert NO_STANDBY in reasons


async def test_reads_at_the_replica_and_at_the_primary_cannot_write(pair_of_its_own: Pair) -> None:
    pair = pair_of_its_own
    await asyncio.to_thread(pair.standby.promote)  # takes writes, if anything does
    promoted = open_read_replica(pair.standby.url(pair.name))
    for database in (promoted, pair.primary):
        with pytest.raises(LedgerUnavailableError, match="read-only transaction"):
            async with database.read() as connection:
                await connection.execute(text("DELETE FROM entries"))
    await promoted.close()


async def test_another_database_is_no_replica(pair: Pair, postgres_server: PostgresProcess) -> None:
    for url in (postgres_server.url(pair.name), pair.standby.url("template_ledger")):
        other = ReadReplica(pair.primary, open_read_replica(url), now_ms=lambda: NOW_MS)
        await other.look()
        await other.look()
        await other.ask(lambda connection: connection.execute(_PORT).scalar_one())
        assert other.samples()[LEDGER_READS] == {("replica",): 0, ("primary",): 1}
        await other.close()


async def test_while_the_primary_is_away_the_replica_answers_however_old_it_is(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has anything newer."""

    async def away() -> None:
        raise LedgerUnavailableError("away")

    await pair.world.record([an_entry(1)])
    await pair.follow()
    since = pair.now
    monkeypatch.setattr(pair.primary, "position", away)
    await pair.pass_seconds(LAG_MS_MAX // 1_000 * 2)
    assert await pair.costs() == ("0.0005", since)
    monkeypatch.undo()
    await pair.follow()


async def test_a_user_without_privileges_may_ask_where_a_server_is(pair: Pair, postgres_server: PostgresProcess) -> None:
    owner = await asyncpg.connect(postgres_server.url(pair.name))
    await owner.execute("CREATE ROLE plain LOGIN")
    database = open_read_replica(f"postgresql://plain@127.0.0.1:{postgres_server.port}/{pair.name}")
    assert (await database.position()).server == (await pair.primary.position()).server
    await database.close()
    await owner.execute("DROP ROLE plain")
    await owner.close()


class Scripted:
    """A database that is where a test says."""

    def __init__(self, *, is_standby: bool) -> None:
        self.is_standby = is_standby
        self.lsn = 0

    async def position(self) -> LogPosition:
        return LogPosition((1, 2), self.is_standby, self.lsn)


async def test_a_replica_that_catches_up_is_used_once_it_has_what_the_primary_had() -> None:
    """Until then answers of the primary may be newer than anything that the replica was seen to have passed."""
    primary, standby = Scripted(is_standby=False), Scripted(is_standby=True)
    at = [NOW_MS]
    replica = ReadReplica(cast("Any", primary), cast("Any", standby), now_ms=lambda: at[0])

    async def look(primary_lsn: int, standby_lsn: int) -> int:
        """The age of answers after a look a second later, in seconds."""
        at[0] += 1_000
        primary.lsn, standby.lsn = primary_lsn, standby_lsn
        await replica.look()
        at[0] += 100
        age_ms = at[0] - replica.as_of_ms()
        at[0] -= 100
        return age_ms

    assert await look(0, 0) == 100  # the replica's: its mark stays while the clock goes on
    assert [await look(lsn, 0) for lsn in range(1, 12)] == [*range(1_100, 11_000, 1_000), 0]  # then it is left
    assert await look(12, 8) == 100  # it has passed the mark of four seconds ago, and is not asked before it has that of now
    assert await look(13, 10) == 1_100
    assert await look(14, 13) == 1_100  # it has passed that of a second ago, and from here on it answers
    assert await look(15, 13) == 2_100
    assert await look(16, 16) == 100
