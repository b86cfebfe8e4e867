"""Usage minute by minute, added up from entries."""

import pytest
from api_values import MINUTE_MS, NOW_MS, an_entry
from api_world import World

from tallygate.ledger.history import Dimension, OrgScope, QueryTooLargeError, UsageQuery
from tallygate.ledger.minute_queries import MINUTES_MAX, MinuteQueries


def a_query(from_ms: int, to_ms: int, **changed) -> UsageQuery:
    return UsageQuery(**{"scopes": (OrgScope(org="acme"),), "from_ms": from_ms, "to_ms": to_ms, **changed})


async def test_the_range_begins_inclusive_and_ends_exclusive(world: World) -> None:
    start, end = NOW_MS - 2 * MINUTE_MS, NOW_MS
    at = [start - 1, start, end - 1, end]
    await world.record([an_entry(number, settled_at_ms=at_ms, cost_nano_usd=10**number) for number, at_ms in enumerate(at)])

    rows = await MinuteQueries(world.database).usage(a_query(start, end))
    assert [(row.start_ms, row.end_ms, row.usage.cost_nano_usd) for row in rows] == [
        (start, start + MINUTE_MS, 10),
        (start + MINUTE_MS, end, 100),
    ]


async def test_history_filters_and_groups_hold(world: World) -> None:
    start = NOW_MS - 10 * MINUTE_MS
    await world.record(
        [an_entry(number, settled_at_ms=start + number * MINUTE_MS, credential=f"c{number % 2}") for number in range(4)]
    )
    queries = MinuteQueries(world.database)

    young = (OrgScope(org="acme", visible_from_ms=start + 2 * MINUTE_MS),)
    assert len(await queries.usage(a_query(start, NOW_MS, scopes=young))) == 2
    rows = await queries.usage(
        a_query(start, NOW_MS, filters={Dimension.CREDENTIAL: frozenset({"c1"})}, group_by=(Dimension.CREDENTIAL,))
    )
    assert [row.group for row in rows] == [("c1",), ("c1",)]


async def test_more_than_a_day_or_too_many_rows_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = MinuteQueries(world.database)
    with pytest.raises(ValueError, match="1440 minutes"):
        await queries.usage(a_query(0, (MINUTES_MAX + 1) * MINUTE_MS))
    await world.record([an_entry(number, settled_at_ms=NOW_MS - number * MINUTE_MS) for number in range(1, 4)])
    monkeypatch.setattr("tallygate.ledger.minute_queries.ROWS_MAX", 2)
    with pytest.raises(QueryTooLargeError):
        await queries.usage(a_query(NOW_MS - 5 * MINUTE_MS, NOW_MS))
