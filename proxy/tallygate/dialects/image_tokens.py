"""Tokens of images that OpenAI's and Google's models generate and read, by what a request or an answer states of them.

Sources: OpenAI, guide "Image generation", "Cost and latency": a table for the models of 1, 100 more for each partial image, and a
calculator for those of 2, whose formula is in https://community.openai.com/t/1382699 (1024x1024 at high quality are 7,024). The
same forum: several images of one request are billed as requests of their own, prompt and all, and an image that is read has at
most 1,536 tokens (https://community.openai.com/t/1382940); models of 1 read one in tiles, with more at high fidelity
(guide "Images and vision", "GPT Image 1": 65, 129 for each of 4 tiles at most, and 6,240 besides).
Google, "Gemini Developer API pricing", the dearest model of each size: an image of 1K is 1,290 output tokens (Gemini 2.5), one of
2K 1,680 and one of 4K 2,520 (Gemini 3.1). Of another shape than a square, the longer edge is up to 1.6 times as long.
Of `xhigh` and `max`, frames of a GIF and the text that a model plans with, no page states the tokens: they are assumed.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from tallygate.dialects.counts import lenient_count

PARTIALS_MAX: Final = 3  # API reference, "Create image", `partial_images`
IMAGES_IN_MAX: Final = 16  # "Create image edit", `image`
IMAGE_IN_TOKENS: Final = 65 + 4 * 129 + 6_240  # of each, at most
PARTIAL_TOKENS: Final = 100
_PLAN: Final = 1_000  # of text that is generated before an image
# Models that generate no text (their pages, "Modalities": "Text: input only").
_WITHOUT_PLAN: Final = re.compile(r"(?:^|[/.-])gpt-image-(?:1(?!\.?\d)|[2-9])")
_BY_SIZE: Final[Mapping[str, Mapping[str, int]]] = {
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
    "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
}
_FIRST_FAMILY: Final = re.compile(r"(?:^|[/.-])(?:gpt-image-1|chatgpt-image)(?!\d)")
_SECOND: Final = re.compile(r"(?:^|[/.-])gpt-image-2(?![.\d])")  # later ones have more qualities
_SIDES: Final = re.compile(r"([1-9]\d{1,4})[x*]([1-9]\d{1,4})", re.ASCII)
_FACTORS: Final = {"low": 16, "medium": 48, "high": 96}  # tokens along the longer side, before the area counts
_HIGHER: Final = frozenset({"xhigh", "max"})
_HIGHER_TIMES: Final = 2  # assumed: twice the tokens of `high`
_PIXELS_MAX: Final = 3_840 * 2_160
_LARGEST: Final = (2_880, 2_880)  # of all sizes with so many pixels, the one with most tokens
_GOOGLES: Final = re.compile(r"(?:^|[/.-])(?:gemini|nano-banana|imagen)\b")
_GOOGLE_TOKENS: Final = ((1_640, 1_290), (3_277, 1_680))  # by the longer edge in pixels
_GOOGLE_LARGEST: Final = 2_520
_FRAMES: Final = 9  # "Create image", `frame_count`, where none is stated
_FRAMES_MAX: Final = 16


def output_tokens(model: str | None, stated: Mapping[str, Any]) -> int:
    """Tokens of one image with the quality and the size that are stated; the most that it can have where they are not, or are new.

    model    None, or one that is not known: the dearest of all
    stated   of a request or an answer: `quality`, `size`, `output_format`, `frame_count`
    """
    quality, size = stated.get("quality"), stated.get("size")
    return _tokens(model or "", quality, size if isinstance(size, str) else "") * _frames(stated)


def google_tokens(longer_edge: int) -> int:
    """Tokens of one image of a model of Google's; 0: an edge that cannot be read, of 1K as most are."""
    return next((tokens for most, tokens in _GOOGLE_TOKENS if longer_edge <= most), _GOOGLE_LARGEST)


def plan_tokens(model: str | None) -> int:
    """The most tokens of text that are generated before an image."""
    return 0 if _WITHOUT_PLAN.search(model or "") is not None else _PLAN


def partial_tokens(stated: Mapping[str, Any]) -> int:
    """Tokens of the partial images of one image."""
    partials = stated.get("partial_images")
    return min(partials, PARTIALS_MAX) * PARTIAL_TOKENS if type(partials) is int and partials > 0 else 0


def _tokens(model: str, quality: object, size: str) -> int:
    if _FIRST_FAMILY.search(model) is not None:
        by_size = _BY_SIZE.get(quality, _BY_SIZE["high"]) if isinstance(quality, str) else _BY_SIZE["high"]
        return by_size.get(size) or max(by_size.values())
    sides = _SIDES.fullmatch(size)
    if _GOOGLES.search(model) is not None:
        return _GOOGLE_LARGEST if sides is None else google_tokens(max(int(sides[1]), int(sides[2])))
    factor = _FACTORS.get(quality) if isinstance(quality, str) else None
    times = 1
    if factor is None:
        factor = _FACTORS["high"]
        times = 1 if _SECOND.search(model) is not None and quality not in _HIGHER else _HIGHER_TIMES
    width, height = (int(sides[1]), int(sides[2])) if sides is not None else _LARGEST
    if width * height > _PIXELS_MAX:
        width, height = _LARGEST
    longer, shorter = max(width, height), min(width, height)
    along_shorter = (2 * factor * shorter + longer) // (2 * longer)
    return -(-factor * along_shorter * (2_000_000 + width * height) // 4_000_000) * times


def _frames(stated: Mapping[str, Any]) -> int:
    if str(stated.get("output_format")).lower() != "gif":
        return 1
    frames = stated.get("frame_count")
    if frames is None:
        return _FRAMES
    return min(max(lenient_count(frames, set()) or _FRAMES_MAX, 1), _FRAMES_MAX)
