"""Tokens of an image, by the providers' published rules. If the size is unknown: the maximum of the rule.

OpenAI: guide "Images and vision", section "Calculating costs" (tiles of 512 px, or patches of 32 px times a factor, by model).
Anthropic: "Vision", section "Evaluate image size" (patches of 28 px, after a resize to the model's maximum).
Google: "Image understanding", section "Token calculation" (258 for a small image, else 258 for each tile, whose side is the image's
short side divided by 1.5); Vertex AI's page of the same name keeps it between 256 and 768 px.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from tallygate.domain.prompt import ImageInput
from tallygate.tokens.tokenization import Family


class ImageRule(Protocol):
    def tokens(self, image: ImageInput) -> int:
        """Tokens of one image."""


def _tiles(width: int, height: int, size: int) -> int:
    return -(-width // size) * -(-height // size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """OpenAI's tiles: the image is made to fit 2048 x 2048, then its short side 768, and each 512 px square costs `tile`."""

    base: int
    tile: int

    def tokens(self, image: ImageInput) -> int:
        """Low detail costs the base alone. Unknown size: 8 tiles, a strip of 768 x 2048."""
        if image.detail == "low":
            return self.base
        width, height = image.width, image.height
        if width < 1 or height < 1:
            return self.base + 8 * self.tile
        if (longest := max(width, height)) > 2048:
            width, height = -(-width * 2048 // longest), -(-height * 2048 // longest)
        if (shortest := min(width, height)) > 768:
            width, height = -(-width * 768 // shortest), -(-height * 768 // shortest)
        return self.base + self.tile * _tiles(width, height, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """Patches of `size` px, at most `most` (the image is scaled down to fit), times a factor in thousandths."""

    size: int
    most: int
    permille: int = 1000

    def tokens(self, image: ImageInput) -> int:
        """An image that must be scaled counts as the cap; its exact count is somewhat lower."""
        is_known = image.width > 0 and image.height > 0
        patches = min(self.most, _tiles(image.width, image.height, self.size)) if is_known else self.most
        return -(-patches * self.permille // 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiTiles:
    """258 tokens if both sides are at most 384 px, else for each tile: an image of 960 x 540 has 3 x 2 tiles of 360 px.

    An image is first made to fit 3072 x 3072. A strip of 3072 x 384, cut into squares of 256, then has `most` tiles.
    """

    most: int = 24

    def tokens(self, image: ImageInput) -> int:
        width, height = image.width, image.height
        if width < 1 or height < 1:
            return 258 * self.most
        if (longest := max(width, height)) <= 384:
            return 258
        if longest > 3072:
            width, height = -(-width * 3072 // longest), -(-height * 3072 // longest)
        side = min(max(min(width, height) * 2 // 3, 256), 768)
        return 258 * _tiles(width, height, side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A fixed number of tokens for an image of any size."""

    most: int

    def tokens(self, image: ImageInput) -> int:  # noqa: ARG002
        return self.most


_OPENAI: Final[tuple[tuple[re.Pattern[str], ImageRule], ...]] = (
    (re.compile(r"gpt-4o-mini"), Tiles(base=2833, tile=5667)),
    (re.compile(r"gpt-4\.1-mini|gpt-5-mini"), Patches(size=32, most=1536, permille=1620)),
    (re.compile(r"gpt-4\.1-nano|gpt-5-nano"), Patches(size=32, most=1536, permille=2460)),
    (re.compile(r"o4-mini"), Patches(size=32, most=1536, permille=1720)),
    (re.compile(r"gpt-5\.\d"), Patches(size=32, most=2500, permille=1200)),
    (re.compile(r"gpt-5"), Tiles(base=70, tile=140)),
    (re.compile(r"(?:^|[-/:.])o[13]"), Tiles(base=75, tile=150)),
)
_GEMINI_TILED: Final = re.compile(r"gemini-[12]\b|gemma|learnlm")
_OPENAI_FAMILIES: Final = frozenset({Family.OPENAI, Family.OPENAI_LEGACY, Family.GPT_5, Family.GPT_5_1, Family.GPT_OSS})
OWN_RULES: Final = _OPENAI_FAMILIES | {Family.CLAUDE_3, Family.CLAUDE_4_5, Family.CLAUDE, Family.GEMINI}  # of published rules
_OPENAI_RULE: Final = Tiles(base=85, tile=170)
_GEMINI_RULE: Final = Budget(most=2240)  # from Gemini 3 on: "Media resolution", table of token counts, the highest resolution
_OTHER_RULE: Final = Patches(size=28, most=4784)  # Claude's, and of unknown models


def image_rule(family: Family, model: str | None) -> ImageRule:
    """The rule of a model; within OpenAI and Gemini it depends on the name."""
    name = (model or "").lower()
    if family is Family.GEMINI:
        return GeminiTiles() if _GEMINI_TILED.search(name) else _GEMINI_RULE
    if family in _OPENAI_FAMILIES:
        return next((rule for pattern, rule in _OPENAI if pattern.search(name)), _OPENAI_RULE)
    return _OTHER_RULE
