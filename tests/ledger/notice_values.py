"""Notices as the limiter appends them."""

import json
from datetime import date
from typing import Any

from ledger_values import START_MS

from tallygate.ledger.notices.digest import Digest, DigestNotice, LimitAtEnd, Share, Sums, digest_notice, week_from
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


def a_digest(at_ms: int = 1_788_130_800_000, **changed: Any) -> DigestNotice:
    """Of the week with START_MS, an hour after its end unless told otherwise."""
    week = week_from(date(2026, 8, 24), "Europe/Berlin")
    told: dict[str, Any] = {
        "first_day": week.first_day,
        "last_day": week.last_day,
        "from_ms": week.from_ms,
        "to_ms": week.to_ms,
        "time_zone": week.time_zone,
        "history_from_ms": None,
        "week": Sums(requests=1_284, refused=12, prompt_tokens=2_400_000, completion_tokens=310_000, spent_nano_usd=42_500_000_000),
        "before": Sums(
            requests=1_007, refused=0, prompt_tokens=1_900_000, completion_tokens=255_000, spent_nano_usd=35_201_000_001
        ),
        "limits": (
            LimitAtEnd(limit_key="org:spend_7d", spent_nano_usd=42_500_000_000, limit_nano_usd=50_000_000_000, shadow=False),
        ),
        "models": (
            Share(name="gpt-4o", requests=1_200, spent_nano_usd=40_000_000_000),
            Share(name="gpt-4o-mini", requests=84, spent_nano_usd=2_500_000_000),
        ),
        "credentials": (Share(name="acme-prod", requests=1_284, spent_nano_usd=42_500_000_000),),
        "pauses": 1,
        "url": "https://usage.example.com/?org=acme&view=cost&range=custom&from=2026-08-24&until=2026-08-30",
        **changed,
    }
    return digest_notice("acme", Digest(**told), now_ms=at_ms)


async def append_notice(store: RedisConnection, number: int = 1, **changed: Any) -> None:
    words = notice_fields(number, **changed)
    flat = [part for pair in words.items() for part in pair]
    await store.command(b"XADD", partition_keys(partition_of(changed.get("org", "acme"))).events, b"*", *flat)
