"""What one exchange used: quantities by unit, in one normal form for every provider, and where the figures come from."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import force_setattr

from tallygate.domain.unit import CACHE_READS, CACHE_WRITES, COMPLETION_UNITS, PROMPT_UNITS, TOKEN_UNITS, Unit

TOKENS_MAX: Final = 10**9  # above any context window; a larger count in a provider's answer is absurd and clamped
_AUDIO_INPUT: Final = frozenset({Unit.INPUT_AUDIO, Unit.CACHED_INPUT_AUDIO})


class UsageSource(StrEnum):
    """Where the counts of a usage event come from, best first."""

    UPSTREAM = "upstream"  # the provider's own usage object
    COUNTED = "counted"  # our tokenizer over the text that was relayed
    ESTIMATED = "estimated"  # from the request alone
    ASSUMED = "assumed"  # what was counted and the most that nobody saw: an exact count could not be had
    CHECKPOINT = "checkpoint"  # the last word of a worker that died
    NONE = "none"  # an endpoint whose tokens are not metered


class Conditions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a provider's rates depend on besides the model and the prompt's size. "" is what a request gets that asks for nothing.

    service_tier   "flex", "priority", "batch" …
    speed          "fast"
    geography      where a request that may not leave is served: "us"
    """

    service_tier: str = ""
    speed: str = ""
    geography: str = ""


STANDARD: Final = Conditions()


class Pass(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a usage with a prompt of its own, by whose size it is charged.

    model   None: the one that answered
    """

    model: str | None = None
    quantities: dict[str, int]


class Usage(msgspec.Struct, frozen=True):
    """Quantities by unit: every token is in one of them, and none is zero.

    passes       where a provider bills parts of the usage each by itself: together they are its tokens; else there are none
    prompt       all input tokens, cached and cache-written ones included; completion: all output tokens, reasoning included
    has_calls    there is something that is no token

    The last three are found, unless who makes it has them at hand.
    """

    quantities: Mapping[str, int] = {}
    passes: tuple[Pass, ...] = ()
    prompt: int = -1
    completion: int = -1
    has_calls: bool = False

    def __post_init__(self) -> None:
        if self.prompt >= 0:
            return
        prompt = completion = 0
        has_calls = False
        for unit, number in self.quantities.items():
            if unit in PROMPT_UNITS:
                prompt += number
            elif unit in COMPLETION_UNITS:
                completion += number
            else:
                has_calls = True
        force_setattr(self, "prompt", prompt)
        force_setattr(self, "completion", completion)
        force_setattr(self, "has_calls", has_calls)

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    @property
    def cached(self) -> int:
        """Tokens read from a prompt cache."""
        return self._sum(CACHE_READS)

    @property
    def cache_write(self) -> int:
        return self._sum(CACHE_WRITES)

    @property
    def audio_prompt(self) -> int:
        """Audio tokens in, cached ones included."""
        return self._sum(_AUDIO_INPUT)

    def parts(self) -> list[tuple[str | None, Mapping[str, int]]]:
        """What is charged each by its own size, with the model if it is another than the one that answered."""
        if not self.passes:
            return [(None, self.quantities)]
        calls = {unit: number for unit, number in self.quantities.items() if unit not in TOKEN_UNITS}
        return [*[(each.model, each.quantities) for each in self.passes], (None, calls)]

    def of(self, unit: Unit) -> int:
        """The quantity of exactly this unit."""
        return self.quantities.get(unit, 0)

    def _sum(self, units: frozenset[Unit]) -> int:
        return sum([number for unit, number in self.quantities.items() if unit in units])

    def plus(self, unit: Unit, number: int) -> "Usage":
        """This usage and more of one unit. Where there are passes, tokens are added to the longest of the answering model."""
        if number <= 0:
            return self
        quantities = {**self.quantities, unit: self.of(unit) + number}
        if not self.passes or unit not in TOKEN_UNITS:
            return Usage(quantities, self.passes)
        own = [each for each in self.passes if each.model is None]
        longest = max(own, key=lambda each: Usage(each.quantities).prompt, default=Pass(quantities={}))
        more = Pass(quantities={**longest.quantities, unit: longest.quantities.get(unit, 0) + number})
        return Usage(quantities, (*[each for each in self.passes if each is not longest], more))

    def with_calls(self, calls: Mapping[str, int]) -> "Usage":
        """This usage and at least so many of each of these units, which are no tokens."""
        more = {unit: max(number, self.quantities.get(unit, 0)) for unit, number in calls.items() if number}
        return Usage({**self.quantities, **more}, self.passes) if more else self

    def with_passes(self, passes: Iterable[Pass]) -> "Usage":
        """This usage and further passes."""
        own = self.passes or (Pass(quantities={unit: number for unit, number in self.quantities.items() if unit in TOKEN_UNITS}),)
        whole = summed((*own, *passes))
        return Usage({**self.quantities, **whole.quantities}, whole.passes)

    def with_moved(self, source: Unit, to: Unit, number: int) -> "Usage":
        """This usage, with up to `number` tokens of one unit in another one."""
        moved = min(number, self.of(source))
        if moved <= 0 or source is to:
            return self
        quantities = {**self.quantities, source: self.of(source) - moved, to: self.of(to) + moved}
        return Usage({unit: count for unit, count in quantities.items() if count}, self.passes)

    def with_output_as_input(self, number: int) -> "Usage":
        """This usage with so much of its output counted as input."""
        quantities = dict(self.quantities)
        left = number
        for unit in Unit:
            if unit in COMPLETION_UNITS and unit in quantities:
                moved = min(left, quantities[unit])
                quantities[unit] -= moved
                left -= moved
        quantities[Unit.INPUT] = self.of(Unit.INPUT) + number - left
        return Usage({unit: count for unit, count in quantities.items() if count}, self.passes)

    def with_prompt_as(self, unit: Unit) -> "Usage":
        """This usage, its whole prompt in one unit."""
        return self._moved(PROMPT_UNITS, unit)

    def with_cache_writes_as(self, unit: Unit) -> "Usage":
        return self._moved(CACHE_WRITES, unit)

    def _moved(self, units: frozenset[Unit], unit: Unit) -> "Usage":
        passes = tuple([Pass(model=each.model, quantities=_moved(each.quantities, units, unit)) for each in self.passes])
        return Usage(_moved(self.quantities, units, unit), passes)


def _moved(quantities: Mapping[str, int], units: frozenset[Unit], unit: Unit) -> dict[str, int]:
    """`quantities`, those of `units` in one unit."""
    number = sum([count for each, count in quantities.items() if each in units])
    others = {each: count for each, count in quantities.items() if each not in units}
    return {unit: number, **others} if number else others


NO_USAGE: Final = Usage()


def usage_of_totals(
    *,
    prompt: int = 0,
    completion: int = 0,
    cached: int = 0,
    cache_write_5m: int = 0,
    cache_write_1h: int = 0,
    cache_write_12h: int = 0,
    audio_prompt: int = 0,
    cached_audio: int = 0,
    reasoning: int = 0,
    audio_completion: int = 0,
) -> Usage:
    """The usage of totals that include their parts, as providers state them. Raises ValueError for counts that cannot be.

    cached, cache_write_*, audio_prompt   parts of prompt; cached_audio: of both cached and audio_prompt
    reasoning, audio_completion           parts of completion

    Where audio and what was read from the cache are more than the prompt together, they overlap: such audio was cached.
    """
    if min(prompt, completion, cached, cache_write_5m, cache_write_1h, cache_write_12h, audio_prompt, reasoning) < 0:
        raise ValueError("token counts cannot be negative")
    if min(cached_audio, audio_completion) < 0:
        raise ValueError("token counts cannot be negative")
    uncached = prompt - cached - cache_write_5m - cache_write_1h - cache_write_12h
    if uncached < 0 or audio_prompt > prompt or cached_audio > min(cached, audio_prompt):
        raise ValueError(f"parts exceed the prompt of {prompt}")
    if reasoning > completion or audio_completion > completion:
        raise ValueError(f"parts exceed the completion of {completion}")
    quantities: dict[str, int] = {}
    if audio_prompt:
        plain_audio = min(audio_prompt - cached_audio, uncached)
        cached_audio = min(audio_prompt - plain_audio, cached)
        uncached -= plain_audio
        cached -= cached_audio
        if plain_audio:
            quantities[Unit.INPUT_AUDIO] = plain_audio
        if cached_audio:
            quantities[Unit.CACHED_INPUT_AUDIO] = cached_audio
    if uncached:
        quantities[Unit.INPUT] = uncached
    if cached:
        quantities[Unit.CACHED_INPUT] = cached
    if cache_write_5m:
        quantities[Unit.CACHE_WRITE_5M] = cache_write_5m
    if cache_write_1h:
        quantities[Unit.CACHE_WRITE_1H] = cache_write_1h
    if cache_write_12h:
        quantities[Unit.CACHE_WRITE_12H] = cache_write_12h
    if audio_completion:
        quantities[Unit.OUTPUT_AUDIO] = audio_completion
        reasoning = min(reasoning, completion - audio_completion)
        completion -= audio_completion
    if reasoning:
        quantities[Unit.REASONING_OUTPUT] = reasoning
    if completion > reasoning:
        quantities[Unit.OUTPUT] = completion - reasoning
    return Usage(quantities)


def summed(passes: tuple[Pass, ...]) -> Usage:
    """The usage that these passes are."""
    quantities: dict[str, int] = {}
    for each in passes:
        for unit, number in each.quantities.items():
            quantities[unit] = quantities.get(unit, 0) + number
    return Usage(quantities, passes)
