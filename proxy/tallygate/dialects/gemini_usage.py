"""The Gemini API's usage object, in the normal form. It does not raise."""

from typing import Any, Final

from tallygate.dialects.counts import lenient_count, token_counts
from tallygate.dialects.lenient import items_of
from tallygate.domain.usage import Usage

IMAGE_OUTPUT: Final = "image_output"  # images were generated, whose tokens have a price of their own at some models


def gemini_counts(usage: dict[str, Any], flags: set[str]) -> Usage:
    """Thoughts stand beside the candidates, and results of tools beside the prompt; cached tokens lie inside the prompt."""
    get = usage.get
    thoughts = lenient_count(get("thoughtsTokenCount"), flags) or 0
    tool_use = lenient_count(get("toolUsePromptTokenCount"), flags) or 0
    audio_prompt = audio_completion = 0
    if get("promptTokensDetails") or get("toolUsePromptTokensDetails"):
        audio_prompt = _of_modality(get("promptTokensDetails"), "AUDIO", flags)
        audio_prompt += _of_modality(get("toolUsePromptTokensDetails"), "AUDIO", flags)
        audio_prompt -= min(_of_modality(get("cacheTokensDetails"), "AUDIO", flags), audio_prompt)  # charged as cached
    if get("candidatesTokensDetails"):
        audio_completion = _of_modality(get("candidatesTokensDetails"), "AUDIO", flags)
        if _of_modality(get("candidatesTokensDetails"), "IMAGE", flags):
            flags.add(IMAGE_OUTPUT)
    return token_counts(
        flags,
        prompt=get("promptTokenCount") if not tool_use else (lenient_count(get("promptTokenCount"), flags) or 0) + tool_use,
        completion=(lenient_count(get("candidatesTokenCount"), flags) or 0) + thoughts,
        total=get("totalTokenCount"),
        cached=get("cachedContentTokenCount"),
        audio_prompt=audio_prompt,
        reasoning=thoughts,
        audio_completion=audio_completion,
    )


def _of_modality(details: object, modality: str, flags: set[str]) -> int:
    """Tokens of one modality in a list of [{modality, tokenCount}]."""
    tokens = 0
    for each in items_of(details):
        if isinstance(each, dict) and each.get("modality") == modality:
            tokens += lenient_count(each.get("tokenCount"), flags) or 0
    return tokens
