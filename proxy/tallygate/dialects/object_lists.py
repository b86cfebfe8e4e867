"""A page of a list of stored objects, split so that some of its items can be left out.

Only known members are relayed: a count of all items, or a cursor that is somebody else's id, would reveal omitted items.
Items stay as the upstream wrote them. Sources: OpenAI's and Anthropic's lists (`data`, `first_id`, `last_id`, `has_more`), Google's
(the collection's name, `nextPageToken`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tallygate.dialects.made_objects import objects_in
from tallygate.domain.stored_object import StoredReference

ITEMS_MAX: Final = 10_000  # of one page: OpenAI's maximum, for files
_PASSED_ON: Final[tuple[str, ...]] = ("object", "nextPageToken")
_CURSORS: Final[tuple[str, ...]] = ("first_id", "last_id", "has_more")


class _Item(msgspec.Struct):
    """The members in which an item's id may be."""

    id: str | int | None = None
    name: object = None
    item_id: str | int | None = None


_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_item: Final = msgspec.json.Decoder(_Item).decode
_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class ListItem:
    """An item of a list. id: empty if it has none, so that nobody owns it."""

    id: str
    text: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """A page. container: the member with the items; None if the page is a bare list. members: the others, as they came."""

    container: str | None
    items: Sequence[ListItem]
    members: dict[str, bytes]

    @property
    def has_more(self) -> bool:
        return self.members.get("has_more") == b"true" or bool(self.token)

    @property
    def token(self) -> str:
        """Google's token for the next page."""
        return _text(self.members.get("nextPageToken"))

    @property
    def is_by_id(self) -> bool:
        """Return whether the last item's id is the cursor of the next page."""
        return "has_more" in self.members

    @property
    def cursor(self) -> str:
        """The parameter for the page after an item: OpenAI's lists name their kind in `object`, Anthropic's do not."""
        return "after" if "object" in self.members else "after_id"

    def written(self, items: Sequence[ListItem], *, has_more: bool) -> bytes:
        """The page with only these items, and their cursors."""
        text = b"[" + b",".join(bytes(item.text) for item in items) + b"]"
        if self.container is None:
            return text
        shown: dict[str, bytes] = {name: self.members[name] for name in _PASSED_ON if name in self.members}
        shown[self.container] = text
        if "first_id" in self.members:
            shown["first_id"] = msgspec.json.encode(items[0].id if items else None)
        if "last_id" in self.members:
            shown["last_id"] = msgspec.json.encode(items[-1].id if items else None)
        if "has_more" in self.members:
            shown["has_more"] = b"true" if has_more else b"false"
        return b"{" + b",".join(msgspec.json.encode(name) + b":" + value for name, value in shown.items()) + b"}"


def read_page(body: bytes, *, prefix: str) -> ListPage | None:
    """Parse a page; None for an unknown shape, or more than ITEMS_MAX items. prefix: of Google's resource names."""
    try:
        if body.lstrip()[:1] == b"[":
            return _page(None, _decode_list(body), {}, prefix)
        members = _decode_object(body)
        lists = [name for name, value in members.items() if bytes(value).startswith(b"[")]
        if not lists and set(members) <= {"nextPageToken"}:
            return _page("", [], members, prefix)  # Google omits an empty list
        if len(lists) != 1:
            return None
        return _page(lists[0], _decode_list(members[lists[0]]), members, prefix)
    except (msgspec.DecodeError, RecursionError):
        return None


def objects_of_item(item: ListItem, kind: str, *, prefix: str) -> list[StoredReference]:
    """Further objects that an item names, such as the files that a batch wrote."""
    try:
        return [found for found in objects_in(_decode(item.text), kind, prefix=prefix) if found.id != item.id]
    except (msgspec.DecodeError, RecursionError):
        return []


def _page(container: str | None, texts: Sequence[msgspec.Raw], members: dict[str, msgspec.Raw], prefix: str) -> ListPage | None:
    if len(texts) > ITEMS_MAX:
        return None
    kept = {name: bytes(members[name]) for name in (*_PASSED_ON, *_CURSORS) if name in members}
    return ListPage(container=container or None, items=[ListItem(_id(text, prefix), text) for text in texts], members=kept)


def _id(text: msgspec.Raw, prefix: str) -> str:
    try:
        item = _decode_item(text)
    except (msgspec.DecodeError, RecursionError):
        return ""
    if prefix:
        return item.name if isinstance(item.name, str) and item.name.startswith(prefix) else ""
    found = item.id if item.id is not None else item.item_id
    return "" if found is None else str(found)


def _text(value: bytes | None) -> str:
    found = None if value is None else _decode(value)
    return found if isinstance(found, str) else ""
