"""Limits as they stand now, in the shape in which the usage API and callers get them."""

import msgspec

from tallygate.domain.admission import RateState, WindowState
from tallygate.domain.bound_limits import Bound, per_of
from tallygate.domain.instants import instant_text
from tallygate.domain.limit_words import LimitMode, mode_of, rate_sentence, spend_sentence
from tallygate.domain.money import usd_text
from tallygate.domain.rate_limit import LimitScope, RateLimit, Taken
from tallygate.domain.spend_limit import SpendLimit, WindowKind


class RateLimitNow(msgspec.Struct, frozen=True, kw_only=True):
    """One rate limit now.

    kind            requests, tokens (of models) or open_requests
    per             whose bucket it is; credential: the Client ID, null for the organization's
    capability      null: all count
    window_seconds  over which `limit` is regained, evenly; null for open requests
    limit           units of a window; burst: the most at once, null for open requests
    next_at         when the next unit is there; null while some are left, or if only open requests stand in the way
    resets_at       when all are there again; null if they are, and for open requests
    mode            shadow: it counts, and refuses nothing
    text            all of it in a sentence
    """

    name: str
    kind: str
    per: LimitScope
    credential: str | None
    capability: str | None
    window_seconds: float | None
    limit: int
    burst: int | None
    remaining: int
    next_at: str | None
    resets_at: str | None
    mode: LimitMode
    text: str


class SpendLimitNow(msgspec.Struct, frozen=True, kw_only=True):
    """One spend limit now.

    window_seconds   null for a month
    resumes_at       null unless it pauses access, or if waiting does not help
    """

    name: str
    per: LimitScope
    window_seconds: int | None
    limit_usd: str
    spent_usd: str
    held_usd: str
    left_usd: str
    is_paused: bool
    resumes_at: str | None
    mode: LimitMode
    text: str


def rate_limit_now(bound: Bound[RateLimit], state: RateState, now_ms: int, zone: str) -> RateLimitNow:
    """state: by a demand for one unit, at now_ms."""
    limit, per = bound.limit, per_of(bound.credential)
    is_open = limit.quantity.taken is Taken.WHILE_OPEN
    is_empty = state.remaining == 0 and not is_open and not state.waits_for_others
    return RateLimitNow(
        name=limit.name,
        kind=limit.quantity.value,
        per=per,
        credential=bound.credential,
        capability=limit.capability,
        window_seconds=None if is_open else limit.window_ms / 1000,
        limit=limit.capacity if is_open else limit.refill_units,
        burst=None if is_open else limit.capacity,
        remaining=state.remaining,
        next_at=instant_text(now_ms + state.retry_after_ms, zone) if is_empty else None,
        resets_at=instant_text(now_ms + state.reset_ms, zone) if state.reset_ms else None,
        mode=mode_of(limit),
        text=rate_sentence(limit, state, per),
    )


def spend_limit_now(bound: Bound[SpendLimit], state: WindowState, zone: str) -> SpendLimitNow:
    limit, per = bound.limit, per_of(bound.credential)
    is_paused = is_exceeded(limit, state) and not limit.shadow
    return SpendLimitNow(
        name=limit.name,
        per=per,
        window_seconds=limit.window_ms // 1000 if limit.kind is WindowKind.ROLLING else None,
        limit_usd=usd_text(limit.limit_nano_usd),
        spent_usd=usd_text(state.spent_nano_usd),
        held_usd=usd_text(state.held_nano_usd),
        left_usd=usd_text(left_of(limit, state)),
        is_paused=is_paused,
        resumes_at=instant_text(state.paused_until_ms, zone) if is_paused and state.paused_until_ms > 0 else None,
        mode=mode_of(limit),
        text=spend_sentence(limit, state, per, zone=zone),
    )


def left_of(limit: SpendLimit, state: WindowState) -> int:
    """What may still be spent, in nano-USD."""
    return max(0, limit.limit_nano_usd - state.spent_nano_usd - state.held_nano_usd)


def is_exceeded(limit: SpendLimit, state: WindowState) -> bool:
    """Whether it refuses now, or would if not in shadow mode. One of 0 admits nothing that costs, however long one waits."""
    return state.paused_until_ms > 0 or limit.limit_nano_usd == 0 or state.spent_nano_usd >= limit.limit_nano_usd
