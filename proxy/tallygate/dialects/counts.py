"""Conversion of providers' token counts into a Usage. Nothing here raises: an odd count is clamped and flagged."""

import math
from enum import Enum
from typing import Final

from tallygate.domain.usage import TOKENS_MAX, Usage, usage_of_totals

CLAMPED: Final = "usage_clamped"  # a count was negative, fractional, of a wrong type, absurd, or above the total it is part of
INCONSISTENT: Final = "usage_inconsistent"  # the provider's total differs from prompt + completion
IMPOSSIBLE: Final = "usage_impossible"  # zeros or less beside a prompt and a text that there were: counted here in their place
TOTAL_ONLY: Final = "usage_total_only"  # a total and neither of its sides: the gateway's own counts split it

_NUMERAL_CHARS_MAX: Final = 32


class CachePlace(Enum):
    """Where the names of a usage object put cached and cache-written tokens, unless its counts tell otherwise."""

    INSIDE = "inside"  # parts of the prompt: OpenAI's details, Gemini
    EITHER = "either"  # Anthropic's names beside OpenAI's prompt: services differ
    BESIDE = "beside"  # not in the prompt: Anthropic


def lenient_count(value: object, flags: set[str]) -> int | None:
    """A count in 0 … TOKENS_MAX, or None if there is none (absent, null, or not readable as a number).

    Fractions are rounded up and numerals in strings are accepted, since the provider bills what it reports; both are flagged.
    """
    if type(value) is int and 0 <= value <= TOKENS_MAX:
        return value
    if value is None:
        return None
    flags.add(CLAMPED)
    if isinstance(value, str) and len(value) <= _NUMERAL_CHARS_MAX:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN is not itself
        return None
    return math.ceil(min(max(value, 0), TOKENS_MAX))


def token_counts(
    flags: set[str],
    *,
    prompt: object = None,
    completion: object = None,
    total: object = None,
    cached: object = None,
    cache_write_5m: object = None,
    cache_write_1h: object = None,
    cache_write_12h: object = None,
    audio_prompt: object = None,
    cached_audio: object = None,
    reasoning: object = None,
    audio_completion: object = None,
    cache_place: CachePlace = CachePlace.INSIDE,
) -> Usage:
    """Counts in the normal form: totals that include their parts. Absent counts are 0.

    prompt and completion are the provider's totals, with the parts inside, but for cached and written tokens that `cache_place` or
    the counts put beside it. Where `total` exceeds their sum, the difference was billed too: first it is stated cached and written
    tokens that the prompt does not contain, then audio that it cannot contain; the rest is output (reasoning counted outside, as
    xAI does), or the prompt where there is a completion and no prompt. An absurd total says nothing.
    A part above its total is cut to it: 161 cached of 10 are 10.
    """
    stated_in = lenient_count(prompt, flags) or 0
    stated_out = lenient_count(completion, flags) or 0
    audio_in = 0 if audio_prompt is None else lenient_count(audio_prompt, flags) or 0
    audio_read = 0 if cached_audio is None else lenient_count(cached_audio, flags) or 0
    audio_out = 0 if audio_completion is None else lenient_count(audio_completion, flags) or 0
    thought = 0 if reasoning is None else lenient_count(reasoning, flags) or 0
    read = 0 if cached is None else lenient_count(cached, flags) or 0
    written_5m = 0 if cache_write_5m is None else lenient_count(cache_write_5m, flags) or 0
    written_1h = 0 if cache_write_1h is None else lenient_count(cache_write_1h, flags) or 0
    written_12h = 0 if cache_write_12h is None else lenient_count(cache_write_12h, flags) or 0
    tokens_in, tokens_out, cache = stated_in, stated_out, read + written_5m + written_1h + written_12h
    tokens_all = None if total is None else lenient_count(total, flags)
    outside = None if tokens_all is None or tokens_all >= TOKENS_MAX else tokens_all - stated_in - stated_out
    if tokens_all is not None and tokens_all != stated_in + stated_out:
        flags.add(INCONSISTENT)
    if cache and _is_beside(cache, stated_in, outside, thought, cache_place):
        added = cache if outside is None or outside <= 0 else min(cache, outside)
        tokens_in = min(tokens_in + added, TOKENS_MAX)
        outside = None if outside is None else outside - added
    if outside is not None and outside > 0:
        audio_outside = audio_in if tokens_in < audio_in <= outside else 0
        tokens_in += audio_outside
        outside -= audio_outside
        if stated_in or not stated_out:
            tokens_out += outside
        else:
            thought_outside = thought if stated_out < thought <= outside else 0
            tokens_out += thought_outside
            tokens_in += outside - thought_outside
        if not stated_in and not stated_out:
            flags.add(TOTAL_ONLY)
    if stated_out and not tokens_in and prompt is not None:
        flags.add(IMPOSSIBLE)
    if cache > tokens_in or audio_in > tokens_in or thought > tokens_out or audio_out > tokens_out:
        flags.add(CLAMPED)
        read = min(read, tokens_in)
        written_5m = min(written_5m, tokens_in - read)
        written_1h = min(written_1h, tokens_in - read - written_5m)
        written_12h = min(written_12h, tokens_in - read - written_5m - written_1h)
        audio_in, thought, audio_out = min(audio_in, tokens_in), min(thought, tokens_out), min(audio_out, tokens_out)
    return usage_of_totals(
        prompt=tokens_in,
        completion=tokens_out,
        cached=read,
        cache_write_5m=written_5m,
        cache_write_1h=written_1h,
        cache_write_12h=written_12h,
        audio_prompt=audio_in,
        cached_audio=min(audio_read, read, audio_in),
        reasoning=thought,
        audio_completion=audio_out,
    )


def cache_writes(written: object, short: object, long: object, flags: set[str], *, is_rest_long: bool = False) -> tuple[int, int]:
    """Tokens written to a cache for minutes and for longer: a total, and how it is split, either of which may be absent.

    What the split leaves out is of the kind that was written, else of the short one. is_rest_long: long, where nothing says it.
    """
    written_short = lenient_count(short, flags) or 0
    written_long = lenient_count(long, flags) or 0
    stated = lenient_count(written, flags)
    whole = written_short + written_long if stated is None else stated
    written_long = min(written_long, whole)
    written_short = min(written_short, whole - written_long)
    rest = whole - written_short - written_long
    if (written_long and not written_short) or (is_rest_long and not written_long and not written_short):
        return written_short, written_long + rest
    return written_short + rest, written_long


def _is_beside(cache: int, prompt: int, outside: int | None, thought: int, place: CachePlace) -> bool:
    """Whether cached and written tokens are not in the prompt.

    outside     what the total has beyond prompt and completion; None without a total
    Names that put them inside are believed unless the counts cannot be so: there are more of them than of the prompt, or they are
    exactly what the total has beyond it, alone or with the reasoning. An excess that a part of them would explain is something
    else (xAI's and Google's reasoning beside a prompt that was partly cached).
    """
    if outside is None or outside <= 0:
        return place is not CachePlace.INSIDE and (cache > prompt or (outside is None and place is CachePlace.BESIDE))
    if place is not CachePlace.INSIDE:
        return cache > prompt or cache <= outside
    return cache > prompt or (outside != thought and outside in (cache, cache + thought))
