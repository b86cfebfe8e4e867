"""The prompt of an OpenAI-shaped request: messages, items, parts and tools, gathered into a PromptShape.

Parts of an unknown kind count as their JSON text and as input of unknown size, never as an error: the provider
decides what it accepts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tallygate.dialects.image_size import base64_bytes, data_url_image_size
from tallygate.dialects.lenient import items_of, member
from tallygate.dialects.prompt_parts import PDF, PromptParts
from tallygate.domain.prompt import ImageInput, PromptShape

_PDF_URL: Final = f"data:{PDF}"
_PDF_URL_CHARS: Final = len(_PDF_URL)
_DATA: Final = "data:"
_DATA_CHARS: Final = len(_DATA)
_IMAGE_DATA: Final = "data:image/"
_IMAGE_CHARS: Final = len(_IMAGE_DATA)
_TEXT_OF: Final[Mapping[str, str]] = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "reasoning_text": "text",
    "summary_text": "text",
    "refusal": "refusal",
}


_IMAGE: Final = frozenset({"image_url", "file_id"})
_AUDIO: Final = frozenset({"input_audio"})
_FILE: Final = frozenset({"file", "file_id", "filename", "file_data"})
# Members of the objects inside such parts.
_INSIDE: Final = frozenset({"url", "detail", "data", "format"}) | _FILE


@dataclass(slots=True, kw_only=True)
class OpenAiPrompt(PromptParts):
    """Builds a PromptShape from OpenAI's messages, items and parts."""

    names: int = 0

    def shape(self) -> PromptShape:
        return PromptShape(
            texts=tuple(self.texts),
            messages=self.messages,
            names=self.names,
            tools=tuple(self.tools),
            schemas=tuple(self.schemas),
            images=tuple(self.images),
            opaque_bytes=self.opaque_bytes,
            tokens=self.tokens,
        )

    def add_raw_schema(self, schema: msgspec.Raw) -> None:
        """Add a schema that is not decoded, as `add_schema` does with one that is."""
        if (text := bytes(schema).decode()) not in ("", "null"):
            self.schemas.append(text)

    def add_raw(self, value: msgspec.Raw) -> None:
        """Add a value that the model reads as its JSON text; null or an absent value adds nothing."""
        if (text := bytes(value).decode()) not in ("", "null"):
            self.texts.append(text)

    def add_raw_unknown_members(self, members: Mapping[str, msgspec.Raw], known: frozenset[str]) -> None:
        """Do as `add_unknown_members` does, but decode only the unknown members."""
        if not members.keys() <= known:
            unknown = {name: msgspec.json.decode(value) for name, value in members.items() if name not in known}
            self.add_unknown_members(unknown, known)

    def add_tools(self, tools: Sequence[msgspec.Raw] | None) -> None:
        self.tools += [bytes(tool).decode() for tool in tools or ()]

    def add_content(self, content: object) -> None:
        """Add the content of a message or a tool's output: text, or parts."""
        if not isinstance(content, list):
            self.add_text(content)
        for part in items_of(content):
            self.add_part(part)

    def add_part(self, part: object) -> None:
        """Add one part of chat content (`text`, `image_url`, `input_audio`, `file`) or of Responses content (`input_…`)."""
        if isinstance(part, str):
            self.add_text(part)
            return
        if not isinstance(part, dict):
            self.add_json(part)
            self.add_unseen()
            return
        kind = part.get("type")
        text_key = _TEXT_OF.get(kind) if isinstance(kind, str) else None
        if text_key is not None:
            self.add_text(part.get(text_key))
            self.add_unknown_members(part, frozenset({text_key}))
        elif kind in ("image_url", "input_image"):
            self.add_image(part)
            self.add_unknown_members(part, _IMAGE)
        elif kind == "input_audio":
            self._add_inline(member(part.get("input_audio"), "data"))
            self.audio_input = True
            self._add_inside(part.get("input_audio"))
            self.add_unknown_members(part, _AUDIO)
        elif kind in ("file", "input_file"):
            self._add_file(part.get("file") or part)
            self._add_inside(part.get("file"))
            self.add_unknown_members(part, _FILE)
        else:
            self.add_json(part)
            self.add_unseen()

    def add_image(self, part: object) -> None:
        """Add an image by `image_url`, an object in chat completions and a string in Responses, or by file id."""
        image: object = member(part, "image_url")
        url = member(image, "url") if isinstance(image, dict) else image
        detail = member(image, "detail") or member(part, "detail")
        width, height = data_url_image_size(url) if isinstance(url, str) else (0, 0)
        if not width and isinstance(url, str) and url[:_DATA_CHARS].lower() == _DATA and url[:_IMAGE_CHARS].lower() != _IMAGE_DATA:
            self._add_inline(url)  # not an image, in the place of one
            self.add_unseen()
        self._add_inside(image)
        self.image_files += url is None and isinstance(member(part, "file_id"), str)
        self.images.append(ImageInput(detail=detail if isinstance(detail, str) else "auto", width=width, height=height))

    def _add_file(self, file: object) -> None:
        name, data = member(file, "filename"), member(file, "file_data")
        self.add_text(name)
        if data is None and isinstance(member(file, "file_id"), str) and member(file, "file_url") is None:
            self.add_referred()
            return
        self._add_inline(data)
        is_pdf = isinstance(name, str) and name.lower().endswith(".pdf")
        if is_pdf or (isinstance(data, str) and data[:_PDF_URL_CHARS].lower() == _PDF_URL):
            self.add_unseen()  # a page is read as an image too, however few bytes it has

    def _add_inside(self, inside: object) -> None:
        """Add the other members of the object inside a part."""
        if isinstance(inside, dict):
            self.add_unknown_members(inside, _INSIDE)

    def _add_inline(self, data: object) -> None:
        """Add base64 or a data URL; otherwise an id or a URL stands for content that is not in the request."""
        if isinstance(data, str):
            self.opaque_bytes += base64_bytes(data.rpartition(",")[2])
        else:
            self.add_unseen()


class ChatMessage(msgspec.Struct, gc=False):
    """A message of the conversation's history: the members that the model reads."""

    content: str | list[Any] | None = None
    name: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    function_call: msgspec.Raw = msgspec.Raw()
    refusal: Any = None
    reasoning_content: Any = None
    audio: Any = None


MESSAGE_MEMBERS: Final = frozenset(ChatMessage.__struct_fields__)


def add_message(draft: OpenAiPrompt, message: ChatMessage) -> None:
    draft.messages += 1
    draft.add_content(message.content)
    if message.name:
        draft.names += 1
        draft.add_text(message.name)
    draft.add_text(message.refusal)
    draft.add_text(message.reasoning_content)
    for call in message.tool_calls or ():
        draft.add_raw(call)
    draft.add_raw(message.function_call)
    if message.audio is not None:  # the id of an earlier answer
        draft.add_referred()
        draft.audio_input = True
