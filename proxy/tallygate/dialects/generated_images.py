"""Images of the Responses API's `image_generation` tool, charged by the tokens of the image model, beside the answer's own usage.

Source: OpenAI, API reference, `tool_usage`: "Usage reported by hosted tools, separate from base model `usage`".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tallygate.dialects.dialect import OtherModel, units_of
from tallygate.dialects.image_tokens import IMAGE_IN_TOKENS, IMAGES_IN_MAX, output_tokens, partial_tokens, plan_tokens
from tallygate.dialects.image_usage import image_counts
from tallygate.dialects.lenient import items_of, member, name_or_none
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Pass

DEFAULT_MODEL: Final = "gpt-image-2.6-sunburst"  # of a tool that names none (API reference, "Image generation", `model`)
IMAGES_MAX: Final = 4  # of one request that states no `max_tool_calls`; each is a call of its own, after the one before was seen
# A prompt of 32,000 characters ("Create image", `prompt`), at four or more a token.
_PROMPT_TOKENS: Final = 8_000
_SHOWS_TOKENS: Final = ("quality", "size", "output_format", "frame_count")
_UNITS: Final = units_of(image_input=True, image_output=True)


def image_model(tool: Mapping[str, Any], max_tool_calls: int | None, images_in: int) -> OtherModel:
    """The tool's model, and the most that it can be used for.

    images_in   images that the request shows; those that were made before are among its input too
    """
    number = max_tool_calls or IMAGES_MAX
    model = name_or_none(tool.get("model")) or DEFAULT_MODEL
    return OtherModel(
        model=model,
        times=number,
        max_input_tokens=_PROMPT_TOKENS + IMAGE_IN_TOKENS * min(images_in + number, IMAGES_IN_MAX),
        max_output_tokens=output_tokens(model, tool) + partial_tokens(tool) + plan_tokens(model),
        units=_UNITS,
    )


class CallsOfImages:
    """The image calls of one answer, and what its usage states of them. asked: `RequestFacts.other_models`."""

    __slots__ = ("_calls", "_is_tool", "_model", "_stated")

    def __init__(self, asked: Sequence[OtherModel]) -> None:
        self._model = asked[0].model if asked else DEFAULT_MODEL
        self._is_tool = bool(asked)
        self._calls: dict[object, dict[str, Any] | None] = {}
        self._stated: dict[str, int] | None = None

    @property
    def number(self) -> int:
        """How many calls began."""
        return len(self._calls)

    def add(self, key: object, item: Mapping[str, Any]) -> None:
        """Take an item; later ones of its key replace it."""
        is_begun = item.get("status") not in (None, "completed") and not item.get("result")
        has_failed = is_begun and item.get("status") == "failed"
        self._calls[key] = None if has_failed else {name: item[name] for name in _SHOWS_TOKENS if name in item}

    def state(self, usage: object, tools: object) -> None:
        """Take `tool_usage.image_gen`, and the model that the response's own `tools` name."""
        for tool in items_of(tools):
            if member(tool, "type") == "image_generation":
                self._model = name_or_none(member(tool, "model")) or self._model
                self._is_tool = True
        counts = image_counts(usage, set())
        if counts is not None:
            self._stated = dict(counts.quantities)

    def passes(self) -> tuple[Pass, ...]:
        """What was used. Calls of which no usage is stated ("may be skipped") count by their size and quality.

        Images of a response without the tool are its model's own, and in its usage (Gloo, "Responses API").
        """
        quantities = self._stated
        if not quantities and self._is_tool:
            tokens = sum([output_tokens(self._model, call) for call in self._calls.values() if call is not None])
            quantities = {Unit.OUTPUT_IMAGE: tokens} if tokens else {}
        return (Pass(model=self._model, quantities=quantities),) if quantities else ()
