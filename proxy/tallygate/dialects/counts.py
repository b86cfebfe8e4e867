"""Conversion of providers' token counts into TokenCounts. Nothing here raises: an odd count is clamped and flagged."""

import math
from typing import Final

from tallygate.domain.token_counts import TOKENS_MAX, TokenCounts

CLAMPED: Final = "usage_clamped"  # a count was negative, fractional, of a wrong type, absurd, or above the total it is part of
INCONSISTENT: Final = "usage_inconsistent"  # the provider's total differs from prompt + completion

_NUMERAL_CHARS_MAX: Final = 32


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
    audio_prompt: object = None,
    reasoning: object = None,
    audio_completion: object = None,
) -> TokenCounts:
    """Counts in the normal form: totals that include their parts. Absent counts are 0.

    prompt and completion are the provider's totals, with the parts inside. If `total` exceeds their sum, the difference was
    billed too: audio that prompt cannot contain is input, the rest is output (reasoning counted outside, as xAI does). An absurd
    total is ignored. A part above its total is cut to it: 161 cached of 10 are 10.
    """
    tokens_in = lenient_count(prompt, flags) or 0
    tokens_out = lenient_count(completion, flags) or 0
    audio_in = lenient_count(audio_prompt, flags) or 0
    tokens_all = lenient_count(total, flags)
    if tokens_all is not None and tokens_all != tokens_in + tokens_out:
        flags.add(INCONSISTENT)
        outside = tokens_all - tokens_in - tokens_out
        if outside > 0 and tokens_all < TOKENS_MAX:
            audio_outside = audio_in if tokens_in < audio_in <= outside else 0
            tokens_in += audio_outside
            tokens_out += outside - audio_outside
    read = _part(cached, tokens_in, flags)
    written_5m = _part(cache_write_5m, tokens_in - read, flags)
    written_1h = _part(cache_write_1h, tokens_in - read - written_5m, flags)
    return TokenCounts(
        prompt=tokens_in,
        completion=tokens_out,
        cached=read,
        cache_write_5m=written_5m,
        cache_write_1h=written_1h,
        audio_prompt=_part(audio_in, tokens_in, flags),
        reasoning=_part(reasoning, tokens_out, flags),
        audio_completion=_part(audio_completion, tokens_out, flags),
    )


def _part(value: object, whole: int, flags: set[str]) -> int:
    part = lenient_count(value, flags) or 0
    if part > whole:
        flags.add(CLAMPED)
        return whole
    return part
