"""The countable parts of a prompt, gathered while a dialect walks through a request."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tallygate.dialects.image_size import base64_bytes, base64_image_size
from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.domain.stored_object import StoredKind, StoredReference

PDF: Final = "application/pdf"
LABEL_CHARS_MAX: Final = 64
# Members that are no text for the model if they are short: the type of a part, the call that it answers.
_LABELS: Final = frozenset(
    {"role", "type", "id", "status", "tool_call_id", "call_id", "tool_use_id", "item_id", "detail", "format", "phase", "channel"}
)
# Members of a whole request that control the answer, and are never part of the prompt (OpenAI's and Anthropic's API references).
# Any other member that a dialect does not read counts as text, since the model may read it.
_NO_PROMPT: Final = frozenset(
    {"metadata", "user", "user_id", "safety_identifier", "prompt_cache_key", "stop", "stop_sequences", "logit_bias", "include"}
    | {"service_tier", "tool_choice", "reasoning", "reasoning_effort", "verbosity", "truncation", "thinking", "modalities"}
    | {"audio", "stream_options", "inference_geo", "speed", "encoding_format", "cache_control"}
    | {"client_metadata"}  # Codex's labels of its turn (openai/codex, `ResponsesApiRequest`)
)


@dataclass(slots=True, kw_only=True)
class PromptParts:
    """Builds a PromptShape. Members that a dialect does not know count as their JSON text, never as nothing.

    image_files         images in stored files: they are known to be read as images, whatever the file's size
    has_unseen_input    the model will read something that nobody has seen
    has_referred_input  the model will read a stored object, which is among the references
    audio_input         the inline data has audio
    """

    texts: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    schemas: list[str] = field(default_factory=list)
    images: list[ImageInput] = field(default_factory=list)
    opaque_bytes: int = 0
    messages: int = 0
    calls: int = 0
    tokens: int = 0
    image_files: int = 0
    has_unseen_input: bool = False
    has_referred_input: bool = False
    audio_input: bool = False

    def has_unknown_input(self, references: Collection[StoredReference]) -> bool:
        """Return whether there is input of unknown size. A reference outside of all parts may be read as well, wherever it is."""
        if self.has_unseen_input or self.has_referred_input:
            return True
        return bool(references) and sum(each.kind != StoredKind.VOICE for each in references) > self.image_files

    def add_text(self, value: object) -> None:
        """Add text. Null adds nothing, and any other value its JSON text."""
        if isinstance(value, str):
            self.texts.append(value)
        elif value is not None:
            self.add_json(value)

    def add_unknown_members(self, holder: Mapping[str, Any], known: frozenset[str], *, is_request: bool = False) -> None:
        """Add the text of members that are not among `known`: unknown members may still reach the model."""
        if holder.keys() <= known:
            return
        for name, value in holder.items():
            if name in known or (is_request and name in _NO_PROMPT):
                continue
            if isinstance(value, (dict, list)) or (
                isinstance(value, str) and not (name in _LABELS and len(value) <= LABEL_CHARS_MAX)
            ):
                self.add_text(value)

    def add_signature(self, signature: object) -> None:
        """Add a reasoning signature: encrypted reasoning that the model reads again. A short one has none."""
        if isinstance(signature, str) and len(signature) > LABEL_CHARS_MAX:
            self.opaque_bytes += base64_bytes(signature)

    def add_json(self, value: object) -> None:
        """Add a decoded JSON value that the model reads as JSON."""
        self.texts.append(json_text(value))

    def add_schema(self, schema: object) -> None:
        """Add the schema of the answer. Null adds nothing."""
        if schema is not None:
            self.schemas.append(json_text(schema))

    def add_tool(self, definition: object) -> None:
        self.tools.append(json_text(definition))

    def add_base64(self, media_type: object, data: object) -> None:
        """Add inline data: an image, audio, or a file that is counted by its size."""
        if not isinstance(data, str):
            self.add_text(data)
            return
        kind = media_type.partition("/")[0].lower() if isinstance(media_type, str) else ""
        if kind == "image":
            width, height = base64_image_size(data)
            self.images.append(ImageInput(width=width, height=height))
            return
        if isinstance(media_type, str) and media_type.lower() == PDF:
            self.add_unseen()  # a page is read as an image too, however few bytes it has
        self.audio_input |= kind in {"audio", "video"}  # a video has a sound track, charged as audio
        self.opaque_bytes += base64_bytes(data)

    def add_unseen(self) -> None:
        """Note input of unknown size: a document by its URL, results of a tool at the provider, a stored template."""
        self.has_unseen_input = True

    def add_referred(self) -> None:
        """Note a stored object, whose size may be on record."""
        self.has_referred_input = True

    def shape(self) -> PromptShape:
        return PromptShape(
            texts=tuple(self.texts),
            messages=self.messages,
            calls=self.calls,
            tools=tuple(self.tools),
            schemas=tuple(self.schemas),
            images=tuple(self.images),
            opaque_bytes=self.opaque_bytes,
            tokens=self.tokens,
        )


def json_text(value: object) -> str:
    """A decoded JSON value as compact JSON."""
    return msgspec.json.encode(value).decode()
