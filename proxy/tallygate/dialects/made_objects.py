"""Objects that an answer names, parsed as it streams through: the organization that gets an object's id has created it.

Only the places in which a provider puts its own ids are read. Answers echo the client's input in other members (metadata, tools,
the bytes of a file), which must never make the client the owner of an object that it names there.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.cut_json import closed_json
from tallygate.dialects.first_bytes import Framing, framing, framing_of, without_lead
from tallygate.dialects.lenient import lenient_decode
from tallygate.dialects.references import google_file, item_reference, operation_id
from tallygate.dialects.sse import SseEvent, SseParser
from tallygate.domain.made_object import ID_CHARS_MAX, MADE_MAX
from tallygate.domain.stored_object import StoredReference

BODY_BYTES_MAX: Final = 4 << 20  # of an answer that is parsed whole; of a longer or cut answer only the beginning is
TOKENS_MAX: Final = 2**53
_BEGINNING_BYTES: Final = 64 << 10
RESPONSE: Final = "response"
# A response that is not kept: nothing of it can be named later, but clients hand back the items of tools that ran at the provider.
UNKEPT_RESPONSE: Final = "unkept_response"
_MESSAGE, _CONTAINER = "message", b'"container"'
_OPERATION, _GENERATED = "operation", "file"  # of videos at Google, whose answers name both otherwise than requests do
_STORED_AS: Final = {"openai_responses": RESPONSE, "anthropic_messages": _MESSAGE}  # what answers of a dialect are stored as

_Paths = tuple[tuple[str, tuple[str, ...]], ...]
# By kind of answer: the kind of each object in it and the path of its id. "[]" goes through a list.
_PATHS: Final[Mapping[str, _Paths]] = {
    "batch": (("batch", ("id",)), ("file", ("output_file_id",)), ("file", ("error_file_id",))),
    "chat": (("chat", ("chat_id",)),),
    "fine_tuning_job": (("fine_tuning_job", ("id",)), ("file", ("result_files", "[]"))),
    "chat_completion": (
        ("chat_completion", ("id",)),
        ("audio", ("choices", "[]", "message", "audio", "id")),
        ("audio", ("choices", "[]", "delta", "audio", "id")),
    ),
    "content_item": (("content_item", ("id",)), ("content_item", ("item_id",))),
    "ingestion": (("content_item", ("ingesting", "[]")),),
    _OPERATION: (
        (_OPERATION, ("name",)),
        (_GENERATED, ("response", "generateVideoResponse", "generatedSamples", "[]", "video", "uri")),
    ),
    _MESSAGE: (("container", ("container", "id")),),
    RESPONSE: (
        (RESPONSE, ("id",)),
        ("conversation", ("conversation", "id")),
        ("item", ("output", "[]", "id")),
        ("container", ("output", "[]", "container_id")),
    ),
    UNKEPT_RESPONSE: (("container", ("output", "[]", "container_id")), ("container", ("item", "container_id"))),
    "run": (("thread", ("thread_id",)),),
    "upload": (("upload", ("id",)), ("file", ("file", "id"))),
    "video": (("video", ("id",)), ("video", ("request_id",))),  # xAI's is named by the request that asked for it
}
# Google's answers are the object itself, an object around it, or an operation named like it; a batch's output files are inside.
_GOOGLE_PATHS: Final[_Paths] = (("", ("name",)), ("", ("file", "name")), ("file", ("response", "responsesFile")))
_BATCHES: Final = "batches/"
_GOOGLE_NAME: Final = re.compile(r"[a-zA-Z]{1,32}/[A-Za-z0-9_-]{1,128}")

# Events of a stream that name an object, and the path of the answer in them.
_STREAMED: Final[Mapping[str, Mapping[bytes, tuple[str, ...]]]] = {
    RESPONSE: {
        b"response.created": ("response",),
        b"response.queued": ("response",),
        b"response.in_progress": ("response",),
        b"response.completed": ("response",),
        b"response.incomplete": ("response",),
        b"response.failed": ("response",),
    },
    UNKEPT_RESPONSE: {b"response.output_item.done": ()},
    _MESSAGE: {b"message_start": ("message",), b"message_delta": ("delta",), b"content_block_start": ()},
    "chat_completion": {b"chat.completion.chunk": ()},
    "chat": {b"chat_id": ()},
    "run": {b"thread.run.created": ()},
}
# Blocks of Claude's code execution, whose results name the files that it wrote ("Code execution tool", "Retrieve generated files").
_EXECUTED: Final = frozenset({"code_execution_tool_result", "bash_code_execution_tool_result"})
_CITED: Final = "container_file_citation"  # a file that code wrote, in OpenAI's text ("Code interpreter", "Working with files")
_MARK_WITHIN: Final = 400  # bytes from an event's beginning: its type or its kind stands there
_ANYTHING: Final = msgspec.json.Decoder()
_decode: Final = _ANYTHING.decode


def objects_in(answer: object, kind: str, *, prefix: str = "") -> list[StoredReference]:
    """The objects that an answer of this kind names. prefix: of Google's resource names."""
    found: dict[StoredReference, None] = {}
    paths = _GOOGLE_PATHS if prefix else _PATHS.get(kind, ((kind, ("id",)),))
    for made, path in paths:
        for shown in _at(answer, path):
            text = shown
            if kind == _OPERATION:
                text = operation_id(shown) if made == _OPERATION else google_file(shown)
            if 0 < len(text) <= ID_CHARS_MAX and (not prefix or _is_google_name(text, prefix if not made else "files/")):
                found[StoredReference(made or kind, text)] = None
                if prefix == _BATCHES and not made:  # `/v1/batches/{batch_id}` is also where other APIs name a batch by its id
                    found[StoredReference(kind, text.removeprefix(_BATCHES))] = None
    found.update(dict.fromkeys(each for each in _handed_back(answer, kind) if len(each.id) <= ID_CHARS_MAX))
    return list(found)[:MADE_MAX]


def _handed_back(answer: object, kind: str) -> Iterator[StoredReference]:
    """What parts of an answer, or of an event, name beside themselves: a client that hands a part back names it again.

    Only parts that the provider writes are read, never what a tool of the client's choice said.
    """
    if not isinstance(answer, dict):
        return
    if kind in (RESPONSE, UNKEPT_RESPONSE):
        for item in _objects(answer.get("output") or [answer.get("item")]):
            if kind == UNKEPT_RESPONSE and (named := item_reference(item)) is not None:
                yield named
            for part in _objects(item.get("content")):
                for cited in _objects(part.get("annotations")):
                    if cited.get("type") == _CITED:
                        yield from (StoredReference("container", each) for each in _at(cited, ("container_id",)))
                        yield from (StoredReference("file", each) for each in _at(cited, ("file_id",)))
    elif kind == _MESSAGE:
        for block in _objects(answer.get("content") or [answer.get("content_block")]):
            if block.get("type") in _EXECUTED:
                yield from (StoredReference("file", each) for each in _at(block, ("content", "content", "[]", "file_id")))


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


class MadeReader:
    """Reads one answer on its way to the client. `found` grows meanwhile; `is_unread` is set once something could not be read."""

    def __init__(self, kind: str, *, prefix: str, content_type: str) -> None:
        self.found: dict[StoredReference, None] = {}
        self.is_unread = False
        self.tokens: int | None = None  # of cached content, which begins a prompt
        self._kind = kind
        self._prefix = prefix
        self._label = framing(content_type, stream=False)
        self._begun: bytes | None = b""  # until they tell what the body is
        self._events: SseParser | None = None
        self._body = bytearray()
        self._is_long = False

    def feed(self, data: bytes) -> bool:
        """Take bytes; whether objects were found in them."""
        if self._begun is not None:
            data = self._begun + data
            found = framing_of(without_lead(data)) if len(data) <= _BEGINNING_BYTES else Framing.UNREAD
            self._begun = data if found is None else None
            if found is None:
                return False
            if found is Framing.EVENTS or (found is Framing.UNREAD and self._label is Framing.EVENTS):
                self._events = SseParser()
        if self._events is not None:
            return self._read(self._events.feed(data))
        if not self._is_long:
            self._body += data
            if len(self._body) > BODY_BYTES_MAX:
                self._is_long = True
                del self._body[_BEGINNING_BYTES:]
        return False

    def end_body(self) -> None:
        """The answer is over, whole or cut."""
        if self._events is not None:
            self._read(self._events.end_stream())
            return
        body, self._body, self._begun = bytes(self._body) or self._begun or b"", bytearray(), None
        if not body:
            return
        answer = lenient_decode(body, _ANYTHING)
        if answer is None:
            answer = _beginning_of(body)
        self.found.update(dict.fromkeys(objects_in(answer, self._kind, prefix=self._prefix)))
        self.tokens = _tokens_of_cache(answer) if self._kind == "cached_content" else None
        self.is_unread = self._is_long or not isinstance(answer, dict)

    def _read(self, events: list[SseEvent]) -> bool:
        before = len(self.found)
        marks = _STREAMED.get(self._kind, {})
        for event in events:
            head = event.raw[:_MARK_WITHIN]
            path = next((path for mark, path in marks.items() if mark in head), None)
            if path is None or not event.data:
                continue
            try:
                answer = _decode(event.data)
            except (msgspec.DecodeError, RecursionError):
                continue
            for key in path:
                answer = answer.get(key) if isinstance(answer, dict) else None
            if len(self.found) < MADE_MAX:
                self.found.update(dict.fromkeys(objects_in(answer, self._kind)))
        return len(self.found) > before


def _tokens_of_cache(answer: object) -> int | None:
    """`usageMetadata.totalTokenCount` of Google's cached contents."""
    usage = answer.get("usageMetadata") if isinstance(answer, dict) else None
    tokens = usage.get("totalTokenCount") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens < TOKENS_MAX else None


def _beginning_of(body: bytes) -> object:
    """The available part of an answer that broke off, or was too long."""
    closed = closed_json(body[:_BEGINNING_BYTES])
    try:
        return None if closed is None else _decode(closed.text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _at(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    for depth, key in enumerate(path):
        if key == "[]":
            for item in value if isinstance(value, list) else ():
                yield from _at(item, path[depth + 1 :])
            return
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, str):
        yield value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


def _is_google_name(text: str, prefix: str) -> bool:
    return text.startswith(prefix) and _GOOGLE_NAME.fullmatch(text) is not None


def objects_of_result(dialect: str, answer: bytes) -> tuple[StoredReference, ...]:
    """The objects in a whole answer of that dialect which came as the result of a batch."""
    kind = _STORED_AS.get(dialect)
    if kind is None or not answer or len(answer) > BODY_BYTES_MAX or (kind == _MESSAGE and _CONTAINER not in answer):
        return ()
    return tuple(objects_in(lenient_decode(answer, _ANYTHING), kind))
