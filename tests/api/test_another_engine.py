"""The port behind which another engine could keep the history: one that is a list of entries gives the API's own answers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter
from random import Random
from typing import Any

from api_values import NOW_MS, an_entry
from search import cases

from tallygate.console.usage_pages import UsagePages, edges_of
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry
from tallygate.ledger.history import Dimension, EntriesPage, EntriesQuery, OrgScope, Usage, UsageHistory, UsageQuery, UsageRow
from tallygate.ledger.schema import AMOUNTS
from tallygate.ledger.series import series_of
from tallygate.ledger.time_buckets import QUARTER_MS, Bucket, bucket_of
from tallygate.ledger.usage_queries import UsageQueries

DAY_MS = 86_400_000
ORGS = ("acme", "globex")
DIMENSIONS = [dimension for dimension in Dimension if dimension is not Dimension.REFUSED_BY]
amounts_of = attrgetter(*AMOUNTS)
position_of = attrgetter("settled_at_ms", "event_id", "sequence")


class ListedEntries:
    """A history that walks over all entries for every answer."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = sorted(entries, key=position_of)

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        whole = replace(query, from_ms=query.from_ms // QUARTER_MS * QUARTER_MS, to_ms=-(-query.to_ms // QUARTER_MS) * QUARTER_MS)
        if whole.from_ms >= whole.to_ms:
            return []
        edges, rows = edges_of(whole), defaultdict(list)
        for entry in self._entries:
            seen_from_ms = self._seen_from(query.scopes, entry)
            if (
                seen_from_ms is None
                or not max(edges[0], -(-seen_from_ms // QUARTER_MS) * QUARTER_MS) <= entry.settled_at_ms < edges[-1]
            ):
                continue
            if self._matches(query.filters, entry):
                group = tuple(str(getattr(series_of(entry), each)) for each in query.group_by)
                rows[bucket_of(edges, entry.settled_at_ms), group].append(amounts_of(entry))
        spans = list(pairwise(edges))
        return [
            UsageRow(start_ms=spans[bucket][0], end_ms=spans[bucket][1], group=group, usage=usage)
            for (bucket, group), found in sorted(rows.items(), key=lambda row: (row[0][0], in_order(query, row[0][1])))
            if (usage := Usage(*map(sum, zip(*found, strict=True)))) != Usage()
        ]

    async def entries_page(self, query: EntriesQuery) -> EntriesPage:
        found = [entry for entry in self._entries if self._is_wanted(query, entry)]
        if query.newest_first:
            found.reverse()
        start = int(query.cursor or 0)
        end = start + query.limit
        return EntriesPage(entries=tuple(found[start:end]), cursor=str(end) if end < len(found) else "")

    def _is_wanted(self, query: EntriesQuery, entry: Entry) -> bool:
        seen_from_ms = self._seen_from(query.scopes, entry)
        return (
            seen_from_ms is not None
            and max(query.from_ms, seen_from_ms) <= entry.settled_at_ms < query.to_ms
            and self._matches(query.filters, entry)
            and (query.event_ids is None or entry.event_id in query.event_ids)
        )

    @staticmethod
    def _seen_from(scopes: Sequence[OrgScope], entry: Entry) -> int | None:
        return next((scope.visible_from_ms for scope in scopes if scope.org == entry.org), None)

    @staticmethod
    def _matches(filters: Any, entry: Entry) -> bool:
        return all(str(getattr(series_of(entry), name)) in allowed for name, allowed in filters.items())


def in_order(query: UsageQuery, group: tuple[str, ...]) -> tuple[Any, ...]:
    """Groups in the order of the ledger's: statuses are numbers there."""
    return tuple(int(text) if each is Dimension.STATUS else text for each, text in zip(query.group_by, group, strict=True))


def some_entries(random: Random) -> list[Entry]:
    return [
        an_entry(
            number,
            settled_at_ms=NOW_MS - random.randrange(40 * DAY_MS),
            org=random.choice(ORGS),
            credential=random.choice(["prod", "dev"]),
            request_model=(model := random.choice(["gpt-4o", "gpt-5"])),
            response_model=model,
            status=random.choice([200, 429]),
            cost_nano_usd=number,
        )
        for number in range(400)
    ]


def a_query(random: Random) -> tuple[UsageQuery, EntriesQuery]:
    """The same range, scopes and filters, asked for sums and for entries."""
    first, last = sorted(random.randrange(45 * DAY_MS) for _ in range(2))
    from_ms, to_ms = ((NOW_MS - ago) // QUARTER_MS * QUARTER_MS for ago in (last, first))
    visible = [NOW_MS - random.choice([10, 30, 60]) * DAY_MS - random.randrange(QUARTER_MS) for _ in ORGS]
    scopes = tuple(
        OrgScope(org=org, visible_from_ms=at_ms) for org, at_ms in zip(ORGS, visible, strict=True) if random.random() < 0.7
    )
    filters = {
        dimension: frozenset(random.sample(values, random.randint(1, len(values))))
        for dimension, values in {
            Dimension.CREDENTIAL: ["prod", "dev", "none"],
            Dimension.MODEL: ["gpt-4o", "gpt-5"],
            Dimension.STATUS: ["200", "429"],
        }.items()
        if random.random() < 0.3
    }
    sums = UsageQuery(
        scopes=scopes,
        from_ms=from_ms,
        to_ms=to_ms + QUARTER_MS,
        bucket=random.choice([None, *Bucket]),
        time_zone=random.choice(["UTC", "America/New_York", "Asia/Kathmandu"]),
        billing_day=random.choice([1, 15]),
        filters=filters,
        group_by=tuple(random.sample(DIMENSIONS, random.randint(0, 3))),
    )
    newest_first = random.random() < 0.5
    return sums, EntriesQuery(
        scopes=scopes, from_ms=from_ms + 1, to_ms=to_ms, filters=filters, limit=random.choice([7, 100]), newest_first=newest_first
    )


async def answers(history: UsageHistory, sums: UsageQuery, listed: EntriesQuery) -> tuple[Any, ...]:
    """A page of usage, the sums of its groups, and all pages of entries."""
    pages = UsagePages(history)
    page = await pages.page(sums, edges_of(sums), buckets_max=200, rows_max=200)
    walked, cursor = [], ""
    while True:
        found = await history.entries_page(replace(listed, cursor=cursor))
        walked += found.entries
        if not (cursor := found.cursor):
            return page, await pages.groups(sums), walked


async def test_it_gives_the_answers_of_the_ledger(database: Database) -> None:
    random = Random(1)
    entries = some_entries(random)
    await Book(database).record(entries)
    of_the_ledger, of_a_list = UsageQueries(database), ListedEntries(entries)
    with_rows = 0
    for number in range(cases(short=30, steady=60, deep=600)):
        asked = a_query(random)
        expected = await answers(of_the_ledger, *asked)
        assert await answers(of_a_list, *asked) == expected, (number, asked)
        with_rows += bool(expected[1] and expected[2])
    assert with_rows > 10  # most of them ask for something
