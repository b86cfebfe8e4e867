"""The usage of generated images: an object of the Images API, or of the Responses API's image tool.

OpenAI, API reference, "Create image", `usage`, and "Create a response", `tool_usage`. Compatible services use the names of chat
completions (OpenRouter).
"""

from typing import Any, Final

from tallygate.dialects.counts import lenient_count
from tallygate.dialects.lenient import member
from tallygate.dialects.stated_usage import RESPONSES, StatedUsage
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage

_CACHED: Final = "cached_tokens_details"


def image_counts(usage: object, flags: set[str]) -> Usage | None:
    """The counts; None if there are none. Output of which nothing else is stated is an image."""
    if not isinstance(usage, dict):
        return None
    counts = StatedUsage(RESPONSES).add(_with_cached_inside(usage, flags), flags)
    if counts is None:
        return None
    details = usage.get("output_tokens_details") or usage.get("completion_tokens_details")
    if lenient_count(member(details, "image_tokens"), flags):
        return counts  # they are in their unit
    text = lenient_count(member(details, "text_tokens"), flags) or 0
    return counts.with_moved(Unit.OUTPUT, Unit.OUTPUT_IMAGE, counts.of(Unit.OUTPUT) - text)


def _with_cached_inside(usage: dict[str, Any], flags: set[str]) -> dict[str, Any]:
    """`usage` with the cached tokens of text and of images among the details of the input, where the Images API has them beside."""
    cached = usage.get(_CACHED)
    if not isinstance(cached, dict):
        return usage
    text, image = (lenient_count(cached.get(name), flags) or 0 for name in ("cached_text_tokens", "cached_image_tokens"))
    details = usage.get("input_tokens_details")
    inside = {**(details if isinstance(details, dict) else {}), "cached_tokens": text + image, _CACHED: {"image_tokens": image}}
    return {**usage, "input_tokens_details": inside}
