"""Whose the objects are that upstreams keep: written with the entries of the exchanges that made them, asked by gateways.

An id is the organization's own here, beside everybody else's: who owns a thing cannot be told from what others own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.domain.errors import StoreError
from proxy.domain.made_object import ID_CHARS_MAX, MadeObject
from proxy.ledger.database import Database, LedgerUnavailableError
from proxy.ledger.directory.changes import Changes
from proxy.ledger.directory.errors import InvalidChangeError
from proxy.ledger.entry import Entry
from proxy.ledger.schema import STORED_OBJECTS

IDS_AT_ONCE: Final = 500  # in one IN (...)
ADOPTED_AT_ONCE: Final = 10_000
PAGE_MAX: Final = 1_000
KIND_CHARS_MAX: Final = 32
_COLUMNS: Final = STORED_OBJECTS.c
_IDENTITY: Final = tuple_(_COLUMNS.upstream, _COLUMNS.kind, _COLUMNS.id)


class _Told(msgspec.Struct):
    """Of a usage event, what it says of objects."""

    made: tuple[MadeObject, ...] = ()
    deleted: tuple[MadeObject, ...] = ()


_decode: Final = msgspec.json.Decoder(_Told).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectChange:
    """An object that an exchange made, or deleted."""

    org: str
    credential: str
    made: MadeObject
    at_ms: int
    event_id: str
    is_deleted: bool

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.org, self.made.upstream, self.made.kind, self.made.id


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedObject:
    """A row, as it is shown. event_id: None for one that was adopted."""

    upstream: str
    kind: str
    id: str
    credential: str
    made_at_ms: int
    tokens: int | None
    event_id: str | None


def object_changes(fields: Mapping[bytes, bytes], entry: Entry) -> list[ObjectChange]:
    """What a usage event in the stream, whose entry is `entry`, says of objects. Most say nothing, and are not read for it."""
    event = fields.get(b"event", b"")
    if b'"made":' not in event and b'"deleted":' not in event:
        return []
    told = _decode(event)
    return [
        ObjectChange(
            org=entry.org,
            credential=entry.credential,
            made=made,
            at_ms=entry.started_at_ms,
            event_id=entry.event_id,
            is_deleted=is_deleted,
        )
        for objects, is_deleted in ((told.made, False), (told.deleted, True))
        for made in objects
        if is_storable(made)
    ]


def is_storable(made: MadeObject) -> bool:
    """Whether a row can hold it: an id that no database takes is nobody's."""
    texts = (made.upstream, made.kind, made.id)
    is_text = all(0 < len(text) <= ID_CHARS_MAX and text.isprintable() for text in texts)  # no NUL, no lone surrogate
    return is_text and (made.tokens is None or 0 <= made.tokens < 2**53)


async def record_objects(connection: AsyncConnection, database: Database, changes: Iterable[ObjectChange]) -> None:
    """Enter what was made and take out what was deleted, in their order; telling it twice changes nothing."""
    last: dict[tuple[str, str, str, str], ObjectChange] = {change.key: change for change in changes}
    made = [_row(change) for _, change in sorted(last.items()) if not change.is_deleted]
    if made:
        await _enter(connection, database, made)
    for change in last.values():
        if change.is_deleted:
            await connection.execute(delete(STORED_OBJECTS).where(_COLUMNS.org == change.org, _IDENTITY.in_([change.key[1:]])))


async def _enter(connection: AsyncConnection, database: Database, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row that is there keeps who made it; what is known of its size is the latest word."""
    statement = database.insert(STORED_OBJECTS)
    statement = statement.on_conflict_do_update(
        index_elements=list(STORED_OBJECTS.primary_key.columns),
        set_={"tokens": statement.excluded.tokens},
        where=statement.excluded.tokens.is_not(None),
    )
    await connection.execute(statement, list(rows))


def _row(change: ObjectChange) -> dict[str, Any]:
    made = change.made
    return {
        "org": change.org,
        "upstream": made.upstream,
        "kind": made.kind,
        "id": made.id,
        "credential": change.credential,
        "made_at_ms": change.at_ms,
        "tokens": made.tokens,
        "event_id": change.event_id,
    }


async def owned_objects(
    database: Database, org: str, objects: Sequence[MadeObject], *, since_ms: int
) -> Mapping[MadeObject, int | None]:
    """Those of `objects` that are the organization's, made at since_ms or later, with their tokens. Raises StoreError."""
    found: dict[tuple[str, str, str], int | None] = {}
    asked = {(made.upstream, made.kind, made.id): made for made in objects if is_storable(made)}
    keys = list(asked)
    try:
        async with database.read() as connection:
            for start in range(0, len(keys), IDS_AT_ONCE):
                statement = select(_COLUMNS.upstream, _COLUMNS.kind, _COLUMNS.id, _COLUMNS.tokens).where(
                    _COLUMNS.org == org, _IDENTITY.in_(keys[start : start + IDS_AT_ONCE]), _COLUMNS.made_at_ms >= since_ms
                )
                found.update({(row[0], row[1], row[2]): row[3] for row in await connection.execute(statement)})
    except LedgerUnavailableError as error:
        raise StoreError(f"the ledger cannot be asked: {error}") from error
    return {asked[key]: tokens for key, tokens in found.items()}


class ObjectRegister:
    """The objects of organizations, for operators: to adopt, to list and to forget. Every change is in the audit log."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def adopt(self, actor: str, org: str, *, upstream: str, kind: str, ids: Sequence[str]) -> int:
        """Make the organization the owner; how many it did not own before. Raises InvalidChangeError, LedgerUnavailableError."""
        objects = _checked(upstream, kind, ids)
        async with self._changes.begin(actor) as change:
            statement = self._changes.database.insert(STORED_OBJECTS).on_conflict_do_nothing().returning(_COLUMNS.id)
            rows = [
                _row(ObjectChange(org=org, credential="", made=made, at_ms=change.at_ms, event_id="", is_deleted=False))
                for made in objects
            ]
            new = len((await change.connection.execute(statement, rows)).all())
            await change.log("objects.adopted", kind, org=org, after={"upstream": upstream, "kind": kind, "ids": list(ids)})
        return new

    async def forget(self, actor: str, org: str, *, upstream: str, kind: str, ids: Sequence[str]) -> int:
        """Nobody owns them any more; how many there were. Marks in the limiter's store are the caller's to take away."""
        objects = _checked(upstream, kind, ids)
        gone = 0
        async with self._changes.begin(actor) as change:
            for start in range(0, len(objects), IDS_AT_ONCE):
                some = [made.id for made in objects[start : start + IDS_AT_ONCE]]
                mine = (_COLUMNS.org == org, _COLUMNS.upstream == upstream, _COLUMNS.kind == kind, _COLUMNS.id.in_(some))
                gone += (await change.connection.execute(delete(STORED_OBJECTS).where(*mine))).rowcount
            await change.log("objects.forgotten", kind, org=org, before={"upstream": upstream, "kind": kind, "ids": list(ids)})
        return gone

    async def list(
        self, org: str, *, kind: str | None = None, after: tuple[str, str, str] | None = None, limit: int = 100
    ) -> Sequence[OwnedObject]:
        """A page in the order of upstream, kind and id. after: the last of the page before."""
        columns = [_COLUMNS[name] for name in OwnedObject.__dataclass_fields__]
        statement = select(*columns).where(_COLUMNS.org == org).order_by(_COLUMNS.upstream, _COLUMNS.kind, _COLUMNS.id)
        if kind is not None:
            statement = statement.where(_COLUMNS.kind == kind)
        if after is not None:
            statement = statement.where(after < _IDENTITY)
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
