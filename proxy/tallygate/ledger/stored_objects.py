"""The owners of stored objects: written with the entries of the exchanges that created them, and queried by gateways.

Several organizations may own one id, and each sees only its own ownership.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, select, tuple_

from tallygate.domain.errors import StoreError
from tallygate.domain.job import Job
from tallygate.domain.made_object import ID_CHARS_MAX, MadeObject
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import Entry
from tallygate.ledger.schema import STORED_OBJECTS

IDS_AT_ONCE: Final = 500  # in one IN (...)
_COLUMNS: Final = STORED_OBJECTS.c
OBJECT_IDENTITY: Final = tuple_(_COLUMNS.upstream, _COLUMNS.kind, _COLUMNS.id)


class _Objects(msgspec.Struct):
    """The part of a usage event about objects."""

    made: tuple[MadeObject, ...] = ()
    deleted: tuple[MadeObject, ...] = ()


_decode: Final = msgspec.json.Decoder(_Objects).decode


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


def object_changes(event: bytes, source: Entry | Job) -> list[ObjectChange]:
    """The objects that an event of the stream, of this entry or job, made or deleted. Most name none and are not decoded."""
    if b'"made":' not in event and b'"deleted":' not in event:
        return []
    decoded = _decode(event)
    return [
        ObjectChange(
            org=source.org,
            credential=source.credential,
            made=made,
            at_ms=source.started_at_ms,
            event_id=source.event_id if isinstance(source, Entry) else source.id,
            is_deleted=is_deleted,
        )
        for objects, is_deleted in ((decoded.made, False), (decoded.deleted, True))
        for made in objects
        if is_storable(made)
    ]


def is_storable(made: MadeObject) -> bool:
    """Return whether a row can store it: an id that no database accepts belongs to nobody."""
    texts = (made.upstream, made.kind, made.id)
    is_text = all(0 < len(text) <= ID_CHARS_MAX and text.isprintable() for text in texts)  # no NUL, no lone surrogate
    return is_text and (made.tokens is None or 0 <= made.tokens < 2**53)


def record_objects(connection: Connection, database: Database, changes: Iterable[ObjectChange]) -> None:
    """Enter created objects and remove deleted ones, in order; repeating it changes nothing."""
    last: dict[tuple[str, str, str, str], ObjectChange] = {change.key: change for change in changes}
    made = [object_row(change) for _, change in sorted(last.items()) if not change.is_deleted]
    if made:
        _enter(connection, database, made)
    for change in last.values():
        if change.is_deleted:
            connection.execute(delete(STORED_OBJECTS).where(_COLUMNS.org == change.org, OBJECT_IDENTITY.in_([change.key[1:]])))


def _enter(connection: Connection, database: Database, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert objects. An existing row keeps its creator but gets the latest size."""
    statement = database.insert(STORED_OBJECTS)
    statement = statement.on_conflict_do_update(
        index_elements=list(STORED_OBJECTS.primary_key.columns),
        set_={"tokens": statement.excluded.tokens},
        where=statement.excluded.tokens.is_not(None),
    )
    connection.execute(statement, list(rows))


def object_row(change: ObjectChange) -> dict[str, Any]:
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
    """The objects among `objects` that the organization owns since since_ms or later, with their tokens. Raises StoreError."""
    found: dict[tuple[str, str, str], int | None] = {}
    asked = {(made.upstream, made.kind, made.id): made for made in objects if is_storable(made)}
    keys = list(asked)
    try:
        async with database.read() as connection:
            for start in range(0, len(keys), IDS_AT_ONCE):
                statement = select(_COLUMNS.upstream, _COLUMNS.kind, _COLUMNS.id, _COLUMNS.tokens).where(
                    _COLUMNS.org == org, OBJECT_IDENTITY.in_(keys[start : start + IDS_AT_ONCE]), _COLUMNS.made_at_ms >= since_ms
                )
                found.update({(row[0], row[1], row[2]): row[3] for row in await connection.execute(statement)})
    except LedgerUnavailableError as error:
        raise StoreError(f"the ledger cannot be asked: {error}") from error
    return {asked[key]: tokens for key, tokens in found.items()}
