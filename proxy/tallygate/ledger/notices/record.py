"""Storing notices, each once, with a delivery for every endpoint that subscribes to it."""

from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import Connection

from tallygate.ledger.database import Database
from tallygate.ledger.notices.digest import DigestNotice
from tallygate.ledger.notices.notice import Notice
from tallygate.ledger.notices.notice_rows import row_of
from tallygate.ledger.notices.schema import DELIVERIES, NOTICES

EndpointsOf = Callable[[Notice], Collection[str]]
_Notice = TypeVar("_Notice", Notice, DigestNotice)


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


def to_nobody(notice: Notice) -> tuple[str, ...]:
    """No endpoints: notices are only stored and shown."""
    del notice
    return ()


def record_notices(
    connection: Connection,
    database: Database,
    notices: Sequence[_Notice],
    endpoints_of: Callable[[_Notice], Collection[str]],
    *,
    now_ms: int,
) -> int:
    """Add new notices within the caller's transaction; returns how many. Existing ones change nothing."""
    by_id = {notice.event_id: notice for notice in notices}
    if not by_id:
        return 0
    statement = database.insert(NOTICES).on_conflict_do_nothing().returning(NOTICES.c.event_id)
    rows = [row_of(notice, stored_at_ms=now_ms) for _, notice in sorted(by_id.items())]
    inserted = set((connection.execute(statement, rows)).scalars())
    deliveries = [
        {
            "event_id": event_id,
            "endpoint": endpoint,
            "state": DeliveryState.WAITING.value,
            "attempts": 0,
            "due_at_ms": min(now_ms, by_id[event_id].at_ms),  # the earliest notice has been due the longest
            "leased_until_ms": 0,
            "queued_at_ms": now_ms,
        }
        for event_id in sorted(inserted)
        for endpoint in sorted(endpoints_of(by_id[event_id]))
    ]
    if deliveries:
        connection.execute(database.insert(DELIVERIES).on_conflict_do_nothing(), deliveries)
    return len(inserted)
