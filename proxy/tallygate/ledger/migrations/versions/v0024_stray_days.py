"""In PostgreSQL, the days on which an entry was settled whose id's time lies far from that, noted by the database itself."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_DAY_MS = 86_400_000
_LATE_MS, _EARLY_MS = 10 * _DAY_MS, _DAY_MS
_ID_MS_MAX = 2**47


def upgrade() -> None:
    """From now on. What is there already is read by the next migration, while writers of the version before go on."""
    if op.get_bind().dialect.name != "postgresql":
        return
    first, end = (f"lpad(to_hex(settled_at_ms {bound}), 12, '0')" for bound in (f"- {_LATE_MS}", f"+ {_EARLY_MS}"))
    is_near = f'event_id COLLATE "C" >= {first} AND event_id COLLATE "C" < {end}'
    op.execute(
        "CREATE FUNCTION is_stray(event_id text, settled_at_ms bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS "
        f"$$ SELECT NOT (settled_at_ms BETWEEN {_LATE_MS} AND {_ID_MS_MAX} AND {is_near}) $$"  # numbers of ours
    )
    op.execute("CREATE TABLE stray_days (day_ms bigint NOT NULL, CONSTRAINT pk_stray_days PRIMARY KEY (day_ms))")
    noted = f"INSERT INTO stray_days VALUES (NEW.settled_at_ms / {_DAY_MS} * {_DAY_MS}) ON CONFLICT DO NOTHING"  # noqa: S608
    op.execute(
        "CREATE FUNCTION note_stray_day() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS "
        f"$$ BEGIN {noted}; RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER note_stray_day AFTER INSERT ON entries FOR EACH ROW WHEN (is_stray(NEW.event_id, NEW.settled_at_ms)) "
        "EXECUTE FUNCTION note_stray_day()"
    )
