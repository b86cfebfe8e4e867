"""Ordinary answers with `choices`, decoded in one step: a chunk that has text and nothing else, and a whole answer with its usage.

Each type has the members that the general reader acts on, as they are where nothing is odd; a body that differs in one of them
does not fit, and is left to the general reader. Other members are skipped, as that one skips them.
"""

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX, Usage

_Zero = Literal[0]
_Count = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]
_Counted = Annotated[int, msgspec.Meta(ge=1, le=TOKENS_MAX)]
_INPUT, _OUTPUT = Unit.INPUT, Unit.OUTPUT  # read once: a member of an enum takes a call to look up
Shape = TypeVar("Shape")


class _Text(msgspec.Struct, gc=False):
    content: str
    refusal: None = None
    reasoning_content: None = None
    reasoning: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None


class _Body(msgspec.Struct, gc=False):
    error: None = None
    x_groq: None = None
    provider_metadata: None = None
    model: str | None = None
    service_tier: str | None = None


class _TextChoice(msgspec.Struct, gc=False):
    delta: _Text
    index: _Zero = 0
    finish_reason: None = None
    error: None = None
    text: None = None


class TextChunk(_Body, gc=False, kw_only=True):
    """The chunk of which nearly all of a stream is: text of the first choice."""

    choices: tuple[_TextChoice]
    usage: None = None


class _WholeChoice(msgspec.Struct, gc=False):
    message: _Text
    finish_reason: Literal["stop", "length", "content_filter"] | None = None
    error: None = None
    text: None = None


class _In(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    cached_tokens: _Count = 0
    audio_tokens: _Zero = 0
    text_tokens: Any = None
    image_tokens: _Zero = 0


class _Out(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    reasoning_tokens: _Count = 0
    audio_tokens: _Zero = 0
    text_tokens: Any = None
    image_tokens: _Zero = 0
    accepted_prediction_tokens: Any = None
    rejected_prediction_tokens: Any = None


class PlainUsage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The usage object of a request for text that caused nothing but text."""

    prompt_tokens: _Counted
    completion_tokens: _Counted
    total_tokens: _Counted
    prompt_tokens_details: _In | None = None
    completion_tokens_details: _Out | None = None

    def counts(self) -> Usage | None:
        """What it states, None where it contradicts itself."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        cached = 0 if self.prompt_tokens_details is None else self.prompt_tokens_details.cached_tokens
        thought = 0 if self.completion_tokens_details is None else self.completion_tokens_details.reasoning_tokens
        if self.total_tokens != prompt + completion or cached > prompt or thought > completion:
            return None
        quantities: dict[str, int] = {}
        if prompt > cached:
            quantities[_INPUT] = prompt - cached
        if cached:
            quantities[Unit.CACHED_INPUT] = cached
        if thought:
            quantities[Unit.REASONING_OUTPUT] = thought
        if completion > thought:
            quantities[_OUTPUT] = completion - thought
        return Usage(quantities, (), prompt, completion)


class TextAnswer(_Body, gc=False, kw_only=True):
    """The whole answer of one choice, with text and its usage."""

    choices: tuple[_WholeChoice]
    usage: PlainUsage


def fitting(data: bytes, decoder: "msgspec.json.Decoder[Shape]") -> Shape | None:
    """`data` as the decoder's type; None if it does not fit."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


TEXT_CHUNKS: Final = msgspec.json.Decoder(TextChunk)
TEXT_ANSWERS: Final = msgspec.json.Decoder(TextAnswer)
