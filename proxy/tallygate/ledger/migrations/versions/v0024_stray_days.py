"""In PostgreSQL, the days on which an entry was settled whose id's time lies far from that, noted by the database itself."""

from alembic import op
from sqlalchemy import text

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_DAY_MS = 86_400_000
_LATE_MS, _EARLY_MS = 10 * _DAY_MS, _DAY_MS
_ID_MS_MAX = 2**47
_DAY = f"settled_at_ms / {_DAY_MS} * {_DAY_MS}"


def upgrade() -> None:
    """Read every entry once, while writers of the version before wait and readers go on. From then on whoever writes is noted."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("CREATE TABLE stray_days (day_ms bigint NOT NULL, CONSTRAINT pk_stray_days PRIMARY KEY (day_ms))")
    noted = f"INSERT INTO stray_days VALUES (NEW.{_DAY}) ON CONFLICT DO NOTHING"  # noqa: S608
    op.execute(
        "CREATE FUNCTION note_stray_day() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS "
        f"$$ BEGIN {noted}; RETURN NULL; END $$"
    )
    op.execute(
        f"CREATE TRIGGER note_stray_day AFTER INSERT ON entries FOR EACH ROW WHEN ({_is_stray('NEW.')}) "
        "EXECUTE FUNCTION note_stray_day()"
    )
    connection = op.get_bind()
    partitions = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'entries'::regclass ORDER BY 1")
    for name in connection.execute(partitions).scalars().all():  # one by one: a statement may not take long
        connection.execute(
            text(f"INSERT INTO stray_days SELECT DISTINCT {_DAY} FROM {name} WHERE {_is_stray('')} ON CONFLICT DO NOTHING")  # noqa: S608
        )


def _is_stray(row: str) -> str:
    at, id_ = f"{row}settled_at_ms", f"{row}event_id"
    first, end = f"lpad(to_hex({at} - {_LATE_MS}), 12, '0')", f"lpad(to_hex({at} + {_EARLY_MS}), 12, '0')"
    return f"NOT ({at} BETWEEN {_LATE_MS} AND {_ID_MS_MAX} AND {id_} >= {first} AND {id_} < {end})"
