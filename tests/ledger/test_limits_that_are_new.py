"""A spend limit that an organization gets later counts what it spent before, and what was open at that time once it is settled."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from limiter_at_work import EACH, MONTH, WEEK, LimiterAtWork, an_organization

from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.organization import Organization
from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger.audit import LimiterAudit
from tallygate.ledger.database import Database
from tallygate.ledger.limiter_windows import windows_of
from tallygate.ledger.rebuild import Rebuild
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import unmarked_partitions
from tallygate.limiter.keys import partition_of

DAY = SpendLimit(name="spend_1d", limit_nano_usd=10**12, window_ms=86_400_000)
PROD, TEST = "acme-prod", "acme-test"
HERE = (partition_of("acme"),)


@dataclass
class Configured:
    """A ledger that looks at organizations which are changed; its clock."""

    at_work: LimiterAtWork
    organizations: Sequence[Organization]
    now_ms: int
    rebuild: Rebuild = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.rebuild = self.at_work.rebuilding(organizations=lambda: self.organizations, now_ms=lambda: self.now_ms)

    async def look(self) -> tuple[int, ...]:
        """The partitions that are closed by a look, once more opened."""
        await self.rebuild.close_where_windows_changed()
        closed = await unmarked_partitions(self.at_work.store)
        await self.at_work.writer.drain()
        await self.rebuild.open(closed)
        return closed

    async def spent(self) -> list[int]:
        """What is spent in each window, in the order of limits."""
        (organization,) = self.organizations
        demands = [window.demand for window in windows_of(organization, self.now_ms)]
        readings = await self.at_work.limiter.read_windows(organization.id, demands)
        audit = LimiterAudit(self.at_work.database, self.at_work.store, self.at_work.scripts)
        assert [drift async for _, found in audit.windows(self.organizations, self.now_ms) for drift in found] == []
        return [reading.spent_nano_usd for reading in readings]


async def configured(store: RedisConnection, database: Database, *limits: SpendLimit) -> Configured:
    at_work = LimiterAtWork(store, database)
    world = Configured(at_work, (an_organization(limits=limits),), await at_work.now_ms())
    await world.rebuild.open(await world.rebuild.closed())
    assert await world.look() == ()
    return world


def limited(world: Configured, *limits: SpendLimit) -> Organization:
    """The organization under other limits from now on."""
    (organization,) = world.organizations
    changed = replace(organization, plan=replace(organization.plan, spend_limits=limits))
    world.organizations = (changed,)
    return changed


async def settled(world: Configured, request: AdmissionRequest, cost_nano_usd: int) -> None:
    account = Account(admission=request, cost_nano_usd=cost_nano_usd, prompt_tokens=1, completion_tokens=1, event=request.event)
    await world.at_work.limiter.settle(account)


@pytest.mark.parametrize(
    ("before", "after", "counted"),
    [
        ((), (WEEK,), [700]),
        ((), (MONTH,), [700]),
        ((WEEK,), (MONTH,), [700]),
        ((MONTH,), (WEEK, DAY), [700, 700]),
        ((WEEK,), (WEEK, EACH), [700, 500, 200]),
    ],
)
async def test_a_limit_that_is_new_counts_what_was_spent_before(
    redis_store: RedisConnection,
    database: Database,
    before: tuple[SpendLimit, ...],
    after: tuple[SpendLimit, ...],
    counted: list[int],
) -> None:
    world = await configured(redis_store, database, *before)
    (organization,) = world.organizations
    await world.at_work.spend(organization, PROD, 500)
    await world.at_work.spend(organization, TEST, 200)
    await world.at_work.writer.drain()
    changed = limited(world, *after)
    await world.at_work.spend(changed, PROD, 40)  # a gateway knew of it first: the window is there, and has only this
    assert await world.look() == HERE
    assert await world.spent() == [amount + (40 if index != 2 else 0) for index, amount in enumerate(counted)]
    assert await world.look() == ()


async def test_what_the_ledger_has_yet_to_store_hides_nothing(redis_store: RedisConnection, database: Database) -> None:
    world = await configured(redis_store, database)
    await world.at_work.spend(world.organizations[0], PROD, 500)
    await world.at_work.writer.drain()
    await world.at_work.spend(limited(world, WEEK), PROD, 900)  # more than the window lacks
    assert await world.look() == HERE
    assert await world.spent() == [1_400]


async def test_a_limit_that_comes_back_counts_what_was_spent_meanwhile(redis_store: RedisConnection, database: Database) -> None:
    world = await configured(redis_store, database, WEEK)
    await world.at_work.spend(world.organizations[0], PROD, 500)
    await world.at_work.spend(limited(world, MONTH), PROD, 30)
    await world.at_work.writer.drain()
    assert await world.look() == HERE
    limited(world, WEEK)
    assert await world.look() == HERE
    assert await world.spent() == [530]


async def test_what_was_open_under_other_limits_counts_once_it_is_settled(redis_store: RedisConnection, database: Database) -> None:
    world = await configured(redis_store, database)
    await world.at_work.spend(world.organizations[0], PROD, 500)
    is_open = await world.at_work.admit(world.organizations[0], PROD)
    await world.at_work.writer.drain()
    limited(world, WEEK)
    assert await world.look() == HERE
    await settled(world, is_open, 60)
    await world.at_work.writer.drain()
    world.now_ms += 60_000
    assert await world.look() == HERE
    assert await world.spent() == [560]
    world.now_ms += 60_000
    assert await world.look() == ()


async def test_a_limit_that_came_while_no_ledger_ran_counts_all(redis_store: RedisConnection, database: Database) -> None:
    world = await configured(redis_store, database)
    await world.at_work.spend(world.organizations[0], PROD, 500)
    await world.at_work.writer.drain()
    await world.at_work.spend(limited(world, WEEK), PROD, 20)
    await world.at_work.writer.drain()
    world.restart()
    assert await world.look() == HERE
    assert await world.spent() == [520]
    world.restart()
    assert await world.look() == ()


@pytest.mark.parametrize("change", ["amount", "name", "credential", "gone"])
async def test_other_changes_close_nothing(redis_store: RedisConnection, database: Database, change: str) -> None:
    world = await configured(redis_store, database, WEEK, MONTH, EACH)
    (organization,) = world.organizations
    await world.at_work.spend(organization, PROD, 500)
    await world.at_work.writer.drain()
    match change:
        case "amount":
            limited(world, replace(WEEK, limit_nano_usd=10**9), MONTH, EACH)
        case "name":
            world.organizations = (replace(organization, name="Acme"),)
        case "credential":
            new = replace(organization.credentials[0], id="acme-third")
            world.organizations = (replace(organization, credentials=(*organization.credentials, new)),)
        case _:
            limited(world, WEEK)
    assert await world.look() == ()
