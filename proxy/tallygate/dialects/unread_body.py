"""The stored objects to which a JSON body without a dialect refers.

Evals of OpenAI's also read in bulk: they select from everything stored under the operator's key, by filters instead of
ids. OpenAI's API reference, "Create eval" (`data_source_config.type`: `logs`, `stored_completions`) and "Create eval run"
(`data_source.source.type`: `responses`, `stored_completions`): a run reads all stored answers that match its filters.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from tallygate.dialects.body import ParsedBody, keys_of, parse_body
from tallygate.dialects.references import DATA, REFERENCE_KEYS, folded, item_reference, stored_references
from tallygate.dialects.vocabulary import KEY_BYTES_MAX, Vocabulary, folded_key
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.stored_object import StoredReference

_ANYTHING: Final = msgspec.json.Decoder()
_VOCABULARY: Final = Vocabulary(())
# Gloo's items are changed under their id or under the name that their uploader chose (Gloo's cookbook, "upload-files":
# `item_id`, else `producer_id`). The owner of such a name is unknown: one publisher serves everybody.
PRODUCER: Final = "producer"
_PRODUCERS: Final = ("producer_id", "producer_ids")
_PUT_VOCABULARY: Final = Vocabulary(("id", "ids", "item", "items", *_PRODUCERS))
_READ_LISTS: Final = ("input", "items")
_REFERRING: Final = REFERENCE_KEYS | keys_of(_READ_LISTS)
_HOLDERS: Final = ("item", "items", "ids")
_MANY: Final = frozenset(
    {"filter", "itemids", "ops"}
)  # members that would mean more objects than the one that is named beside them
# Types of objects that read in bulk, by the member that contains the object, both folded. "": in any member.
_BULK: Final[dict[str, frozenset[str]]] = {
    "source": frozenset({"responses"}),
    "datasourceconfig": frozenset({"logs"}),
    "": frozenset({"storedcompletions"}),
}
_WRITTEN_OUT: Final = "filecontent"  # the type of a source whose `content` is the client's own data


def references_of_any(
    body: bytes, *, put: str = "", is_shared: bool = True, written: Sequence[str] = ()
) -> tuple[StoredReference, ...]:
    """The references of the body; lists of `input` or `items` are read like a response's. Raises RequestRejectedError.

    put        the kind of object that the body changes or creates under an id of its own; empty if it states none
    is_shared  whether organizations share the upstream's stored objects, so that reading them in bulk is refused
    written    the only members that the body may have; empty for all

    A key that spells the name of a reference differently is refused: some servers read it as that name.
    """
    parsed = parse_body(body, _ANYTHING)
    (_PUT_VOCABULARY if put else _VOCABULARY).check(parsed)
    if written:
        _refuse_others(parsed, written)
    if not put and not _may_refer(parsed.keys_anywhere):
        return ()
    whole = parsed.fields
    if is_shared:
        _refuse_bulk_reads(whole)
    read_lists = ("input",) if put else _READ_LISTS  # a put object names its items by ids of its own kind, below
    found = dict.fromkeys((*stored_references(whole), *_read_items(whole, read_lists)))
    if put:
        found |= dict.fromkeys(StoredReference(put, id_) for id_ in _ids(whole))
        found |= dict.fromkeys(StoredReference(PRODUCER, id_) for id_ in _producers(whole))
    return tuple(found)


def _refuse_others(parsed: ParsedBody[Any], written: Sequence[str]) -> None:
    """Refuse a body with a member that could have it generate, at a cost that nobody would hold. Raises RequestRejectedError."""
    if parsed.keys <= keys_of(written):
        return
    other = next((name for name in parsed.fields if name not in written), "") if isinstance(parsed.fields, dict) else ""
    message = f"Unknown member '{other[:100]}': this endpoint is not metered, and takes {' and '.join(written)} alone."
    raise RequestRejectedError(message, param=other[:100] or None)


def _may_refer(keys: frozenset[bytes]) -> bool:
    """Return whether members of these names, of a body without others, may refer to stored objects or read them in bulk.

    Whatever does has such a name, or else a `type`. keys: `ParsedBody.keys_anywhere`, with the body's vocabulary checked.
    """
    if not _REFERRING.isdisjoint(keys):
        return True
    return any(len(key) > KEY_BYTES_MAX or folded_key(key) == "type" for key in keys)


def names_all(body: bytes) -> bool:
    """Return whether a body that changes or deletes objects selects them by ids alone, and gives none of them another id.

    Gloo's cookbook, "rag-pipeline-part-2": `{"item_ids": [...]}` deletes, `{"filter": {"item_ids": [...]}, "ops": [...]}` changes,
    and `{"item_id": ..., "item_title": ...}` changes one. Any other filter could select others' items.
    """
    try:
        whole = _ANYTHING.decode(body) if body else None
    except (msgspec.DecodeError, RecursionError):
        return False
    if not isinstance(whole, dict):
        return False
    if any(isinstance(whole.get(name), str) and whole[name] for name in ("item_id", "producer_id")):
        return not {folded(name) for name in whole} & _MANY
    if not whole.keys() <= {"item_ids", "filter", "ops", "publisher_id"}:
        return False
    holder = whole.get("filter", {}) if "ops" in whole else whole
    ids = holder.get("item_ids") if isinstance(holder, dict) else None
    is_named = isinstance(ids, list) and bool(ids) and all(isinstance(each, str) and each for each in ids)
    has_others = ("item_ids" in whole or holder.keys() != {"item_ids"}) if "ops" in whole else "filter" in whole
    return is_named and not has_others and all(map(_keeps_ids, _listed(whole.get("ops", []))))


def _keeps_ids(change: object) -> bool:
    """Return whether one of `ops` changes no id: `{"op": "replace", "field": "author", "value": [...]}`."""
    if not isinstance(change, dict) or not change.keys() <= {"op", "field", "value"}:
        return False
    field = change.get("field")
    return isinstance(field, str) and not folded(field).endswith(("id", "ids"))


def _read_items(whole: Any, names: Iterable[str]) -> Iterator[StoredReference]:
    """The stored items to which the elements of the lists of these names refer.

    Lists: a response's `input`, a conversation's `items` (OpenAI's Conversations API, "Create a conversation", "Create items").
    """
    for name in names if isinstance(whole, dict) else ():
        given = whole.get(name)
        for item in given if isinstance(given, list) else ():
            named = item_reference(item) if isinstance(item, dict) else None
            if named is not None:
                yield named


def _ids(whole: object) -> Iterator[str]:
    """The ids under which a body puts things: its own, and those of the items in it."""
    elements = [whole] if isinstance(whole, dict) else _listed(whole)
    if isinstance(whole, dict):
        elements += [each for name in _HOLDERS for each in _listed(whole.get(name))]
    for element in elements:
        yield from _texts(element.get("id") if isinstance(element, dict) else element)


def _producers(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _producers(each)
    elif isinstance(value, dict):
        for name in _PRODUCERS:
            yield from (text for each in _listed(value.get(name)) for text in _texts(each))
        for name, inner in value.items():
            if name not in DATA:
                yield from _producers(inner)


def names_producer(name: str) -> bool:
    """Return whether a member, a field or a parameter of this name is a `producer_id`, for some server at least."""
    return "producerid" in folded(name)


def all_producers(body: bytes) -> tuple[str, ...]:
    """Every `producer_id` of a body, anywhere and in any spelling; "" for one that is no text."""
    try:
        return tuple(_every_producer(_ANYTHING.decode(body))) if body else ()
    except (msgspec.DecodeError, RecursionError):
        return ("",)


def _every_producer(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _every_producer(each)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if names_producer(name):
                yield from (each if isinstance(each, str) else "" for each in _listed(inner))
            else:
                yield from _every_producer(inner)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
        yield str(value)


def _refuse_bulk_reads(body: object) -> None:
    """Refuse bulk reads. Raises RequestRejectedError, which names the member."""
    _walk(body, path="", member="")


def _walk(value: Any, *, path: str, member: str) -> None:
    if isinstance(value, list):
        for index, each in enumerate(value):
            if isinstance(each, (dict, list)):
                _walk(each, path=f"{path}[{index}]", member=member)
    elif isinstance(value, dict):
        is_written_out = False
        for name, inner in value.items():
            if folded(name) == "type" and isinstance(inner, str):
                kind = folded(inner.strip())
                if kind in _BULK[""] or kind in _BULK.get(member, ()):
                    raise _refused(f"{path}.{name}" if path else name, inner)
                is_written_out = is_written_out or kind == _WRITTEN_OUT
        for name, inner in value.items():
            if isinstance(inner, (dict, list)) and name not in DATA and not (is_written_out and name == "content"):
                _walk(inner, path=f"{path}.{name}" if path else name, member=folded(name))


def _refused(path: str, kind: str) -> RequestRejectedError:
    return RequestRejectedError(
        f"'{path}' is '{kind[:60]}', which reads in bulk what others have stored as well: name a file, or write the content out.",
        param=path[:200],
    )
