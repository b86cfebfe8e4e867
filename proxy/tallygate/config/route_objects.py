"""The stored objects that a route creates, names, lists and deletes.

Known APIs show it in their paths: a noun, below it one object, below that its contents. routes.yaml states it for other
paths. A parameter without any statement names an object of its own kind, which nobody owns until it is
adopted, so a custom route is closed by default. Sources: the API references of OpenAI (files, uploads, responses,
chat/completions, conversations, batches, vector_stores, containers, assistants, threads, fine_tuning, evals, videos, skills),
Anthropic (files, messages/batches, skills) and Google (files, cachedContents, batches, operations, fileSearchStores, tunedModels,
corpora), and Gloo's (engine, ingestion, chat).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

SHARED: Final = "shared"  # of a parameter: its object is the same for everybody, or lies inside another parameter's object
INGESTION: Final = "ingestion"  # of an answer: it names created items, and items that existed before
_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]*)\*?\}")
_SHARED_PARAMETERS: Final = frozenset({"model", "publisher_id"})
_NOUNS: Final[Mapping[str, str]] = {
    "assistants": "assistant",
    "batches": "batch",
    "cachedContents": "cached_content",
    "chat/completions": "chat_completion",
    "containers": "container",
    "conversations": "conversation",
    "corpora": "corpus",
    "evals": "eval",
    "fileSearchStores": "file_search_store",
    "files": "file",
    "fine_tuning/jobs": "fine_tuning_job",
    "interactions": "interaction",
    "item": "content_item",
    "items": "content_item",
    "messages": "message",
    "messages/batches": "batch",
    "responses": "response",
    "skills": "skill",
    "threads": "thread",
    "tunedModels": "tuned_model",
    "uploads": "upload",
    "vector_stores": "vector_store",
    "videos": "video",
}
_NOUN_SEGMENTS_MAX: Final = 2
_ANSWERS_WITH_OTHERS: Final = (
    frozenset(  # answers about one object that name others: a batch's files, an upload's, a response's containers
        {
            ("GET", "batch", ""),
            ("POST", "batch", "cancel"),
            ("POST", "upload", "complete"),
            ("GET", "response", ""),
            ("POST", "response", "cancel"),
            ("POST", "response", "compact"),
            ("GET", "fine_tuning_job", ""),
        }
    )
)
_SPECIAL: Final[Mapping[tuple[str, str], str]] = {  # objects created at paths without a noun of their own
    ("POST", "/v1/threads/runs"): "run",
    ("POST", "/ai/v1/message"): "chat",
    ("POST", "/ai/v1/message/kallm"): "chat",
    ("POST", "/ingestion/v2/files"): INGESTION,
    ("POST", "/ingestion/v1/real_time_upload"): INGESTION,
    ("POST", "/ai/ingestion/v1/real_time_upload"): INGESTION,
}
# OpenAI's conversations are written to, and no model reads them there. At Mistral ("Conversations") the same paths generate, by
# members that OpenAI's do not have: nothing would be held or charged.
_CONVERSATIONS: Final = re.compile(r"/conversations(?:/\{\w+\}(?:/items)?)?$")
_WRITTEN: Final = ("items", "metadata")
_BY_IDS: Final[Mapping[tuple[str, str], str]] = {  # Gloo's cookbook, "rag-pipeline-part-2": edit, bulk edit and clean-up
    ("PATCH", "/engine/v2/item"): "content_item",
    ("PATCH", "/engine/v2/items"): "content_item",
    ("DELETE", "/engine/v2/items"): "content_item",
}
_CHANGED_IN_PLACE: Final = ("/item",)  # a PATCH there changes one object, which its body names
_ASKS: Final[Mapping[tuple[str, str], tuple[str, str]]] = {("GET", "/ai/v1/chat"): ("chat_id", "chat")}
_GOOGLE_BATCHES: Final = (":batchGenerateContent", ":asyncBatchEmbedContent")
_GOOGLE_VIDEOS: Final = ":predictLongRunning"
_GOOGLE_VERSIONS: Final = frozenset({"v1beta", "v1alpha"})
_ITEM_PARAMETERS: Final[Mapping[str, str]] = {"/engine/v1/files/{file_id}/snippets": "content_item"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteObjects:
    """A route's stored objects. Kinds are words such as "file"; "" for none.

    makes     2xx answers name created objects of this kind, which belong to the caller's organization
    lists     2xx answers list objects of this kind
    names     (parameter, kind) of the path; SHARED if nobody owns the object
    deletes   the named object is gone after a 2xx
    prefix    before a parameter's value in an id: Google's ids are resource names ("files/abc")
    is_bulk   deletes or changes objects without naming them
    by_ids    the kind of object that a body must name by ids, so that the request affects nothing else; "" for none
    written   the only members that a body may have, as any other may ask some service to generate; empty for all
    asks      (parameter, kind) required in the query: without it the answer would cover everybody's objects
    needs_no_name  a request may have no name of a stored object, in its path or anywhere else
    """

    makes: str = ""
    lists: str = ""
    names: tuple[tuple[str, str], ...] = ()
    deletes: bool = False
    prefix: str = ""
    is_bulk: bool = False
    by_ids: str = ""
    written: tuple[str, ...] = ()
    asks: tuple[str, str] | None = None
    needs_no_name: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs_no_name", not (self.names or self.is_bulk or self.by_ids or self.asks))


NO_OBJECTS: Final = RouteObjects()


def route_objects(
    method: str,
    path: str,
    *,
    makes: str | None = None,
    lists: str | None = None,
    names: Mapping[str, str] | None = None,
    deletes: bool | None = None,
) -> RouteObjects:
    """The objects that the path implies, except where stated."""
    derived = _derived_from(method, path)
    named = dict(derived.names) | dict(names or {})
    has_owner = any(kind != SHARED for kind in named.values())
    return RouteObjects(
        makes=derived.makes if makes is None else makes,
        lists=derived.lists if lists is None else lists,
        names=tuple(named.items()),
        deletes=derived.deletes if deletes is None else deletes,
        prefix=derived.prefix,
        is_bulk=not has_owner and (method == "DELETE" or (method == "PATCH" and _is_collection(path))),
        by_ids=_BY_IDS.get((method, path), ""),
        written=_WRITTEN if method == "POST" and _CONVERSATIONS.search(path) else (),
        asks=_ASKS.get((method, path)),
    )


def parameters_of(path: str) -> Sequence[str]:
    return _PARAMETER.findall(path)


def _derived_from(method: str, path: str) -> RouteObjects:
    makes = _SPECIAL.get((method, path), "")
    segments = path.strip("/").split("/")
    if method == "DELETE" and segments[-2:-1] == ["models"] and (model := _PARAMETER.fullmatch(segments[-1])) is not None:
        # OpenAI, "Delete a fine-tuned model": it is gone for its owner.
        return RouteObjects(names=(*_kinds(segments[:-1]), (model[1], "model")), deletes=True)
    if path.endswith(_GOOGLE_BATCHES):
        return RouteObjects(makes="batch", prefix="batches/", names=_kinds(segments))
    if path.endswith(_GOOGLE_VIDEOS) or (method == "GET" and segments[-2:-1] == ["operations"]):
        return RouteObjects(makes="operation", names=_kinds(segments))  # one that is done names the files that it made
    at, count = _noun_in(segments)
    if not count:
        return RouteObjects(makes=makes, names=_kinds(segments))
    noun = "/".join(segments[at : at + count])
    kind = _ITEM_PARAMETERS.get(path) or _NOUNS[noun]
    below = segments[at + count :]
    prefix = f"{noun}/" if at and segments[at - 1] in _GOOGLE_VERSIONS else ""
    outer = _kinds(segments[:at])
    if not below:
        return RouteObjects(
            makes=makes or (kind if method in {"POST", "PUT"} or (method == "PATCH" and path.endswith(_CHANGED_IN_PLACE)) else ""),
            lists=kind if method == "GET" else "",
            names=outer,
            prefix=prefix,
        )
    named = _PARAMETER.search(below[0])
    if named is None:
        shows_more = (method, kind, "/".join(below)) in _ANSWERS_WITH_OTHERS
        return RouteObjects(makes=makes or (kind if shows_more else ""), names=outer + _kinds(below))
    inside = tuple((name, SHARED) for name in parameters_of("/".join(below))[1:])
    action = "/".join(below[1:])
    return RouteObjects(
        makes=makes or (kind if (method, kind, action) in _ANSWERS_WITH_OTHERS else ""),
        names=(*outer, (named[1], kind), *inside),
        deletes=method == "DELETE" and not action and named[0] == below[0],
        prefix=prefix,
    )


def _is_collection(path: str) -> bool:
    """Return whether a path ends with the noun of a collection."""
    segments = path.strip("/").split("/")
    at, count = _noun_in(segments)
    return bool(count) and at + count == len(segments) and not path.endswith(_CHANGED_IN_PLACE)


def _noun_in(segments: Sequence[str]) -> tuple[int, int]:
    """The index of the first noun, and its number of segments; if two begin there, the longer one."""
    for at in range(len(segments)):
        for count in range(_NOUN_SEGMENTS_MAX, 0, -1):
            if "/".join(segments[at : at + count]) in _NOUNS:
                return at, len(segments[at : at + count])
    return 0, 0


def _kinds(segments: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The kinds of parameters without a noun."""
    return tuple(
        (name, SHARED if name in _SHARED_PARAMETERS else name.removesuffix("_id")) for name in parameters_of("/".join(segments))
    )
