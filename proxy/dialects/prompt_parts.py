"""The countable parts of a prompt, gathered while a dialect walks through a request."""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from proxy.dialects.image_size import base64_bytes, base64_image_size
from proxy.domain.prompt import ImageInput, PromptShape

PDF: Final = "application/pdf"


@dataclass(slots=True, kw_only=True)
class PromptParts:
    """A PromptShape in the making. What a dialect does not know is counted as its JSON text, never as nothing.

    has_unknown_input   something was named that the model will read and the gateway cannot see
    audio_input         audio was among the inline data
    """

    texts: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    images: list[ImageInput] = field(default_factory=list)
    opaque_bytes: int = 0
    messages: int = 0
    calls: int = 0
    tokens: int = 0
    has_unknown_input: bool = False
    audio_input: bool = False

    def add_text(self, value: object) -> None:
        """Text; null is nothing, and any other value counts as its JSON text."""
        if isinstance(value, str):
            self.texts.append(value)
        elif value is not None:
            self.add_json(value)

    def add_json(self, value: object) -> None:
        """A decoded JSON value that the model reads as JSON."""
        self.texts.append(json_text(value))

    def add_tool(self, definition: object) -> None:
        self.tools.append(json_text(definition))

    def add_base64(self, media_type: object, data: object) -> None:
        """Inline data: an image, audio, or a file that only its size tells of."""
        if not isinstance(data, str):
            self.add_text(data)
            return
        kind = media_type.partition("/")[0].lower() if isinstance(media_type, str) else ""
        if kind == "image":
            width, height = base64_image_size(data)
            self.images.append(ImageInput(width=width, height=height))
            return
        if isinstance(media_type, str) and media_type.lower() == PDF:
            self.add_unseen()  # a page is read as an image too, however few bytes it takes
        self.audio_input |= kind in {"audio", "video"}  # a video has a sound track, charged as audio
        self.opaque_bytes += base64_bytes(data)

    def add_unseen(self) -> None:
        """A reference, by URL or id, to something of unknown size."""
        self.has_unknown_input = True

    def shape(self) -> PromptShape:
        return PromptShape(
            texts=tuple(self.texts),
            messages=self.messages,
            calls=self.calls,
            tools=tuple(self.tools),
            images=tuple(self.images),
            opaque_bytes=self.opaque_bytes,
            tokens=self.tokens,
        )


def json_text(value: object) -> str:
    """A decoded JSON value as compact JSON."""
    return msgspec.json.encode(value).decode()
