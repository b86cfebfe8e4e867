"""A month of history for the demo: requests of the past, priced and entered as the ledger enters those of a gateway.

Its clock runs through the past; each event has the id, the price and the settlement that a gateway would have given it then. The
last one is an hour old, so that what the demo itself sends can be told apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.app.clocks import event_id_source
from tallygate.config.catalogue import PriceCatalogue
from tallygate.demo.callers import Caller
from tallygate.domain.billed import columns_of
from tallygate.domain.charge import charge_of
from tallygate.domain.errors import ErrorCode
from tallygate.domain.usage import STANDARD, UsageSource, usage_of_totals
from tallygate.domain.usage_event import Outcome, UsageEvent
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.entry import Entry, entry_of_stream
from tallygate.ledger.opening import open_database
from tallygate.ledger.time_buckets import QUARTER_MS

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_BUSY_HOURS: Final = (1, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 12, 10, 13, 14, 13, 11, 8, 6, 5, 4, 3, 2, 1)  # of a day, by weight
_WEEKEND_SHARE: Final = 0.4
_WINDOW_HOURS: Final = 168
_GAP_HOURS: Final = 2  # of an organization at its limit: what leaves the window during the demo would let it go on
_LEFT_NANO_USD: Final = 10_000_000  # of such a limit, for the demo's own requests
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class PastRequest:
    """A kind of request. weight: its share. prompt, completion: the most tokens."""

    capability: str
    endpoint: str
    model: str
    weight: int
    prompt: int
    completion: int


OPENAI_PAST: Final = (
    PastRequest("chat", "/v1/chat/completions", "gpt-4o-mini", 40, 6_000, 900),
    PastRequest("chat", "/v1/chat/completions", "gpt-4o", 22, 5_000, 900),
    PastRequest("chat", "/v1/messages", "claude-sonnet-4-5", 10, 4_000, 700),
    PastRequest("chat", "/v1/responses", "gpt-5-mini", 12, 6_000, 1_500),
    PastRequest("embeddings", "/v1/embeddings", "text-embedding-3-small", 16, 8_000, 0),
)
GLOO_PAST: Final = (
    PastRequest("chat", "/ai/v2/guarded/chat/completions", "gloo-openai-gpt-5.2", 30, 5_000, 900),
    PastRequest("chat", "/ai/v2/chat/completions", "gloo-anthropic-claude-sonnet-4.5", 25, 5_000, 900),
    PastRequest("chat", "/ai/v2/chat/completions", "gloo-deepseek-v3.2", 30, 6_000, 900),
    PastRequest("embeddings", "/ai/v2/direct/embeddings", "gloo-baai-bge-base-en-v1.5", 15, 8_000, 0),
)


async def fill_history(
    data_dir: Path,
    callers: Sequence[Caller],
    past: Sequence[PastRequest],
    prices: PriceCatalogue,
    *,
    days: int,
    now_ms: int,
    random: Random,
) -> int:
    """Enter `days` days of history into the ledger of a data directory that nobody serves yet; return how many events."""
    clock = _Clock()
    maker = _Maker(past, prices, random, clock)
    entries = sorted(
        (entry for caller in callers for entry in maker.history(caller, days=days, now_ms=now_ms)), key=lambda each: each.event_id
    )
    database = open_database("", data_dir)
    try:
        await database.migrate()
        book = Book(database)
        for start in range(0, len(entries), _AT_ONCE):
            await book.record(entries[start : start + _AT_ONCE])
        refused: dict[str, int] = {}
        for day in range(days, 0, -1):
            for caller in callers:
                refused[caller.org] = refused.get(caller.org, 0) + random.randint(0, 3)
            at_ms = (now_ms - day * DAY_MS) // QUARTER_MS * QUARTER_MS
            await book.add_refusals("demo", list(_refusals(callers, refused)), at_ms=at_ms)
    finally:
        await database.close()
    return len(entries)


class _Clock:
    """The clock of the past."""

    def __init__(self) -> None:
        self.at_ms = 0

    def now_ms(self) -> int:
        return self.at_ms


class _Maker:
    """Makes the past requests of callers."""

    def __init__(self, past: Sequence[PastRequest], prices: PriceCatalogue, random: Random, clock: _Clock) -> None:
        self._past = past
        self._prices = prices
        self._random = random
        self._clock = clock
        self._new_id = event_id_source(clock.now_ms, random)

    def history(self, caller: Caller, *, days: int, now_ms: int) -> Iterator[Entry]:
        """The entries of a caller; those of the last week leave a little of its spend limit."""
        times = list(self._times(caller, days=days, now_ms=now_ms))
        if caller.spend_limit_nano_usd is None:
            yield from (self._entry(caller, at_ms) for at_ms in times)
            return
        self._random.shuffle(times)
        left = caller.spend_limit_nano_usd - _LEFT_NANO_USD
        for at_ms in times:
            hours_ago = (now_ms - at_ms) / HOUR_MS
            if _WINDOW_HOURS - _GAP_HOURS <= hours_ago <= _WINDOW_HOURS + _GAP_HOURS:
                continue
            entry = self._entry(caller, at_ms)
            if hours_ago > _WINDOW_HOURS:
                yield entry
            elif entry.cost_nano_usd <= left:
                left -= entry.cost_nano_usd
                yield entry

    def _times(self, caller: Caller, *, days: int, now_ms: int) -> Iterator[int]:
        for day in range(days):
            start_ms = (now_ms // DAY_MS - day) * DAY_MS
            is_weekend = (start_ms // DAY_MS + 3) % 7 >= 5  # the first of January 1970 was a Thursday
            count = caller.past_a_day * self._random.uniform(0.7, 1.3) * (_WEEKEND_SHARE if is_weekend else 1)
            for hour in self._random.choices(range(24), weights=_BUSY_HOURS, k=round(count)):
                at_ms = start_ms + hour * HOUR_MS + self._random.randrange(HOUR_MS)
                if at_ms < now_ms - HOUR_MS:
                    yield at_ms

    def _entry(self, caller: Caller, at_ms: int) -> Entry:
        random = self._random
        kind = random.choices(self._past, weights=[each.weight for each in self._past])[0]
        prompt = random.randint(kind.prompt // 20, kind.prompt) // caller.past_divisor
        completion = random.randint(kind.completion // 10, kind.completion) // caller.past_divisor
        is_failed = random.random() < 0.012
        cached = 0 if is_failed or random.random() < 0.6 else prompt // 2
        used = usage_of_totals(prompt=prompt, completion=completion, cached=cached)
        price = None if is_failed else self._prices.find(kind.model, at_ms)
        charge = None if price is None else charge_of(used, STANDARD, price, lambda _model: None)
        usage = used if charge is not None else usage_of_totals()
        self._clock.at_ms = at_ms
        duration = 300 + completion * random.randint(8, 20)
        event = UsageEvent(
            event_id=self._new_id(),
            org=caller.org,
            credential=random.choices(caller.credentials, weights=range(len(caller.credentials), 0, -1))[0],
            capability=kind.capability,
            endpoint=kind.endpoint,
            method="POST",
            request_model=kind.model,
            response_model=None if is_failed else kind.model,
            upstream="default",
            status=502 if is_failed else 200,
            outcome=Outcome.UPSTREAM_ERROR if is_failed else Outcome.SUCCESS,
            stream=random.random() < 0.5,
            started_at_ms=at_ms,
            duration_ms=duration,
            first_byte_ms=min(duration, random.randint(150, 600)),
            usage_source=UsageSource.UPSTREAM,
            price_version=None if price is None else price.version,
            cost_nano_usd=0 if charge is None else charge.cost_nano_usd,
            request_bytes=prompt * 4 + 300,
            response_bytes=completion * 4 + 400,
        )
        event = replace(event, **columns_of(usage), **({} if charge is None else charge.by_kind))
        return entry_of_stream(msgspec.json.encode(event), _words(event, at_ms + duration))


def _words(event: UsageEvent, settled_at_ms: int) -> Mapping[bytes, bytes]:
    """The fields that the limiter's script adds to an event in its stream."""
    words = {
        "event_id": event.event_id,
        "kind": "settled",
        "settled_at_ms": settled_at_ms,
        "cost_nano_usd": event.cost_nano_usd,
        "posted_nano_usd": event.cost_nano_usd,
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
    }
    return {name.encode(): str(word).encode() for name, word in words.items()}


def _refusals(callers: Sequence[Caller], refused: Mapping[str, int]) -> Iterator[RefusalCount]:
    for caller in callers:
        code = ErrorCode.RATE_LIMIT_EXCEEDED if caller.past_a_day else ErrorCode.PLAN_WITHOUT_API_ACCESS
        yield RefusalCount(
            org=caller.org,
            credential=caller.credential,
            capability="chat",
            refused_by="requests_per_1m" if caller.past_a_day else code.value,
            status=code.status,
            requests=refused[caller.org],
        )
