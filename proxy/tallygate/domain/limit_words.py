"""Limits and what is left of them, in a sentence each, as the usage API and callers get them."""

from enum import StrEnum
from typing import Final

from tallygate.domain.admission import RateState, WindowState
from tallygate.domain.instants import instant_text, span_words, wait_words
from tallygate.domain.money import usd_text
from tallygate.domain.rate_limit import LimitScope, RateLimit, Taken
from tallygate.domain.spend_limit import SpendLimit, WindowKind

_SHADOW_SENTENCE: Final = " It is in shadow mode: it counts, and refuses nothing."


class LimitMode(StrEnum):
    ENFORCED = "enforced"
    SHADOW = "shadow"


def mode_of(limit: RateLimit | SpendLimit) -> LimitMode:
    return LimitMode.SHADOW if limit.shadow else LimitMode.ENFORCED


def rate_sentence(limit: RateLimit, state: RateState, per: LimitScope) -> str:
    """A rate limit now: "60 requests per minute of the organization: 12 left; all 60 again in 48 seconds."."""
    what = limit.quantity.removeprefix("open_") + ("" if limit.capability is None else f" for {limit.capability}")
    if limit.quantity.taken is Taken.WHILE_OPEN:
        left = f"{state.remaining:,} more may be" if state.remaining else "none more may be, until one of them ends"
        sentence = (
            f"At most {limit.capacity:,} {what} of the {per.value} open at once: {limit.capacity - state.remaining:,} open, {left}."
        )
    else:
        burst = f", {limit.capacity:,} at once" if limit.capacity != limit.refill_units else ""
        sentence = (
            f"{limit.refill_units:,} {what} per {span_words(limit.window_ms)} of the {per.value}{burst}: {_left(limit, state)}."
        )
    return sentence + (_SHADOW_SENTENCE if limit.shadow else "")


def _left(limit: RateLimit, state: RateState) -> str:
    if state.remaining >= limit.capacity or state.reset_ms <= 0:
        return f"all {limit.capacity:,} are left" if state.remaining >= limit.capacity else f"{state.remaining:,} left"
    if state.waits_for_others:
        return "none left; open requests hold some, and give back what they do not use"
    if not state.remaining:
        return f"none left; the next is free in {wait_words(state.retry_after_ms)}"
    return f"{state.remaining:,} left; all {limit.capacity:,} again in {wait_words(state.reset_ms)}"


def spend_sentence(limit: SpendLimit, state: WindowState, per: LimitScope, *, zone: str) -> str:
    """A spend limit now: "$100.00 in any 7 days of the organization: $62.50 is spent; $37.50 is left."."""
    window = f"in any {span_words(limit.window_ms)}" if limit.kind is WindowKind.ROLLING else "per month"
    spent, held = usd_text(state.spent_nano_usd), usd_text(state.held_nano_usd)
    held_too = f" and ${held} held by open requests" if state.held_nano_usd else ""
    left = limit.limit_nano_usd - state.spent_nano_usd - state.held_nano_usd
    sentence = f"${usd_text(limit.limit_nano_usd)} {window} of the {per.value}: ${spent} is spent{held_too}; "
    if not limit.limit_nano_usd:
        sentence += "nothing that costs anything is served."
    elif state.paused_until_ms:
        resumes = instant_text(state.paused_until_ms, zone)
        sentence += f"{'it would pause' if limit.shadow else 'access is paused'} until {resumes}."
    else:
        sentence += f"${usd_text(left)} is left." if left > 0 else "none is left."
    return sentence + (_SHADOW_SENTENCE if limit.shadow else "")
