"""Objects that providers store, and that requests refer to by their ids."""

from enum import StrEnum

import msgspec


class StoredKind(StrEnum):
    """The kind of object that a reference names: one word each, whatever the provider calls it."""

    AGENT = "agent"
    ASSISTANT = "assistant"
    AUDIO = "audio"
    BATCH = "batch"
    CACHED_CONTENT = "cached_content"
    CHAT = "chat"
    CHAT_COMPLETION = "chat_completion"
    COLLECTION = "collection"
    CONNECTION = "connection"
    CONTAINER = "container"
    CONTENT_ITEM = "content_item"
    CONVERSATION = "conversation"
    DATA_SOURCE = "data_source"
    FILE = "file"
    FILE_SEARCH_STORE = "file_search_store"
    INTERACTION = "interaction"
    ITEM = "item"
    LIBRARY = "library"
    MEMORY_STORE = "memory_store"
    OPERATION = "operation"
    PROMPT = "prompt"
    RESPONSE = "response"
    SKILL = "skill"
    THREAD = "thread"
    UPLOAD = "upload"
    VECTOR_STORE = "vector_store"
    VOICE = "voice"


class StoredReference(msgspec.Struct, frozen=True):
    """One object that a request names.

    kind a StoredKind, or another word from an operator's route
    id   as spelled in the provider's answers; Google's are resource names ("files/abc", "cachedContents/abc")
    """

    kind: str
    id: str
