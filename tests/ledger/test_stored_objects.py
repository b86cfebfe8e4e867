"""Whose the objects are: entered with the events that made them, once however often they are told, and gone with the history."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from ledger_values import START_MS, an_entry
from sqlalchemy import func, select

from tallygate.domain.made_object import ID_CHARS_MAX, MadeObject
from tallygate.domain.organization import Organization, Plan
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.directory.changes import Changes
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.objects import ObjectRegister, no_marks
from tallygate.ledger.directory.rules import Rules
from tallygate.ledger.directory.schema import AUDIT_LOG
from tallygate.ledger.retention import Retention
from tallygate.ledger.schema import STORED_OBJECTS
from tallygate.ledger.stored_objects import is_storable, object_changes, owned_objects

DAY_MS = 86_400_000


def an_object(id_: str = "file-1", *, kind: str = "file", upstream: str = "default", tokens: int | None = None) -> MadeObject:
    return MadeObject(kind=kind, id=id_, upstream=upstream, tokens=tokens)


def told(number: int = 0, **said: list[MadeObject]) -> tuple[object, list[object]]:
    """An entry and what its event says of objects."""
    entry = an_entry(number)
    return entry, object_changes(msgspec.json.encode(said), entry)


async def record(book: Book, *events: tuple[object, list[object]]) -> None:
    await book.record([entry for entry, _ in events], objects=[change for _, changes in events for change in changes])  # type: ignore[misc]


async def test_an_object_belongs_to_the_organization_of_its_event_however_often_it_is_told(book: Book, database: Database) -> None:
    made = [an_object(tokens=12), an_object("resp_1", kind="response")]
    for _ in range(2):
        await record(book, told(made=made))

    asked = [
        an_object(),
        an_object("resp_1", kind="response"),
        an_object("file-2"),
        an_object(upstream="other"),
        an_object(kind="batch"),
    ]
    assert await owned_objects(database, "acme", asked, since_ms=0) == {asked[0]: 12, asked[1]: None}
    assert await owned_objects(database, "big", asked, since_ms=0) == {}


async def test_what_was_deleted_is_nobodys_also_in_one_batch_with_its_making(book: Book, database: Database) -> None:
    await record(book, told(0, made=[an_object()]), told(1, deleted=[an_object()], made=[an_object("file-2")]))

    assert await owned_objects(database, "acme", [an_object(), an_object("file-2")], since_ms=0) == {an_object("file-2"): None}


@pytest.mark.parametrize("id_", ["nul\0", "half \ud800", "x" * (ID_CHARS_MAX + 1), ""])
async def test_an_id_that_no_database_takes_is_nobodys(book: Book, database: Database, id_: str) -> None:
    assert not is_storable(an_object(id_))
    await record(book, told(made=[an_object("file-2")]))
    assert await owned_objects(database, "acme", [an_object(id_)], since_ms=0) == {}


async def test_ownership_ends_with_the_history_and_is_purged(book: Book, database: Database) -> None:
    await record(book, told(made=[an_object()]))

    assert await owned_objects(database, "acme", [an_object()], since_ms=START_MS + DAY_MS) == {}
    acme = Organization(id="acme", name="", plan=Plan(id="paid", history_days=7))
    await Retention(database, pause_seconds=0).purge([acme], START_MS + 60 * DAY_MS)
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(STORED_OBJECTS))).scalar() == 0


@pytest.fixture
def register(database: Database) -> ObjectRegister:
    config: Any = SimpleNamespace(organizations=(Organization(id="acme", name="", plan=Plan(id="paid")),))
    return ObjectRegister(Changes(database, now_ms=lambda: START_MS, on_committed=_nothing), Rules(lambda: config), no_marks)


async def _nothing() -> None:
    pass


async def test_adopted_objects_are_owned_listed_forgotten_and_logged(register: ObjectRegister, database: Database) -> None:
    ids = [f"file-{number}" for number in range(3)]
    assert await register.adopt("cli", "acme", upstream="default", kind="file", ids=ids) == 3
    assert await register.adopt("cli", "acme", upstream="default", kind="file", ids=[*ids, "file-9"]) == 1

    assert await owned_objects(database, "acme", [an_object("file-9")], since_ms=START_MS) == {an_object("file-9"): None}
    first = await register.list("acme", limit=2)
    rest = await register.list("acme", kind="file", after=(first[-1].upstream, first[-1].kind, first[-1].id))
    assert [found.id for found in (*first, *rest)] == [*ids, "file-9"]

    assert await register.forget("cli", "acme", upstream="default", kind="file", ids=["file-9", "unknown"]) == 1
    assert await owned_objects(database, "acme", [an_object("file-9")], since_ms=0) == {}
    async with database.read() as connection:
        logged = (await connection.execute(select(AUDIT_LOG.c.action, AUDIT_LOG.c.org).order_by(AUDIT_LOG.c.version))).all()
    assert [tuple(line) for line in logged] == [("objects.adopted", "acme")] * 2 + [("objects.forgotten", "acme")]


@pytest.mark.parametrize(("kind", "ids"), [("file", []), ("", ["x"]), ("file", ["a\n"]), ("file", ["x" * 10_000])])
async def test_what_cannot_be_adopted_is_said(register: ObjectRegister, kind: str, ids: list[str]) -> None:
    with pytest.raises(InvalidChangeError):
        await register.adopt("cli", "acme", upstream="default", kind=kind, ids=ids)
