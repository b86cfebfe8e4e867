"""The stored objects of organizations, for operators to adopt, list and forget."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, select

from tallygate.domain.instants import instant_text
from tallygate.domain.made_object import ID_CHARS_MAX, MadeObject
from tallygate.ledger.directory.changes import Change, Changes
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.rows import the_organization
from tallygate.ledger.directory.rules import Rules
from tallygate.ledger.schema import STORED_OBJECTS
from tallygate.ledger.stored_objects import IDS_AT_ONCE, OBJECT_IDENTITY, ObjectChange, is_storable, object_row

ADOPTED_AT_ONCE: Final = 10_000
PAGE_MAX: Final = 1_000
KIND_CHARS_MAX: Final = 32
_COLUMNS: Final = STORED_OBJECTS.c

Unmark = Callable[[str, Sequence[MadeObject]], Awaitable[None]]  # removes an organization's marks; raises StoreError


async def no_marks(_org: str, _objects: Sequence[MadeObject]) -> None:
    """Remove nothing: without a store there are no marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedObject:
    """An owned object. event_id: None if it was adopted."""

    upstream: str
    kind: str
    id: str
    credential: str
    made_at_ms: int
    tokens: int | None
    event_id: str | None


async def remove_all_objects(change: Change, org: str) -> list[MadeObject]:
    """Within a change, end all ownership of an organization, whose id may be reused; return the objects."""
    taken = delete(STORED_OBJECTS).where(_COLUMNS.org == org).returning(_COLUMNS.kind, _COLUMNS.id, _COLUMNS.upstream)
    return [MadeObject(kind=kind, id=id_, upstream=upstream) for kind, id_, upstream in await change.connection.execute(taken)]


def object_shown(found: OwnedObject) -> dict[str, Any]:
    """The object as shown to people."""
    return {
        "upstream": found.upstream,
        "kind": found.kind,
        "id": found.id,
        "credential": found.credential or None,
        "made_at": instant_text(found.made_at_ms),
        "tokens": found.tokens,
        "event_id": found.event_id,
    }


class ObjectRegister:
    """The objects of organizations, for operators: to adopt, to list and to forget. Every change is in the audit log."""

    def __init__(self, changes: Changes, rules: Rules, unmark: Unmark) -> None:
        self._changes = changes
        self._rules = rules
        self._unmark = unmark

    async def adopt(self, actor: str, org: str, *, upstream: str, kind: str, ids: Sequence[str]) -> int:
        """Make the organization the owner; return how many it did not own before. Raises InvalidChangeError and NotFoundError."""
        objects = _checked(upstream, kind, ids)
        async with self._changes.begin(actor) as change:
            if self._rules.in_file(org) is None:
                await the_organization(change.connection, org)
            statement = self._changes.database.insert(STORED_OBJECTS).on_conflict_do_nothing().returning(_COLUMNS.id)
            rows = [
                object_row(ObjectChange(org=org, credential="", made=made, at_ms=change.at_ms, event_id="", is_deleted=False))
                for made in objects
            ]
            new = len((await change.connection.execute(statement, rows)).all())
            await change.log("objects.adopted", kind, org=org, after={"upstream": upstream, "kind": kind, "ids": list(ids)})
        return new

    async def forget(self, actor: str, org: str, *, upstream: str, kind: str, ids: Sequence[str]) -> int:
        """End the organization's ownership; return how many it owned. Raises StoreError if marks may still show it as the owner."""
        objects = _checked(upstream, kind, ids)
        gone = 0
        async with self._changes.begin(actor) as change:
            for start in range(0, len(objects), IDS_AT_ONCE):
                some = [made.id for made in objects[start : start + IDS_AT_ONCE]]
                mine = (_COLUMNS.org == org, _COLUMNS.upstream == upstream, _COLUMNS.kind == kind, _COLUMNS.id.in_(some))
                gone += (await change.connection.execute(delete(STORED_OBJECTS).where(*mine))).rowcount
            await change.log("objects.forgotten", kind, org=org, before={"upstream": upstream, "kind": kind, "ids": list(ids)})
        await self._unmark(org, objects)
        return gone

    async def list(
        self, org: str, *, kind: str | None = None, after: tuple[str, str, str] | None = None, limit: int = 100
    ) -> Sequence[OwnedObject]:
        """A page in the order of upstream, kind and id. after: the last object of the previous page."""
        columns = [_COLUMNS[name] for name in OwnedObject.__dataclass_fields__]
        statement = select(*columns).where(_COLUMNS.org == org).order_by(_COLUMNS.upstream, _COLUMNS.kind, _COLUMNS.id)
        if kind is not None:
            statement = statement.where(_COLUMNS.kind == kind)
        if after is not None:
            statement = statement.where(after < OBJECT_IDENTITY)
        async with self._changes.database.read() as connection:
            rows = (await connection.execute(statement.limit(min(limit, PAGE_MAX)))).all()
        return [
            OwnedObject(
                upstream=row.upstream,
                kind=row.kind,
                id=row.id,
                credential=row.credential,
                made_at_ms=row.made_at_ms,
                tokens=row.tokens,
                event_id=row.event_id or None,
            )
            for row in rows
        ]


def _checked(upstream: str, kind: str, ids: Sequence[str]) -> list[MadeObject]:
    if not 1 <= len(ids) <= ADOPTED_AT_ONCE:
        raise InvalidChangeError(f"ids must be 1 to {ADOPTED_AT_ONCE:,} at once, got {len(ids)}", param="ids")
    if not 0 < len(kind) <= KIND_CHARS_MAX:
        raise InvalidChangeError(f"kind must have 1 to {KIND_CHARS_MAX} characters", param="kind")
    objects = [MadeObject(kind=kind, id=id_, upstream=upstream) for id_ in dict.fromkeys(ids)]
    for made in objects:
        if not is_storable(made):
            raise InvalidChangeError(
                f"ids must be printable and have 1 to {ID_CHARS_MAX} characters, got {made.id[:60]!r}", param="ids"
            )
    return objects
