"""What a usage event keeps of a usage: token counts that people see, and beside them what these do not show."""

from typing import Final

import msgspec

from tallygate.domain.unit import TOKEN_UNITS, Unit
from tallygate.domain.usage import STANDARD, Conditions, Pass, Usage, usage_of_totals

# Units that the token counts of an event show.
_SHOWN: Final = frozenset(
    {
        Unit.INPUT,
        Unit.CACHED_INPUT,
        Unit.CACHE_WRITE_5M,
        Unit.CACHE_WRITE_1H,
        Unit.INPUT_AUDIO,
        Unit.OUTPUT,
        Unit.REASONING_OUTPUT,
        Unit.OUTPUT_AUDIO,
    }
)
# Others that are counted among these.
_AMONG: Final = {
    Unit.INPUT_IMAGE: Unit.INPUT,
    Unit.INPUT_VIDEO: Unit.INPUT,
    Unit.CACHED_INPUT_IMAGE: Unit.CACHED_INPUT,
    Unit.OUTPUT_IMAGE: Unit.OUTPUT,
    Unit.OUTPUT_VIDEO: Unit.OUTPUT,
}


class StatedCost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the provider itself said that an answer costs, rounded up. is_charged: it was charged so, in place of the price."""

    nano_usd: int
    is_charged: bool = False


class Billed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was billed that an event's token counts do not show.

    quantities   by unit: pictures, cached audio and cache writes of 12 hours, which the token counts contain; and what is no token
    conditions   under which it was charged
    passes       as in `Usage`
    stated_cost  None: nothing was stated
    """

    quantities: dict[str, int] = {}
    conditions: Conditions = STANDARD
    passes: tuple[Pass, ...] = ()
    stated_cost: StatedCost | None = None


class TokenColumns(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of a usage event, whose fields have these names."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_prompt_tokens: int = 0
    reasoning_tokens: int = 0
    audio_completion_tokens: int = 0


TOKEN_COLUMNS: Final = TokenColumns.__struct_fields__
_encode: Final = msgspec.json.Encoder(order="sorted").encode
_DECODER: Final = msgspec.json.Decoder(Billed)


def columns_of(usage: Usage) -> dict[str, int]:
    """The token counts of an event."""
    columns = _NO_TOKENS.copy()
    columns["prompt_tokens"], columns["completion_tokens"] = usage.prompt, usage.completion
    for unit, number in usage.quantities.items():
        if unit in _PARTS:
            for column in _PARTS[unit]:
                columns[column] += number
    return columns


def billed_of(usage: Usage, conditions: Conditions = STANDARD, stated_cost: StatedCost | None = None) -> str | None:
    """`Billed` as JSON; None where the token counts show everything."""
    if stated_cost is None and conditions == STANDARD and not usage.passes and usage.quantities.keys() <= _SHOWN:
        return None
    more = {unit: number for unit, number in usage.quantities.items() if unit not in _SHOWN}
    billed = Billed(quantities=more, conditions=conditions, passes=usage.passes, stated_cost=stated_cost)
    return _encode(billed).decode()


def image_tokens(billed: str | None) -> tuple[int, int]:
    """The tokens of pictures in the prompt, cached ones included, and in the completion. 0 for text that is no `Billed`."""
    if billed is None:
        return 0, 0
    try:
        of = _DECODER.decode(billed).quantities.get
    except (msgspec.DecodeError, RecursionError):
        return 0, 0
    return of(Unit.INPUT_IMAGE, 0) + of(Unit.CACHED_INPUT_IMAGE, 0), of(Unit.OUTPUT_IMAGE, 0)


def stated_cost_of(billed: str | None) -> StatedCost | None:
    """What the provider itself said; None if it said nothing."""
    return None if billed is None else _DECODER.decode(billed).stated_cost


def is_charged_as_stated(billed: str | None) -> bool:
    """Whether an event was charged what the provider stated, so that no price changes its cost."""
    stated = stated_cost_of(billed)
    return stated is not None and stated.is_charged


def usage_of_event(columns: TokenColumns, billed: str | None) -> tuple[Usage, Conditions]:
    """The usage and the conditions that an event was charged by.

    Where the counts were corrected since, passes are no longer their parts and are left out. Raises ValueError for counts that
    contradict each other.
    """
    more = Billed() if billed is None else _DECODER.decode(billed)
    quantities = more.quantities
    of = quantities.get
    long_writes = min(of(Unit.CACHE_WRITE_12H, 0), columns.cache_write_tokens - columns.cache_write_1h_tokens)
    usage = usage_of_totals(
        prompt=columns.prompt_tokens,
        completion=columns.completion_tokens,
        cached=columns.cached_tokens,
        cache_write_5m=columns.cache_write_tokens - columns.cache_write_1h_tokens - long_writes,
        cache_write_1h=columns.cache_write_1h_tokens,
        cache_write_12h=long_writes,
        audio_prompt=columns.audio_prompt_tokens,
        cached_audio=min(of(Unit.CACHED_INPUT_AUDIO, 0), columns.audio_prompt_tokens, columns.cached_tokens),
        reasoning=columns.reasoning_tokens,
        audio_completion=columns.audio_completion_tokens,
    )
    found = dict(usage.quantities)
    for unit, whole in _AMONG.items():
        moved = min(of(unit, 0), found.get(whole, 0))
        if moved:
            found[unit] = moved
            found[whole] -= moved
            if not found[whole]:
                del found[whole]
    found |= {unit: number for unit, number in quantities.items() if unit not in TOKEN_UNITS}
    return Usage(found, more.passes if _are_parts(more.passes, found) else ()), more.conditions


def _are_parts(passes: tuple[Pass, ...], quantities: dict[str, int]) -> bool:
    sums: dict[str, int] = {}
    for each in passes:
        for unit, number in each.quantities.items():
            sums[unit] = sums.get(unit, 0) + number
    return sums == {unit: number for unit, number in quantities.items() if unit in TOKEN_UNITS}


def _columns_of_parts() -> dict[str, tuple[str, ...]]:
    """The columns that show a unit among the prompt or the completion."""
    found: dict[str, tuple[str, ...]] = {}
    parts = {
        "cached_tokens": (Unit.CACHED_INPUT, Unit.CACHED_INPUT_AUDIO, Unit.CACHED_INPUT_IMAGE),
        "cache_write_tokens": (Unit.CACHE_WRITE_5M, Unit.CACHE_WRITE_1H, Unit.CACHE_WRITE_12H),
        "cache_write_1h_tokens": (Unit.CACHE_WRITE_1H,),
        "audio_prompt_tokens": (Unit.INPUT_AUDIO, Unit.CACHED_INPUT_AUDIO),
        "reasoning_tokens": (Unit.REASONING_OUTPUT,),
        "audio_completion_tokens": (Unit.OUTPUT_AUDIO,),
    }
    for column, units in parts.items():
        for unit in units:
            found[unit] = (*found.get(unit, ()), column)
    return found


_PARTS: Final = _columns_of_parts()
_NO_TOKENS: Final = dict.fromkeys(TOKEN_COLUMNS, 0)
