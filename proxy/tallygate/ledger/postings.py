"""What the ledger has posted to spend windows, by buckets of five minutes."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sqlalchemy import select

from tallygate.ledger.database import Database
from tallygate.ledger.limiter_windows import LimiterWindow
from tallygate.ledger.schema import SPEND_BUCKETS

_ROWS_AT_ONCE: Final = 2_000  # taken between two turns of the event loop

Posted = dict[str, list[tuple[int, str, int]]]


async def read_postings(database: Database, orgs: Sequence[str], since_ms: int) -> Posted:
    """(bucket_ms, credential, nano_usd) of each organization, in the order of time."""
    columns = SPEND_BUCKETS.c
    statement = (
        select(columns.org, columns.bucket_ms, columns.credential, columns.posted_nano_usd)
        .where(columns.org.in_(sorted(set(orgs))), columns.bucket_ms >= since_ms)
        .order_by(columns.org, columns.bucket_ms)
    )
    rows = await database.ask(lambda connection: connection.execute(statement).all())
    found: Posted = defaultdict(list)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        for org, bucket, credential, amount in rows[start : start + _ROWS_AT_ONCE]:
            found[org].append((bucket, credential, amount))
        await asyncio.sleep(0)
    return found


def posted_in(window: LimiterWindow, posted: Posted) -> list[tuple[int, int]]:
    """(bucket_ms, nano_usd): sums of the window's own postings. A bucket never counts below zero, as in the limiter."""
    sums: defaultdict[int, int] = defaultdict(int)
    for bucket, credential, amount in posted.get(window.org, ()):
        if window.credential in {None, credential}:
            sums[bucket] += amount
    return [(bucket, amount) for bucket, amount in sorted(sums.items()) if amount > 0]
