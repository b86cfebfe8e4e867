"""The Gemini API's usage object, in the normal form. It does not raise."""

from collections.abc import Mapping
from typing import Any, Final

from tallygate.dialects.counts import lenient_count, token_counts
from tallygate.dialects.lenient import items_of
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage

_NONE: Final[dict[str, int]] = {}
_AUDIO: Final = "AUDIO"
_TEXT: Final = "TEXT"
# Modalities with rates of their own, in order: in the prompt, in the cache, in the output. Documents have the rate of text, and so
# has cached video (Google, "Gemini Developer API pricing": "text / image / video", and audio apart).
_MOVED: Final[Mapping[str, tuple[Unit, Unit, Unit]]] = {
    "IMAGE": (Unit.INPUT_IMAGE, Unit.CACHED_INPUT_IMAGE, Unit.OUTPUT_IMAGE),
    "VIDEO": (Unit.INPUT_VIDEO, Unit.CACHED_INPUT, Unit.OUTPUT_VIDEO),
}
# The results of tools, the total that contains them, and its other sides, in the spelling of the API and of Google's libraries.
_TOOL_RESULTS: Final = (
    (
        "toolUsePromptTokenCount",
        "toolUsePromptTokensDetails",
        "totalTokenCount",
        ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
    ),
    (
        "tool_use_prompt_token_count",
        "tool_use_prompt_tokens_details",
        "total_token_count",
        ("prompt_token_count", "candidates_token_count", "thoughts_token_count"),
    ),
)


def gemini_counts(usage: dict[str, Any], flags: set[str]) -> Usage:
    """Thoughts stand beside the candidates, and results of tools beside the prompt; cached tokens lie inside the prompt.

    The details split each of these by modality. What they leave out, and thoughts, are text.
    """
    get = usage.get
    thoughts = lenient_count(get("thoughtsTokenCount"), flags) or 0
    tool_use = lenient_count(get("toolUsePromptTokenCount"), flags) or 0
    read = _by_modality(flags, get("promptTokensDetails"), get("toolUsePromptTokensDetails"))
    cached = _by_modality(flags, get("cacheTokensDetails")) if get("cacheTokensDetails") else _NONE
    made = _by_modality(flags, get("candidatesTokensDetails")) if get("candidatesTokensDetails") else _NONE
    counts = token_counts(
        flags,
        prompt=get("promptTokenCount") if not tool_use else (lenient_count(get("promptTokenCount"), flags) or 0) + tool_use,
        completion=(lenient_count(get("candidatesTokenCount"), flags) or 0) + thoughts,
        total=get("totalTokenCount"),
        cached=get("cachedContentTokenCount"),
        audio_prompt=max(read.get(_AUDIO, 0) - cached.get(_AUDIO, 0), 0),
        reasoning=thoughts,
        audio_completion=made.get(_AUDIO, 0),
    )
    return _split(counts, read, cached, made) if read or cached or made else counts


def without_tool_results(usage: dict[str, Any]) -> dict[str, Any]:
    """`usage` without what tools at the provider brought into the prompt, which the total may contain."""
    for number_name, details_name, total_name, side_names in _TOOL_RESULTS:
        number, total = usage.get(number_name), usage.get(total_name)
        if type(number) is int and number > 0:
            usage = {name: value for name, value in usage.items() if name not in {number_name, details_name}}
            if type(total) is int:
                usage[total_name] = max(total - number, sum([side for name in side_names if type(side := usage.get(name)) is int]))
    return usage


def has_tool_results(usage: dict[str, Any]) -> bool:
    return any(usage.get(names[0]) for names in _TOOL_RESULTS)


def states_modalities(usage: dict[str, Any]) -> bool:
    """Whether the usage tells images from text in the output."""
    return bool(usage.get("candidatesTokensDetails") or usage.get("candidates_tokens_details"))


def _split(counts: Usage, read: Mapping[str, int], cached: Mapping[str, int], made: Mapping[str, int]) -> Usage:
    """`counts` with the tokens of each modality in their own unit. Audio has been told from the rest, but not in the cache."""
    counts = counts.with_moved(
        Unit.CACHED_INPUT, Unit.CACHED_INPUT_AUDIO, cached.get(_AUDIO, 0) - counts.of(Unit.CACHED_INPUT_AUDIO)
    )
    for modality, (unit, cached_unit, output_unit) in _MOVED.items():
        of_cache, whole = cached.get(modality, 0), read.get(modality, 0)
        if of_cache or whole:
            plain = min(max(whole - of_cache, 0), counts.of(Unit.INPUT))
            counts = counts.with_moved(Unit.INPUT, unit, plain)
            counts = counts.with_moved(Unit.CACHED_INPUT, cached_unit, max(of_cache, whole - plain))
        counts = counts.with_moved(Unit.OUTPUT, output_unit, made.get(modality, 0))
    return counts


def _by_modality(flags: set[str], *details: object) -> dict[str, int]:
    """Tokens of every modality but text in lists of [{modality, tokenCount}]."""
    tokens: dict[str, int] = {}
    for each in details:
        if not each:
            continue
        for part in items_of(each):
            if isinstance(part, dict):
                modality = part.get("modality")
                if isinstance(modality, str) and modality != _TEXT:
                    tokens[modality] = tokens.get(modality, 0) + (lenient_count(part.get("tokenCount"), flags) or 0)
    return tokens
