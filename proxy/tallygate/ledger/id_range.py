"""Which event ids the entries of a time can have, so that PostgreSQL reads the partitions of their months alone.

An id begins with the time at which its exchange began, by its gateway's clock, and entries are asked for by the time of their
settlement: hardly ever before the first, or long after it, since the longest jobs take a week. An entry for which that is not so
counts all the same. The database itself notes the day of its settlement in `stray_days`, by a trigger (migration 0024) that writers
of every version have, and where a question touches such a day, all months are read.
"""

from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Connection, column, select, table

from tallygate.ledger.entry_months import EntryMonth
from tallygate.ledger.schema import ENTRIES
from tallygate.ledger.time_buckets import DAY_MS

LATE_MS: Final = 10 * DAY_MS  # of settlement, after the id's time; these two are the trigger's too
EARLY_MS: Final = DAY_MS
_ID_MS_MAX: Final = 2**47  # the year 6429, which has a month, and 12 digits
_DAY: Final = column("day_ms", BigInteger)
_STRAY_DAYS: Final = table("stray_days", _DAY)


def id_range(connection: Connection, low_ms: int, high_ms: int) -> tuple[ColumnElement[bool], ...]:
    """Conditions that every entry settled in [low_ms, high_ms) fulfils, within the connection's transaction; none on SQLite.

    They begin and end with months, so that they choose partitions and never an index.
    """
    if connection.dialect.name != "postgresql" or low_ms >= high_ms:
        return ()
    conditions: list[ColumnElement[bool]] = []
    if LATE_MS < low_ms <= _ID_MS_MAX:
        conditions.append(ENTRIES.c.event_id >= EntryMonth.at(low_ms - LATE_MS).first_id)
    if high_ms + EARLY_MS <= _ID_MS_MAX:
        conditions.append(ENTRIES.c.event_id < EntryMonth.at(high_ms - 1 + EARLY_MS).end_id)
    stray = select(_DAY).select_from(_STRAY_DAYS).where(low_ms - DAY_MS < _DAY, high_ms > _DAY).limit(1)
    if conditions and connection.execute(stray).first() is not None:
        return ()
    return tuple(conditions)
