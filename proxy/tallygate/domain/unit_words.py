"""Units in words, as people read them beside a price."""

from collections.abc import Mapping
from typing import Final

from tallygate.domain.unit import TOKEN_UNITS, UNITS_PER_RATE, Unit

_WORDS: Final[Mapping[Unit, str]] = {
    Unit.INPUT: "input tokens",
    Unit.CACHED_INPUT: "input tokens read from a cache",
    Unit.CACHE_WRITE_5M: "input tokens written to a cache for 5 minutes",
    Unit.CACHE_WRITE_1H: "input tokens written to a cache for an hour",
    Unit.CACHE_WRITE_12H: "input tokens written to a cache for 12 hours",
    Unit.INPUT_AUDIO: "audio tokens in",
    Unit.CACHED_INPUT_AUDIO: "audio tokens in, read from a cache",
    Unit.INPUT_IMAGE: "image tokens in",
    Unit.CACHED_INPUT_IMAGE: "image tokens in, read from a cache",
    Unit.INPUT_VIDEO: "video tokens in",
    Unit.OUTPUT: "output tokens",
    Unit.REASONING_OUTPUT: "reasoning tokens",
    Unit.OUTPUT_AUDIO: "audio tokens out",
    Unit.OUTPUT_IMAGE: "image tokens out",
    Unit.OUTPUT_VIDEO: "video tokens out",
    Unit.WEB_SEARCH: "web searches",
    Unit.FILE_SEARCH: "file searches",
    Unit.GROUNDED_PROMPT: "prompts answered with search results",
    Unit.GROUNDING_QUERY: "search queries for an answer",
    Unit.SEARCH_SOURCE: "sources used by a search",
    Unit.CODE_CONTAINER: "code containers",
    Unit.SERVER_TOOL: "calls of other tools at the provider",
    Unit.SEARCH_UNIT: "search units of a reranking",
    Unit.CHARACTER: "characters",
    Unit.AUDIO_SECOND: "seconds of audio",
    Unit.VIDEO_SECOND: "seconds of video",
    Unit.IMAGE: "generated images",
    Unit.SOURCE_IMAGE: "images that others are made from",
    Unit.PAGE: "pages",
    Unit.REQUEST: "requests",
}


def unit_words(unit: str) -> str:
    """A unit's name in words; of a narrowed one (`image:high:1024x1024`) with what narrows it."""
    name, *narrowing = unit.split(":")
    return ", ".join([_WORDS[Unit(name)], *narrowing])


def units_per_rate(unit: str) -> int:
    """How many units a price's figure pays for."""
    return UNITS_PER_RATE[Unit(unit.partition(":")[0])]


def per_words(unit: str) -> str:
    """That number in words: "million tokens", "thousand", "one"."""
    number = {1_000_000: "million", 1_000: "thousand", 1: "one"}[units_per_rate(unit)]
    return f"{number} tokens" if Unit(unit.partition(":")[0]) in TOKEN_UNITS else number
