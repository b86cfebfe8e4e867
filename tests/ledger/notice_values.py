"""Notices as the limiter appends them."""

import json
from typing import Any

from ledger_values import START_MS

from tallygate.ledger.notices.notice import Notice, notice_of_stream
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import partition_keys, partition_of


def notice_fields(number: int = 1, **changed: Any) -> dict[bytes, bytes]:
    """The fields of a stream entry: a warning at 80 % unless told otherwise."""
    told: dict[str, Any] = {
        "type": "spend.warning",
        "org": "acme",
        "limit": "org:spend_7d",
        "threshold_permille": 800,
        "spent_nano_usd": 80_000_000_001,
        "held_nano_usd": 250_000_000,
        "limit_nano_usd": 100_000_000_000,
        "at_ms": START_MS + number,
        **changed,
    }
    told = {name: value for name, value in told.items() if value is not None}
    event_id = f"ntc-{told['org']}-{told['limit']}-{told['type']}-{told['at_ms']}"
    return {
        b"event_id": event_id.encode(),
        b"kind": b"notice",
        b"event": json.dumps(told).encode(),
        b"settled_at_ms": b"%d" % told["at_ms"],
    }


PAUSED = {
    "type": "spend.paused",
    "threshold_permille": None,
    "refused_nano_usd": 900_000_000,
    "resumes_at_ms": START_MS + 3_600_000,
}
RESUMED = {"type": "spend.resumed", "threshold_permille": None}


def a_notice(number: int = 1, **changed: Any) -> Notice:
    return notice_of_stream(notice_fields(number, **changed))


async def append_notice(store: RedisConnection, number: int = 1, **changed: Any) -> None:
    words = notice_fields(number, **changed)
    flat = [part for pair in words.items() for part in pair]
    await store.command(b"XADD", partition_keys(partition_of(changed.get("org", "acme"))).events, b"*", *flat)
