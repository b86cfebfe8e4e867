"""Values of the ledger's tests: events as the limiter appends them, and what a ledger adds up to."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import func, or_, select, true

from tallygate.domain.usage import UsageSource
from tallygate.domain.usage_event import Outcome, UsageEvent
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry, entry_of_stream
from tallygate.ledger.history import OrgScope
from tallygate.ledger.rollups import LEVELS, RECENT
from tallygate.ledger.schema import AMOUNTS, ENTRIES, ROLLUPS, SPEND_BUCKETS

START_MS = 1_788_000_000_000  # 2026-08-29T10:40:00Z
ACME = OrgScope(org="acme")


def an_event_id(number: int, at_ms: int = START_MS) -> str:
    return f"{at_ms:012x}{number:020x}"


def a_fact(number: int = 1, **changed: Any) -> UsageEvent:
    """A chat answer of the upstream's own count."""
    fields: dict[str, Any] = {
        "event_id": an_event_id(number, changed.get("started_at_ms", START_MS)),
        "org": "acme",
        "credential": "acme-prod",
        "capability": "chat",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "request_model": "gpt-4o",
        "response_model": "gpt-4o-2024-08-06",
        "upstream": "default",
        "status": 200,
        "outcome": Outcome.SUCCESS,
        "stream": False,
        "started_at_ms": START_MS,
        "duration_ms": 812,
        "first_byte_ms": 210,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 40,
        "cache_write_tokens": 0,
        "reasoning_tokens": 5,
        "usage_source": UsageSource.UPSTREAM,
        "price_version": "gpt-4o@2024-08-06",
        "cost_nano_usd": 500_000,
        "request_bytes": 321,
        "response_bytes": 654,
        "client_request_id": None,
        "flags": (),
    }
    return UsageEvent(**{**fields, **changed})


def stream_fields(
    fact: UsageEvent,
    *,
    kind: str = "settled",
    settled_at_ms: int = START_MS,
    posted: int | None = None,
    flags: str = "",
    expired_at_ms: int | None = None,
) -> dict[bytes, bytes]:
    """The fields under which the limiter's script appends it."""
    words: Mapping[str, Any] = {
        "event_id": fact.event_id,
        "kind": kind,
        "event": msgspec.json.encode(fact).decode(),
        "settled_at_ms": settled_at_ms,
        "cost_nano_usd": fact.cost_nano_usd,
        "posted_nano_usd": fact.cost_nano_usd if posted is None else posted,
        "prompt_tokens": fact.prompt_tokens,
        "completion_tokens": fact.completion_tokens,
        "flags": flags,
        **({} if expired_at_ms is None else {"expired_at_ms": expired_at_ms}),
    }
    return {name.encode(): str(word).encode() for name, word in words.items()}


def an_entry(
    number: int = 1,
    *,
    kind: str = "settled",
    settled_at_ms: int = START_MS,
    posted: int | None = None,
    expired_at_ms: int | None = None,
    **changed: Any,
) -> Entry:
    fact = a_fact(number, **changed)
    words = stream_fields(fact, kind=kind, settled_at_ms=settled_at_ms, posted=posted, expired_at_ms=expired_at_ms)
    return entry_of_stream(words[b"event"], words)


async def sums(database: Database) -> dict[str, tuple[int, ...]]:
    """What entries and each level of rollups add up to, in the order of AMOUNTS, and what was posted."""
    found: dict[str, tuple[int, ...]] = {}
    async with database.read() as connection:
        for name, table, rows in (
            ("entries", ENTRIES, true()),
            *((level.name, ROLLUPS, or_(level.rows(), RECENT.rows())) for level in LEVELS),
        ):
            columns = [func.coalesce(func.sum(table.c[amount]), 0) for amount in AMOUNTS]
            found[name] = tuple(map(int, (await connection.execute(select(*columns).where(rows))).one()))
        for table in (ENTRIES, SPEND_BUCKETS):
            total = select(func.coalesce(func.sum(table.c.posted_nano_usd), 0))
            found[f"{table.name}.posted"] = (int((await connection.execute(total)).scalar_one()),)
    return found


async def assert_no_drift_of_rollups(database: Database) -> tuple[int, ...]:
    """Every rollup adds up to the entries; returns these sums."""
    found = await sums(database)
    assert {level.name: found[level.name] for level in LEVELS} == {level.name: found["entries"] for level in LEVELS}
    return found["entries"]


async def assert_no_drift(database: Database) -> tuple[int, ...]:
    """Every sum that is kept equals the entries it was made from; returns these sums."""
    found = await sums(database)
    assert found["spend_buckets.posted"] == found["entries.posted"]
    return await assert_no_drift_of_rollups(database)
