"""Units that an AI API bills by. A usage is quantities by unit, a price rates by unit, a cost their product."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Unit(StrEnum):
    """A unit's name in price rows, usage events and metrics.

    Every token counts in exactly one unit: one that was read from a cache is no `input` besides.
    A unit may be narrowed by what follows colons (`image:high:1024x1024`); without a rate of its own it has that of the wider one.
    """

    INPUT = "input"
    CACHED_INPUT = "cached_input"
    CACHE_WRITE_5M = "cache_write_5m"
    CACHE_WRITE_1H = "cache_write_1h"
    CACHE_WRITE_12H = "cache_write_12h"
    INPUT_AUDIO = "input_audio"
    CACHED_INPUT_AUDIO = "cached_input_audio"
    INPUT_IMAGE = "input_image"
    CACHED_INPUT_IMAGE = "cached_input_image"
    INPUT_VIDEO = "input_video"
    OUTPUT = "output"
    REASONING_OUTPUT = "reasoning_output"
    OUTPUT_AUDIO = "output_audio"
    OUTPUT_IMAGE = "output_image"
    OUTPUT_VIDEO = "output_video"

    WEB_SEARCH = "web_search"
    FILE_SEARCH = "file_search"
    GROUNDED_PROMPT = "grounded_prompt"  # a prompt that was answered with search results, however many searches that took
    GROUNDING_QUERY = "grounding_query"
    SEARCH_SOURCE = "search_source"
    CODE_CONTAINER = "code_container"
    SERVER_TOOL = "server_tool"  # any other tool that runs at the provider
    SEARCH_UNIT = "search_unit"  # of a reranking: Cohere counts one for a query with up to 100 documents

    CHARACTER = "character"
    AUDIO_SECOND = "audio_second"
    VIDEO_SECOND = "video_second"
    IMAGE = "image"  # that is generated
    SOURCE_IMAGE = "source_image"  # that one is made from
    PAGE = "page"
    REQUEST = "request"


# The unit whose rate a token has where its own is not stated. The last ones of each chain are stated by every price.
FALLBACKS: Final[Mapping[Unit, Unit]] = {
    Unit.CACHED_INPUT: Unit.INPUT,
    Unit.CACHE_WRITE_5M: Unit.INPUT,
    Unit.CACHE_WRITE_1H: Unit.INPUT,
    Unit.CACHE_WRITE_12H: Unit.CACHE_WRITE_1H,
    Unit.INPUT_AUDIO: Unit.INPUT,
    Unit.CACHED_INPUT_AUDIO: Unit.CACHED_INPUT,
    Unit.INPUT_IMAGE: Unit.INPUT,
    Unit.CACHED_INPUT_IMAGE: Unit.CACHED_INPUT,
    Unit.INPUT_VIDEO: Unit.INPUT,
    Unit.REASONING_OUTPUT: Unit.OUTPUT,
    Unit.OUTPUT_AUDIO: Unit.OUTPUT,
    Unit.OUTPUT_IMAGE: Unit.OUTPUT,
    Unit.OUTPUT_VIDEO: Unit.OUTPUT,
}
CACHE_READS: Final = frozenset({Unit.CACHED_INPUT, Unit.CACHED_INPUT_AUDIO, Unit.CACHED_INPUT_IMAGE})
CACHE_WRITES: Final = frozenset({Unit.CACHE_WRITE_5M, Unit.CACHE_WRITE_1H, Unit.CACHE_WRITE_12H})
PROMPT_UNITS: Final = CACHE_READS | CACHE_WRITES | {Unit.INPUT, Unit.INPUT_AUDIO, Unit.INPUT_IMAGE, Unit.INPUT_VIDEO}
COMPLETION_UNITS: Final = frozenset({Unit.OUTPUT, Unit.REASONING_OUTPUT, Unit.OUTPUT_AUDIO, Unit.OUTPUT_IMAGE, Unit.OUTPUT_VIDEO})
TOKEN_UNITS: Final = PROMPT_UNITS | COMPLETION_UNITS

# Two ways to bill one thing: usages have the quantities of both, and a price with a rate for one of them needs none for the other.
_ALTERNATIVES: Final[Mapping[str, Unit]] = {
    Unit.GROUNDED_PROMPT: Unit.GROUNDING_QUERY,
    Unit.GROUNDING_QUERY: Unit.GROUNDED_PROMPT,
}

# Calls of tools that run at the provider.
TOOL_CALLS: Final = (
    Unit.WEB_SEARCH,
    Unit.FILE_SEARCH,
    Unit.GROUNDED_PROMPT,
    Unit.GROUNDING_QUERY,
    Unit.SEARCH_SOURCE,
    Unit.CODE_CONTAINER,
    Unit.SERVER_TOOL,
)
# Charged in place of tokens: a model with a rate of one of these, and none of tokens, is not free where only tokens are used.
IN_PLACE_OF_TOKENS: Final = frozenset(
    {Unit.CHARACTER, Unit.AUDIO_SECOND, Unit.VIDEO_SECOND, Unit.IMAGE, Unit.PAGE, Unit.SEARCH_UNIT}
)
# How many units a price row's figure pays for.
UNITS_PER_RATE: Final[Mapping[Unit, int]] = {
    **dict.fromkeys(Unit, 1),
    **dict.fromkeys(TOKEN_UNITS | {Unit.CHARACTER}, 1_000_000),
    **dict.fromkeys((*TOOL_CALLS, Unit.SEARCH_UNIT), 1_000),
}


AUTO: Final = "auto"  # in a narrowed unit: what the provider chooses, so that it is held at the dearest


def wider(unit: str) -> str | None:
    """The unit that this one narrows by its last colon; None where it narrows none."""
    return unit.rpartition(":")[0] or None


def alternative(unit: str) -> str | None:
    """The unit by which a price may bill the same thing instead, narrowed alike; None if there is none."""
    name, colon, narrowing = unit.partition(":")
    other = _ALTERNATIVES.get(name)
    return None if other is None else other + colon + narrowing
