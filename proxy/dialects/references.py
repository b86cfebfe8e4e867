"""Which stored objects a request refers to.

A reference is known by the name of its member, wherever it stands: parts, tools, tool resources, and members that are newer than
this code. What the model reads as data (arguments, schemas, metadata) is passed over: ids in it name nothing at the provider.
Sources: OpenAI's and Anthropic's API references (members `file_id`, `vector_store_ids`, `container`, `conversation`, `prompt` …),
Google's "Files API", "Context caching" and "File search".
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from proxy.dialects.body import ReadBody, read_body
from proxy.domain.errors import RequestRejectedError
from proxy.domain.stored_object import StoredKind, StoredReference

_BY_NAME: Final[Mapping[str, StoredKind]] = {
    "previous_response_id": StoredKind.RESPONSE,
    "response_id": StoredKind.RESPONSE,
    "completion_id": StoredKind.CHAT_COMPLETION,
    "conversation": StoredKind.CONVERSATION,
    "conversation_id": StoredKind.CONVERSATION,
    "file_id": StoredKind.FILE,
    "file_ids": StoredKind.FILE,
    "input_file_id": StoredKind.FILE,
    "input_file_ids": StoredKind.FILE,
    "output_file_id": StoredKind.FILE,
    "training_file": StoredKind.FILE,
    "validation_file": StoredKind.FILE,
    "vector_store_id": StoredKind.VECTOR_STORE,
    "vector_store_ids": StoredKind.VECTOR_STORE,
    "container": StoredKind.CONTAINER,
    "container_id": StoredKind.CONTAINER,
    "container_ids": StoredKind.CONTAINER,
    "assistant_id": StoredKind.ASSISTANT,
    "thread_id": StoredKind.THREAD,
    "batch_id": StoredKind.BATCH,
    "upload_id": StoredKind.UPLOAD,
    "skill_id": StoredKind.SKILL,
    "prompt": StoredKind.PROMPT,
    "prompt_id": StoredKind.PROMPT,
    "audio": StoredKind.AUDIO,
    "voice": StoredKind.VOICE,
    "cachedContent": StoredKind.CACHED_CONTENT,
    "cached_content": StoredKind.CACHED_CONTENT,
    "fileUri": StoredKind.FILE,
    "file_uri": StoredKind.FILE,
    "fileSearchStoreNames": StoredKind.FILE_SEARCH_STORE,
    "file_search_store_names": StoredKind.FILE_SEARCH_STORE,
    "previous_interaction_id": StoredKind.INTERACTION,
    "chat_id": StoredKind.CHAT,
    "item_id": StoredKind.CONTENT_ITEM,
    "item_ids": StoredKind.CONTENT_ITEM,
    "fileName": StoredKind.FILE,
    "file_name": StoredKind.FILE,
}
_URIS: Final = frozenset({"fileUri", "file_uri"})
_RESOURCE_NAMES: Final = frozenset({"fileName", "file_name"})  # Google's batches; elsewhere what a client calls a file
# Text, a voice's name or inline data where they are a string; a reference where they are an object with an id.
_ONLY_BY_ID: Final = frozenset({"prompt", "audio", "voice"})
REFERENCE_NAMES: Final = frozenset(_BY_NAME) - _RESOURCE_NAMES
_KEYS: Final = frozenset(f'"{name}":'.encode() for name in _BY_NAME)  # as a ReadBody has them
_BY_LOWER_KEY: Final = {key.lower(): key for key in _KEYS}
_ANYTHING: Final = msgspec.json.Decoder()
_BY_LOWER_NAME: Final[Mapping[str, StoredKind]] = {
    name.lower(): kind for name, kind in _BY_NAME.items() if name not in _RESOURCE_NAMES and name not in _ONLY_BY_ID
}
_CURSORS: Final = frozenset({"after", "before", "after_id", "before_id"})
_FORM_HEADER: Final = re.compile(
    rb"^[ \t]*content-disposition[ \t]*:([^\r\n]{0,900})(\r?\n[ \t]|[^\r\n])?", re.IGNORECASE | re.MULTILINE
)
_FORM_NAME: Final = re.compile(  # the name may be escaped, or encoded (RFC 5987)
    rb"[;\s]name\*?\s*=\s*(?:[a-z0-9-]{0,40}'[a-z-]{0,40}')?\"?([\w\\%-]{1,80})", re.IGNORECASE
)
FORM_FIELD_BYTES_MAX: Final = 1_200  # of a field's header up to the end of its name

# Data that a model or the client's own code reads: nothing in it is looked up at the provider.
DATA: Final = frozenset(
    {"arguments", "args", "metadata", "labels", "response", "attributes", "env", "input_examples"}
    | {"parameters", "parametersJsonSchema", "parameters_json_schema", "input_schema", "schema", "json_schema"}
    | {"responseSchema", "response_schema", "responseJsonSchema", "response_json_schema"}
)
_CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})

# What the provider itself offers under such a name belongs to nobody.
_PROVIDERS_OWN_SKILL: Final = "anthropic"
_GEMINI_FILE: Final = re.compile(r"(?:^|/)(files/[A-Za-z0-9_-]+)/?(?:[?#:].*)?$", re.ASCII)
_GEMINI_HOST: Final = "generativelanguage.googleapis.com"
_VERSIONED: Final = re.compile(r"/v1[a-z0-9]*/files/", re.ASCII)


def body_references(body: ReadBody[Any]) -> tuple[StoredReference, ...]:
    """As `stored_references`; most bodies have none, which their keys tell."""
    return () if _KEYS.isdisjoint(body.keys_anywhere) else stored_references(body.decoded())


def stored_references(body: object) -> tuple[StoredReference, ...]:
    """The references of a decoded body, each once, in the order of their places."""
    found: dict[StoredReference, None] = {}
    _walk(body, found)
    return tuple(found)


def references_of_any(body: bytes) -> tuple[StoredReference, ...]:
    """The references of a JSON body that no dialect reads. Raises RequestRejectedError.

    A key that equals the name of one but for its case is refused: some servers read keys without case.
    """
    read = read_body(body, _ANYTHING)
    for key in read.keys_anywhere:
        name = _BY_LOWER_KEY.get(key.lower())
        if name is not None and name != key:
            shown = key.decode(errors="replace")[1:-2]
            raise RequestRejectedError(f"Unknown key '{shown}': its case differs from {name.decode()[1:-2]}.", param=shown)
    return body_references(read)


def query_references(query: Iterable[tuple[str, str]], *, listed: str) -> tuple[StoredReference, ...]:
    """What a query names. listed: the kind that a list is of, which its cursors are of too; empty where nothing is listed."""
    found: dict[StoredReference, None] = {}
    for given, text in query:
        for pair in f"{given}={text}".split(";"):  # some servers split there too
            name, _, value = pair.partition("=")
            lower = name.strip().lower().removesuffix("[]")
            kind = listed if lower in _CURSORS else _BY_LOWER_NAME.get(lower, "")
            if kind and value:
                found[StoredReference(kind, value)] = None
    return tuple(found)


def form_reference(piece: bytes) -> str:
    """The field of a multipart form by which this piece of it names a stored object; empty if none does."""
    for header in _FORM_HEADER.finditer(piece):
        kind = header[1].strip()[:9].lower()
        if header[2] and kind in (b"", b"form-data"):  # folded, or longer than any that is needed; not that of a mail in a file
            return "content-disposition"
        for field in _FORM_NAME.finditer(header[1]):
            name = unquote(field[1].replace(b"\\", b"").decode()).lower()
            if name in _BY_LOWER_NAME:
                return name
    return ""


def is_call(block: Mapping[str, Any]) -> bool:
    """Whether a block's `input` is data: Anthropic's calls of tools."""
    kind = block.get("type")
    return isinstance(kind, str) and kind in _CALLS


def item_reference(item: Mapping[str, Any]) -> StoredReference | None:
    """The stored item that an item of a Responses input stands for; None where the item itself says everything.

    Messages and calls of functions stand for themselves, and so does reasoning that comes encrypted.
    """
    found, kind = item.get("id"), item.get("type")
    if not isinstance(found, str) or not found:
        return None
    if (
        (isinstance(kind, str) and kind in _WHOLE_ITEMS)
        or (kind is None and "role" in item)
        or (kind == "reasoning" and item.get("encrypted_content"))
    ):
        return None
    return StoredReference(StoredKind.ITEM, found)


_WHOLE_ITEMS: Final = frozenset({"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})


def _walk(value: object, found: dict[StoredReference, None]) -> None:
    if isinstance(value, list):
        for each in value:
            _walk(each, found)
    elif isinstance(value, dict):
        for name, inner in value.items():
            kind = _BY_NAME.get(name)
            if kind is not None:
                _add(kind, name, inner, value, found)
            if isinstance(inner, (dict, list)) and name not in DATA and not (name == "input" and is_call(value)):
                _walk(inner, found)


def _add(kind: StoredKind, name: str, value: object, holder: dict[str, Any], found: dict[StoredReference, None]) -> None:
    """An id, a list of ids, or an object with an id."""
    if isinstance(value, dict):
        value = value.get("id")
    elif name in _ONLY_BY_ID:
        return
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, str) or not each:
            continue
        if kind is StoredKind.SKILL and holder.get("type") == _PROVIDERS_OWN_SKILL:
            continue
        if name in _RESOURCE_NAMES and not each.startswith("files/"):
            continue
        stored = _google_file(each) if name in _URIS else each
        if stored:
            found[StoredReference(kind, stored)] = None


def _google_file(uri: str) -> str:
    """The name of a file at the Gemini API; empty for a URI of anything else, such as a public page or a video.

    A URI at Google's host that names no file as expected stands whole: nobody has such a file.
    """
    lower = uri.lower()
    is_own = "://" not in uri or _GEMINI_HOST in lower or _VERSIONED.search(lower) is not None
    if not is_own:
        return ""
    named = _GEMINI_FILE.search(uri)
    return named[1] if named is not None else uri
