"""OpenAI's Images API: a text, and images to edit, in; images out, by tokens or each at a price.

Sources: OpenAI, API reference, "Create image", "Create image edit" and their streaming events; Python SDK 3.57,
`types/images_response` and `types/image_gen_completed_event`. Hosts of this shape: xAI, "Image generations" (`resolution`,
`quality`, `image`), Together, "Create image" (`width`, `height`, `image_url`, `reference_images`), OpenRouter, SDK 1.3,
`ImageGenerationRequest` (`resolution`, `input_references`).
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from tallygate.dialects.billed_members import MEMBERS, read_billed
from tallygate.dialects.dialect import (
    ImagesAsked,
    MeterReading,
    OtherModel,
    RequestFacts,
    ResponseMeter,
    UsageReporting,
    units_of,
)
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.image_tokens import (
    IMAGE_IN_TOKENS,
    PARTIAL_TOKENS,
    PARTIALS_MAX,
    output_tokens,
    partial_tokens,
    plan_tokens,
)
from tallygate.dialects.image_usage import image_counts
from tallygate.dialects.lenient import lenient_decode, member, name_or_none
from tallygate.dialects.long_strings import WithoutLongStrings
from tallygate.dialects.meters import EVENT_UNREADABLE, EventStreamMeter, JsonMeter
from tallygate.dialects.openai_chat import Choices
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_required import required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.references import body_references
from tallygate.dialects.request_members import RequestMembers
from tallygate.dialects.sse import SseEvent
from tallygate.dialects.stated_usage import RESPONSES, StatedUsage
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.unit import AUTO, Unit
from tallygate.domain.usage import Pass, Usage

_OTHER: Final = "other"  # one that no price can name
_WORD: Final = re.compile(r"[a-z0-9._-]{1,32}", re.ASCII)
_SVG: Final = "svg"
_FRAMING_TOKENS: Final = 16  # around the prompt of each image
# Of text, for each image that is read, whatever the prompt (https://community.openai.com/t/1382940).
_TEXT_OF_IMAGE_IN: Final = 100
_SVG_PROMPT_TOKENS: Final = 20_000  # of the model that writes an SVG: the prompt, and the image that it draws after
_DONE: Final = b"[DONE]"

Partials = Annotated[int, msgspec.Meta(ge=0, le=PARTIALS_MAX)]


class ImagesRequest(msgspec.Struct, gc=False):
    """The fields acted on. Of several names for one thing, a service obeys one: the number is the largest, the size must be one."""

    model: str | None = None
    prompt: Any = None
    negative_prompt: Any = None
    stream: bool | None = None
    n: Choices | None = None
    batch_size: Choices | None = None
    num_images: Choices | None = None
    num_outputs: Choices | None = None
    partial_images: Partials | None = None
    quality: Any = None
    size: Any = None
    image_size: Any = None
    resolution: Any = None
    width: Any = None
    height: Any = None
    output_format: Any = None
    frame_count: Any = None
    svg: Any = None
    image: Any = None
    images: Any = None
    mask: Any = None
    markup: Any = None
    image_url: Any = None
    image_urls: Any = None
    reference_images: Any = None
    input_references: Any = None


_MEMBERS: Final = RequestMembers(ImagesRequest)
IMAGES_IN: Final = ("image", "images", "mask", "markup", "image_url", "image_urls", "reference_images", "input_references")


class ImagesAnswer(msgspec.Struct, gc=False):
    """The fields acted on of a whole answer or of an event, each open to any value."""

    type: Any = None
    model: Any = None
    data: Any = None
    images: Any = None  # Siliconflow's name of `data`
    usage: Any = None
    svg_usage: Any = None
    quality: Any = None
    size: Any = None
    output_format: Any = None
    error: Any = None


class OpenAiImages(OpenAiShape):
    """POST /v1/images/generations."""

    name = "openai_images"
    usage_reporting = UsageReporting.NOT_PROMISED  # of models that are billed by the image

    def __init__(self) -> None:
        self._answers = msgspec.json.Decoder(ImagesAnswer)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del path, query
        parsed = _MEMBERS.parse(body)
        unknown = _MEMBERS.all_if_unknown(parsed)
        facts = facts_of(parsed.fields, unknown, images_in=sum([_count(getattr(parsed.fields, name)) for name in IMAGES_IN]))
        return msgspec.structs.replace(facts, references=body_references(parsed))

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: WithoutLongStrings(ImagesStreamMeter(self._answers, facts)),
            whole=lambda: WithoutLongStrings(ImagesJsonMeter(self._answers, facts)),
        )


def facts_of(request: ImagesRequest, unknown: Mapping[str, Any], *, images_in: int) -> RequestFacts:
    """Facts of a request. Raises RequestRejectedError.

    unknown     all of its members, if there are any that are not acted on: the model may read them
    images_in   images that it gives
    """
    model = required_model(request.model)
    number = max(request.n or 1, request.batch_size or 1, request.num_images or 1, request.num_outputs or 1)
    stated = {
        "quality": request.quality,
        "size": _size(request),
        "output_format": request.output_format,
        "frame_count": request.frame_count,
        "partial_images": request.partial_images if request.stream else None,
    }
    draft = OpenAiPrompt()
    draft.add_text(request.prompt)
    draft.add_text(request.negative_prompt)
    draft.add_unknown_members(unknown, _MEMBERS.names, is_request=True)
    draft.tokens = images_in * IMAGE_IN_TOKENS
    unit = _unit(stated)
    tokens = output_tokens(model, stated) + partial_tokens(stated) + plan_tokens(model)
    return RequestFacts(
        model=model,
        prompt=draft.shape(),
        stream=request.stream is True,
        max_output_tokens=tokens,
        output_min_tokens=tokens,
        choices=number,
        prompt_reads=number,  # each image is billed like a request of its own
        added_tokens=number * (_FRAMING_TOKENS + _TEXT_OF_IMAGE_IN * images_in),
        units=units_of(image_input=images_in > 0, image_output=True),
        calls_instead={unit: number, **({Unit.SOURCE_IMAGE: number * images_in} if images_in else {})},
        other_models=_authors(request),
        images=ImagesAsked(stated=stated, unit=unit),
    )


def _authors(request: ImagesRequest) -> tuple[OtherModel, ...]:
    """The model that writes an SVG after the image ("Create image", `svg`)."""
    if str(request.output_format).lower() != _SVG:
        return ()
    author = name_or_none(member(request.svg, "model"))
    if author is None:
        raise RequestRejectedError("Name the model that writes the SVG as 'svg.model': its price bounds the cost.", param="svg")
    return (OtherModel(model=author, max_input_tokens=_SVG_PROMPT_TOKENS),)


def _count(value: object) -> int:
    return len(value) if isinstance(value, list) else int(bool(value))


def _size(request: ImagesRequest) -> str | None:
    """The size that is asked for, None where none is; where names disagree, one that nobody knows."""
    named = [each for each in (request.size, request.image_size, request.resolution) if each is not None]
    if request.width is not None or request.height is not None:
        named.append(f"{request.width}x{request.height}")
    if not named:
        return None
    return named[0] if isinstance(named[0], str) and all(each == named[0] for each in named) else _OTHER


def _unit(stated: Mapping[str, Any]) -> str:
    return f"{Unit.IMAGE}:{_word(stated.get('quality'))}:{_word(stated.get('size'))}"


def _word(value: object) -> str:
    if value is None:
        return AUTO
    word = value.lower() if isinstance(value, str) else ""
    return word if _WORD.fullmatch(word) is not None else _OTHER


class _Drawn:
    """What one answer has of its images, for its reading."""

    __slots__ = ("_are_listed", "_asked", "_number", "_parts", "_reading", "_stated", "_usage")

    def __init__(self, facts: RequestFacts, reading: MeterReading) -> None:
        self._asked = facts
        self._stated = {} if facts.images is None else dict(facts.images.stated)
        self._reading = reading
        self._number = self._parts = 0
        self._are_listed = False
        self._usage: Usage | None = None

    def add_partial(self) -> None:
        self._parts += 1
        self._note()

    def add(self, answer: ImagesAnswer, number: int | None) -> None:
        """Take so many images, and the usage that is stated of them. number: None where none are listed."""
        reading = self._reading
        self._number += number or 0
        self._are_listed = self._are_listed or number is not None
        for name in ("quality", "size", "output_format"):
            value = getattr(answer, name)
            if isinstance(value, str):
                self._stated[name] = value
        counts = image_counts(answer.usage, reading.flags)
        if counts is not None and (counts.completion or not number):  # one without output says nothing of an image that came
            self._usage = counts if self._usage is None else _sum(self._usage, counts)
        if isinstance(answer.usage, dict) and not MEMBERS.isdisjoint(answer.usage):
            read_billed(reading, answer.usage)
        author = name_or_none(member(answer.svg_usage, "model"))
        written = StatedUsage(RESPONSES).add(_with_details(answer.svg_usage), reading.flags) if author is not None else None
        if written is not None:
            reading.passes = (*reading.passes, Pass(model=author, quantities=dict(written.quantities)))
        self._note()

    def _note(self) -> None:
        """Note the images in the units in which they are billed."""
        reading, asked = self._reading, self._asked
        if asked.is_by_calls:
            if not self._are_listed:
                return  # as many are charged as were asked for
            each = asked.calls.get(Unit.SOURCE_IMAGE, 0) // asked.choices
            reading.usage = Usage({_unit(self._stated): self._number, Unit.SOURCE_IMAGE: each * self._number})
        elif self._usage is not None:
            reading.usage, reading.media_tokens = self._usage, {}
        else:
            tokens = self._number * output_tokens(asked.model, self._stated) + self._parts * PARTIAL_TOKENS
            reading.media_tokens = {Unit.OUTPUT_IMAGE: tokens} if tokens else {}


def _sum(one: Usage, other: Usage) -> Usage:
    units = {**one.quantities, **other.quantities}
    return Usage({unit: one.quantities.get(unit, 0) + other.quantities.get(unit, 0) for unit in units})


def _with_details(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage of an author, its reasoning where responses have it."""
    return {**usage, "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens")}}


class ImagesJsonMeter(JsonMeter):
    """Reads a whole answer: the number of its images, and its usage."""

    __slots__ = ("_decoder", "_drawn")

    def __init__(self, decoder: "msgspec.json.Decoder[ImagesAnswer]", facts: RequestFacts) -> None:
        super().__init__()
        self._decoder = decoder
        self._drawn = _Drawn(facts, self.reading)

    def _read(self, body: bytes) -> bool:
        answer = lenient_decode(body, self._decoder)
        if answer is None:
            return False
        reading, images = self.reading, _images(answer)
        reading.failed = bool(answer.error)
        reading.response_model = name_or_none(answer.model)
        self._drawn.add(answer, None if images is None else len(images))
        reading.ended = images is not None or reading.usage is not None
        return reading.ended or reading.failed


class ImagesStreamMeter(EventStreamMeter):
    """Reads `image_generation.partial_image` and `image_generation.completed`, or `image_edit.…`; each image has its own end."""

    __slots__ = ("_decoder", "_drawn")

    def __init__(self, decoder: "msgspec.json.Decoder[ImagesAnswer]", facts: RequestFacts) -> None:
        super().__init__()
        self._decoder = decoder
        self._drawn = _Drawn(facts, self.reading)

    def _read(self, event: SseEvent) -> bytes:
        if event.data == _DONE:
            return event.raw
        answer = lenient_decode(event.data, self._decoder)
        if answer is None:
            self.reading.flags.add(EVENT_UNREADABLE)
            return event.raw
        kind = answer.type if isinstance(answer.type, str) else event.name.decode(errors="replace")
        self.reading.response_model = name_or_none(answer.model) or self.reading.response_model
        if answer.error or kind == "error":
            self.reading.failed = True
        elif kind.endswith(".partial_image"):
            self._drawn.add_partial()
        elif kind.endswith(".completed"):
            self._drawn.add(answer, 1)
            self.reading.ended = True
        elif (images := _images(answer)) is not None:  # a whole answer, from a host that does not stream
            self._drawn.add(answer, len(images))
            self.reading.ended = True
        return event.raw


def _images(answer: ImagesAnswer) -> list[object] | None:
    """The images of a whole answer; None where it does not list any."""
    found = answer.images if answer.data is None else answer.data
    return [each for each in found if isinstance(each, (dict, str))] if isinstance(found, list) else None
