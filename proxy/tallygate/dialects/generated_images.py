"""Images of the Responses API's `image_generation` tool, charged by the tokens of the image model, beside the answer's own usage.

Sources: OpenAI, API reference, `tool_usage`: "Usage reported by hosted tools, separate from base model `usage`"; guide "Image
generation", "Cost and latency": the tokens of an image by quality and size, and 100 more for each partial image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tallygate.dialects.counts import lenient_count
from tallygate.dialects.dialect import OtherModel, units_of
from tallygate.dialects.lenient import items_of, member, name_or_none
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Pass

# Of a tool that names none: the reference states no default any more, and no model of its family has dearer tokens.
DEFAULT_MODEL: Final = "gpt-image-1"
IMAGES_MAX: Final = 4  # of one request that states no `max_tool_calls`; each is a call of its own, after the one before was seen
_TOKENS: Final[Mapping[str, Mapping[str, int]]] = {
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
    "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
}
_DEAREST: Final = 6240
_PARTIAL: Final = 100
_PARTIALS_MAX: Final = 3
# The most that an image is made from: a prompt of 32,000 characters ("Create image", `prompt`), a token each at worst for none of
# them is text; and each image given, at high fidelity.
_PROMPT_TOKENS: Final = 8_000
_IMAGE_IN_TOKENS: Final = 6_240
_IMAGES_IN_MAX: Final = 16  # "Create image edit", `image`
_UNITS: Final = units_of(image_input=True, image_output=True)


def image_model(tool: Mapping[str, Any], max_tool_calls: int | None, images_in: int) -> OtherModel:
    """The tool's model, and the most that it can be used for.

    images_in   images that the request shows; those that were made before are among its input too
    """
    number = max_tool_calls or IMAGES_MAX
    partials = tool.get("partial_images")
    extra = min(partials, _PARTIALS_MAX) * _PARTIAL if type(partials) is int and partials > 0 else 0
    return OtherModel(
        model=name_or_none(tool.get("model")) or DEFAULT_MODEL,
        times=number,
        max_input_tokens=_PROMPT_TOKENS + _IMAGE_IN_TOKENS * min(images_in + number, _IMAGES_IN_MAX),
        max_output_tokens=_tokens(tool) + extra,
        units=_UNITS,
    )


class CallsOfImages:
    """The image calls of one answer, and what its usage states of them. asked: `RequestFacts.other_models`."""

    __slots__ = ("_calls", "_is_tool", "_model", "_stated")

    def __init__(self, asked: Sequence[OtherModel]) -> None:
        self._model = asked[0].model if asked else DEFAULT_MODEL
        self._is_tool = bool(asked)
        self._calls: dict[object, int] = {}
        self._stated: dict[str, int] | None = None

    @property
    def number(self) -> int:
        """How many calls began."""
        return len(self._calls)

    def add(self, key: object, item: Mapping[str, Any]) -> None:
        """Take an item; later ones of its key replace it."""
        is_begun = item.get("status") not in (None, "completed") and not item.get("result")
        self._calls[key] = 0 if is_begun and item.get("status") == "failed" else _tokens(item)

    def state(self, usage: object, tools: object) -> None:
        """Take `tool_usage.image_gen`, and the model that the response's own `tools` name."""
        for tool in items_of(tools):
            if member(tool, "type") == "image_generation":
                self._model = name_or_none(member(tool, "model")) or self._model
                self._is_tool = True
        if isinstance(usage, dict):
            self._stated = _quantities(usage)

    def passes(self) -> tuple[Pass, ...]:
        """What was used. Calls of which no usage is stated ("may be skipped") count by their size and quality.

        Images of a response without the tool are its model's own, and in its usage (Gloo, "Responses API").
        """
        quantities = self._stated
        if not quantities and self._is_tool:
            tokens = sum(self._calls.values())
            quantities = {Unit.OUTPUT_IMAGE: tokens} if tokens else {}
        return (Pass(model=self._model, quantities=quantities),) if quantities else ()


def _quantities(usage: Mapping[str, Any]) -> dict[str, int]:
    flags: set[str] = set()

    def count(holder: object, name: str) -> int:
        return lenient_count(member(holder, name), flags) or 0

    details_in, cached, details_out = (
        usage.get(name) for name in ("input_tokens_details", "cached_tokens_details", "output_tokens_details")
    )
    tokens_in, tokens_out = count(usage, "input_tokens"), count(usage, "output_tokens")
    image_in = min(count(details_in, "image_tokens"), tokens_in)
    text_in = tokens_in - image_in
    cached_image = min(count(cached, "cached_image_tokens"), image_in)
    cached_text = min(count(cached, "cached_text_tokens"), text_in)
    if not isinstance(cached, dict):
        cached_text = min(count(usage, "cached_tokens"), text_in)
    text_out = min(count(details_out, "text_tokens"), tokens_out)
    quantities = {
        Unit.INPUT: text_in - cached_text,
        Unit.CACHED_INPUT: cached_text,
        Unit.INPUT_IMAGE: image_in - cached_image,
        Unit.CACHED_INPUT_IMAGE: cached_image,
        Unit.OUTPUT: text_out,
        Unit.OUTPUT_IMAGE: tokens_out - text_out,
    }
    return {unit.value: number for unit, number in quantities.items() if number}


def _tokens(stated: Mapping[str, Any]) -> int:
    """Output tokens of an image of this quality and size; of one that is left to the model, the most that it can have."""
    quality, size = stated.get("quality"), stated.get("size")
    by_size = _TOKENS.get(quality) if isinstance(quality, str) else None
    if by_size is None:
        return _DEAREST
    found = by_size.get(size) if isinstance(size, str) else None
    return max(by_size.values()) if found is None else found
