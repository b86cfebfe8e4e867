"""Checks that hold for every response meter, for the tests of each dialect."""

import random
from dataclasses import dataclass
from itertools import pairwise

from tallygate.dialects.dialect import Dialect, RequestFacts, ResponseMeter
from tallygate.domain.usage import Pass, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What came of a body: the bytes for the client, and the reading at its end."""

    relayed: bytes
    usage: Usage | None
    response_model: str | None
    ended: bool
    failed: bool
    text: str
    flags: frozenset[str]
    billed_calls: dict[str, int]
    conditions: dict[str, str]
    is_unbilled: bool
    passes: tuple[Pass, ...]
    stated_cost_nano_usd: int | None


def run(meter: ResponseMeter, pieces: list[bytes]) -> Metered:
    relayed = b"".join([meter.feed(piece) for piece in pieces]) + meter.end_body()
    reading = meter.reading
    return Metered(
        relayed=relayed,
        usage=reading.usage,
        response_model=reading.response_model,
        ended=reading.ended,
        failed=reading.failed,
        text=reading.drain_text(),
        flags=frozenset(reading.flags),
        billed_calls=dict(reading.billed_calls),
        conditions=dict(reading.conditions),
        is_unbilled=reading.is_unbilled,
        passes=reading.passes,
        stated_cost_nano_usd=reading.stated_cost_nano_usd,
    )


def metered(
    dialect: Dialect, facts: RequestFacts, body: bytes, *, content_type: str = "text/event-stream", hide: bool = False
) -> Metered:
    """The whole body in one piece."""
    return run(dialect.meter(facts, content_type=content_type, hide_usage_chunk=hide), [body])


def assert_split_invariant(
    dialect: Dialect,
    facts: RequestFacts,
    body: bytes,
    *,
    content_type: str = "text/event-stream",
    hide: bool = False,
    cuts: list[int] | None = None,
) -> Metered:
    """Any split gives the same bytes and the same reading; without hiding, the very bytes that came in. Returns the reading.

    Splits: after each byte, at every single place of a short body, and at `cuts` (else at places drawn from a fixed seed).
    """
    whole = metered(dialect, facts, body, content_type=content_type, hide=hide)
    if cuts is None:
        draw = random.Random(len(body))
        cuts = sorted(draw.randrange(len(body) + 1) for _ in range(5))
    splits = [[body[at : at + 1] for at in range(len(body))], pieces_at(body, cuts)]
    if len(body) <= 2000:
        splits += [[body[:at], body[at:]] for at in range(len(body) + 1)]
    for pieces in splits:
        meter = dialect.meter(facts, content_type=content_type, hide_usage_chunk=hide)
        assert run(meter, pieces) == whole, f"split as {[len(piece) for piece in pieces]}"
    if not hide:
        assert whole.relayed == body
    return whole


def pieces_at(body: bytes, cuts: list[int]) -> list[bytes]:
    """`body` cut at the places given."""
    places = sorted({0, len(body), *(min(max(cut, 0), len(body)) for cut in cuts)})
    return [body[start:end] for start, end in pairwise(places)]
