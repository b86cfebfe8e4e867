"""The stored objects that a request refers to.

A reference is recognised by the name of its member, anywhere: in parts, tools, tool resources, and members newer than
this code. Data for the model (arguments, schemas, metadata) is skipped: ids in it name nothing at the provider.
Sources: OpenAI's and Anthropic's API references (members `file_id`, `vector_store_ids`, `container`, `conversation`, `prompt` …),
Google's "Files API", "Context caching" and "File search"; Azure's "On Your Data" (`data_sources`) and tools of Foundry
(`project_connection_id`, `memory_store_name`, agents), Mistral's document libraries, xAI's collections.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from tallygate.dialects.body import ParsedBody
from tallygate.domain.stored_object import StoredKind, StoredReference

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
    "project_connection_id": StoredKind.CONNECTION,
    "memory_store_name": StoredKind.MEMORY_STORE,
    "collection_id": StoredKind.COLLECTION,
    "collection_ids": StoredKind.COLLECTION,
    "library_id": StoredKind.LIBRARY,
    "library_ids": StoredKind.LIBRARY,
    "agent_id": StoredKind.AGENT,
    "data_sources": StoredKind.DATA_SOURCE,
    "operationName": StoredKind.OPERATION,
    "operation_name": StoredKind.OPERATION,
}
_URIS: Final = frozenset({"fileUri", "file_uri"})
_RESOURCE_NAMES: Final = frozenset({"fileName", "file_name"})  # in Google's batches; elsewhere the client's own name of a file
# Text, a voice's name or inline data if the value is a string; a reference if it is an object with an id.
_ONLY_BY_ID: Final = frozenset({"prompt", "audio", "voice"})
REFERENCE_NAMES: Final = frozenset(_BY_NAME) - _RESOURCE_NAMES
REFERENCE_KEYS: Final = frozenset(f'"{name}":'.encode() for name in _BY_NAME)  # in the form of `ParsedBody.keys`
# Objects whose `type` determines what their `id` names.
_BY_TYPE: Final[Mapping[str, StoredKind]] = {"item_reference": StoredKind.ITEM, "file_id": StoredKind.FILE}
# A source that is reached with what the request itself brings; any other is read as the account of the service may read it, also
# where nothing is stated (Azure OpenAI, "On Your Data", `authentication`).
_OWN_ACCESS: Final = frozenset(
    {"access_token", "api_key", "connection_string", "encoded_api_key", "key_and_key_id", "username_and_password"}
)
_CURSORS: Final = frozenset({"after", "before", "afterid", "beforeid"})  # folded
_UPDATE: Final = "update"  # docs.gloo.com, "Upload Files": the `item_id` whose content is replaced
_BRACKETS: Final = re.compile(r"[\[\].]+")

# Data for a model or the client's own code: the provider looks up nothing in it.
DATA: Final = frozenset(
    {"arguments", "args", "metadata", "client_metadata", "labels", "response", "attributes", "env", "input_examples"}
    | {"parameters", "parametersJsonSchema", "parameters_json_schema", "input_schema", "schema", "json_schema"}
    | {"responseSchema", "response_schema", "responseJsonSchema", "response_json_schema"}
)
_CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})

# Objects that the provider itself offers under such a name belong to nobody.
_PROVIDERS_OWN_SKILL: Final = "anthropic"
_GEMINI_FILE: Final = re.compile(r"(?:^|/)(files/[A-Za-z0-9_-]+)/?(?:[?#:].*)?$", re.ASCII)
_URI_CHARS_MAX: Final = 8_192  # a search in megabytes of text would block the interpreter
_WEB: Final = ("http://", "https://", "data:")
_GEMINI_HOST: Final = "generativelanguage"  # .googleapis.com, .mtls.googleapis.com
_VERSIONED: Final = re.compile(r"/v1[a-z0-9]*/+files/", re.ASCII)


def body_references(body: ParsedBody[Any]) -> tuple[StoredReference, ...]:
    """Find `stored_references` in a parsed body; most bodies have none, as their keys show."""
    return () if REFERENCE_KEYS.isdisjoint(body.keys_anywhere) else stored_references(body.decoded())


def stored_references(body: object) -> tuple[StoredReference, ...]:
    """The references of a decoded body, each once, in the order of their places."""
    found: dict[StoredReference, None] = {}
    _walk(body, found)
    return tuple(found)


def query_references(query: Iterable[tuple[str, str]], *, listed: str, updated: str = "") -> tuple[StoredReference, ...]:
    """The references of a query.

    listed    the kind of objects in a list, and of its cursors; empty if nothing is listed
    updated   the kind of object that an upload under `update` replaces; empty if none is
    """
    found: dict[StoredReference, None] = {}
    for given, text in query:
        for pair in f"{given}={text}".split(";"):  # some servers also split at semicolons
            name, _, value = pair.partition("=")
            word = folded(name.strip())
            kind = listed if word in _CURSORS else updated if updated and word == _UPDATE else kind_of_field(name)
            if kind and value:
                found[StoredReference(kind, value)] = None
    return tuple(found)


def kind_of_field(name: str) -> str:
    """The kind of object that a query's or form's field names: `file_id`, `file_ids[]`, `tools[0][vectorStoreIds]`; "" for none."""
    words = _BRACKETS.split(name)
    if words[0].strip() in DATA:  # `metadata[conversation]`, by which stored chats are found
        return ""
    return next((kind for word in words if (kind := _BY_FOLDED_NAME.get(folded(word.strip())))), "")


def folded(name: str) -> str:
    """The name without separators and case (Unicode's full case folding, which also folds the long s and the Kelvin sign)."""
    return name.casefold().replace("_", "").replace("-", "")


_BY_FOLDED_NAME: Final[Mapping[str, StoredKind]] = {
    folded(name): kind for name, kind in _BY_NAME.items() if name not in _RESOURCE_NAMES and name not in _ONLY_BY_ID
}


def is_call(block: Mapping[str, Any]) -> bool:
    """Return whether a block's `input` is data, as in Anthropic's tool calls. A list in `input` is not a call's."""
    kind = block.get("type")
    return isinstance(kind, str) and kind in _CALLS and isinstance(block.get("input"), dict)


def item_reference(item: Mapping[str, Any]) -> StoredReference | None:
    """The stored item that an item of a Responses input refers to; None if the item is complete by itself.

    Messages, function calls, compaction triggers and encrypted items (reasoning and compactions) are complete.
    """
    found, kind = item.get("id"), item.get("type")
    if not isinstance(found, str) or not found:
        return None
    if (
        (isinstance(kind, str) and kind in _WHOLE_ITEMS)
        or (kind is None and "role" in item)
        or (kind in ("reasoning", "compaction") and item.get("encrypted_content"))
    ):
        return None
    return StoredReference(StoredKind.ITEM, found)


_WHOLE_ITEMS: Final = frozenset(
    {"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "compaction_trigger"}
)


def _walk(value: object, found: dict[StoredReference, None], *, is_element: bool = False) -> None:
    if isinstance(value, list):
        for each in value:
            _walk(each, found, is_element=True)
    elif isinstance(value, dict):
        by_type, id_ = value.get("type"), value.get("id")
        if isinstance(by_type, str) and by_type in _BY_TYPE and isinstance(id_, str) and id_:
            found[StoredReference(_BY_TYPE[by_type], id_)] = None
        for name, inner in value.items():
            kind = _BY_NAME.get(name)
            if kind is not None:
                _add(kind, name, inner, value, found)
            is_data = name in DATA or (name == "input" and is_element and is_call(value))
            if isinstance(inner, (dict, list)) and not is_data:
                _walk(inner, found)


def _add(kind: StoredKind, name: str, value: object, holder: dict[str, Any], found: dict[StoredReference, None]) -> None:
    """Add an id, an object with an id, or a list of these."""
    if name in _ONLY_BY_ID and not isinstance(value, dict):
        return
    for item in value if isinstance(value, list) else [value]:
        each = data_source(item) if kind is StoredKind.DATA_SOURCE else item.get("id") if isinstance(item, dict) else item
        if not isinstance(each, str) or not each:
            continue
        if kind is StoredKind.SKILL and holder.get("type") == _PROVIDERS_OWN_SKILL:
            continue
        if name in _RESOURCE_NAMES and not each.startswith("files/"):
            continue
        stored = google_file(each) if name in _URIS else operation_id(each) if kind is StoredKind.OPERATION else each
        if stored:
            found[StoredReference(kind, stored)] = None


def google_file(uri: str) -> str:
    """The name of a file at the Gemini API; empty for a page or a video that anybody can read.

    A URI at Google's host that names no file in the expected form is returned whole, since nobody owns such a file. So is one that
    is too long to be searched, and one that leads past the web (`gs://`), where the account of the service reads.
    """
    if len(uri) > _URI_CHARS_MAX:
        return uri
    lower = unquote(uri).lower()
    is_own = not lower.startswith(_WEB) or _GEMINI_HOST in lower or _VERSIONED.search(lower) is not None
    if not is_own:
        return ""
    named = _GEMINI_FILE.search(uri)
    return named[1] if named is not None else uri


def data_source(source: object) -> str:
    """What an entry of `data_sources` names that the account of the service reads: `<endpoint>/<index_name>`; empty for nothing."""
    if not isinstance(source, dict):
        return ""
    read = source.get("parameters")
    stated = read if isinstance(read, dict) else {}
    access = stated.get("authentication")
    if isinstance(access, dict) and isinstance(access.get("type"), str) and access["type"] in _OWN_ACCESS:
        return ""
    return "/".join(str(name) for name in (stated.get("endpoint"), stated.get("index_name")) if name) or StoredKind.DATA_SOURCE


def operation_id(name: str) -> str:
    """The id of an operation at Google, which ends its name: before it stand the model, the project, …"""
    return name.rpartition("/")[2]
