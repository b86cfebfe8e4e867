"""Kinds of tokens and of spend in the rollups, rollups by credential alone, and what retention took from postings."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_IMAGES = ("image_prompt_tokens", "image_completion_tokens")
_NEW = (
    "audio_prompt_tokens",
    "audio_completion_tokens",
    *_IMAGES,
    "fee_nano_usd",
    "input_nano_usd",
    "cache_read_nano_usd",
    "cache_write_nano_usd",
    "output_nano_usd",
    "media_nano_usd",
    "calls_nano_usd",
)
_AMOUNTS = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "refused",
    *_NEW,
)
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_QUARTER_MS = _HOUR_MS // 4
_COARSER = (  # levels made from the quarters of hours of series
    ("series", (_HOUR_MS, _DAY_MS)),
    ("kind", (_HOUR_MS // 2, _HOUR_MS, 4 * _HOUR_MS, _DAY_MS)),
    ("org", (_QUARTER_MS, _HOUR_MS // 2, _HOUR_MS, _DAY_MS)),
)
_ROWS_AT_ONCE = 200_000  # a statement may not take long

_LABELS = ("org", "credential", "capability", "model", "endpoint", "status", "outcome", "refused_by")
_SET = ", ".join(f"{name} = found.{name}" for name in _NEW)
_MODEL = "substr(coalesce(nullif(e.response_model, ''), e.request_model, ''), 1, 256)"
_EXCHANGE = ("credential", "capability", "endpoint", "status", "outcome")


def upgrade() -> None:
    """Fill what is new from the entries, in one transaction: if it is ended in its midst, nothing has changed."""
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:
        op.execute("LOCK TABLE entries, rollups IN ACCESS EXCLUSIVE MODE")  # in the order in which writers come to them
    # A writer of the version before waits, then finds no `series_id`, and tries again until its own new version takes over: with
    # columns alone it would add costs without their kinds.
    op.execute("ALTER TABLE rollups RENAME COLUMN series_id TO series")
    for name in _IMAGES:
        op.add_column("entries", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("spend_buckets", sa.Column("purged_nano_usd", sa.BigInteger, nullable=False, server_default="0"))
    for name in _NEW:
        op.add_column("rollups", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    if is_postgresql:
        op.execute("CREATE TABLE rollups_credential PARTITION OF rollups FOR VALUES IN ('credential') WITH (fillfactor = 70)")
    op.execute(
        f"INSERT INTO series ({', '.join(_LABELS)}) SELECT DISTINCT org, credential, '', '', '', 0, '', '' FROM series "  # noqa: S608
        "WHERE true ON CONFLICT DO NOTHING"
    )
    for within in list(_parts(connection)):
        _fill_images(connection, within)
        of_one = within["first"] == within["last"]
        connection.execute(sa.text(_finest(of_one=of_one)), within)
        for detail, lengths_ms in _COARSER:
            for length_ms in lengths_ms:
                connection.execute(sa.text(_coarser(detail, length_ms, of_one=of_one)), within)
        for length_ms in (_HOUR_MS, _DAY_MS):
            connection.execute(sa.text(_of_credentials(length_ms, of_one=of_one)), within)
    if is_postgresql:
        op.execute("ANALYZE rollups")


def _parts(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Ranges of organizations and of whole days with some _ROWS_AT_ONCE rows: many small ones, or some days of a large one."""
    found = sa.text(
        "SELECT org, count(*), min(bucket_ms), max(bucket_ms) FROM rollups "  # noqa: S608
        f"WHERE detail = 'series' AND length_ms = {_QUARTER_MS} GROUP BY org ORDER BY org"
    )
    together: list[tuple[str, int, int, int]] = []
    for org, rows, first, last in connection.execute(found):
        if together and (rows > _ROWS_AT_ONCE or rows + sum(each[1] for each in together) > _ROWS_AT_ONCE):
            yield from _of_days(together)
            together = []
        together.append((org, rows, first, last))
    if together:
        yield from _of_days(together)


def _of_days(orgs: list[tuple[str, int, int, int]]) -> Iterator[dict[str, Any]]:
    first, last = min(each[2] for each in orgs) // _DAY_MS, max(each[3] for each in orgs) // _DAY_MS
    pieces = -(-sum(each[1] for each in orgs) // _ROWS_AT_ONCE)
    step = -(-(last - first + 1) // pieces)
    for day in range(first, last + 1, step):
        yield {"first": orgs[0][0], "last": orgs[-1][0], "low": day * _DAY_MS, "high": (day + step) * _DAY_MS}


def _fill_images(connection: sa.Connection, within: dict[str, Any]) -> None:
    """The tokens of pictures, which only `billed` had. A reversal takes back what came before it."""
    pictured = (
        f"SELECT event_id FROM entries e WHERE {_within('e', 'settled_at_ms', of_one=within['first'] == within['last'])} "  # noqa: S608
        "AND billed LIKE '%put_image\"%'"
    )
    events = sa.text(
        f"SELECT event_id, kind, sequence, billed FROM entries WHERE event_id IN ({pictured}) ORDER BY event_id, sequence"  # noqa: S608
    )
    so_far: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    rows = []
    for event_id, kind, sequence, billed in connection.execute(events, within):
        sums = so_far[event_id]
        tokens = [0, 0] if kind == "expired" and sequence else [-sums[0], -sums[1]] if kind == "reversed" else _images_of(billed)
        sums[:] = map(int.__add__, sums, tokens)
        if any(tokens):
            rows.append({"id": event_id, "number": sequence, **dict(zip(_IMAGES, tokens, strict=True))})
    if rows:
        changed = ", ".join(f"{name} = :{name}" for name in _IMAGES)
        connection.execute(sa.text(f"UPDATE entries SET {changed} WHERE event_id = :id AND sequence = :number"), rows)  # noqa: S608


def _images_of(billed: str | None) -> list[int]:
    try:
        quantities = json.loads(billed or "{}")["quantities"]
        tokens = [quantities.get(name, 0) for name in ("input_image", "cached_input_image", "output_image")]
        return [int(tokens[0]) + int(tokens[1]), int(tokens[2])]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [0, 0]


def _sums(table: str) -> str:
    return ", ".join(f"sum({table}.{name}) AS {name}" for name in _NEW)


def _has_some(table: str) -> str:
    return " OR ".join(f"sum({table}.{name}) <> 0" for name in _NEW)


def _within(table: str, time: str, *, of_one: bool) -> str:
    """A condition by which databases find the days of one organization in their index."""
    orgs = f"{table}.org = :first AND :first = :last" if of_one else f"{table}.org >= :first AND {table}.org <= :last"
    return f"{orgs} AND {table}.{time} >= :low AND {table}.{time} < :high"


def _finest(*, of_one: bool) -> str:
    """An entry counts under its own model, or under `other` where its organization had too many names."""
    return f"""
UPDATE rollups SET {_SET} FROM (
  SELECT sums.org, sums.at, CASE WHEN own.series IS NULL THEN others.id ELSE own.series END AS number, {_sums("sums")}
  FROM (
    SELECT e.org AS org, e.settled_at_ms / {_QUARTER_MS} * {_QUARTER_MS} AS at, {_MODEL} AS model,
      {", ".join(f"e.{name} AS {name}" for name in _EXCHANGE)}, {_sums("e")}
    FROM entries e
    WHERE {_within("e", "settled_at_ms", of_one=of_one)}
    GROUP BY 1, 2, 3, {", ".join(f"e.{name}" for name in _EXCHANGE)}
    HAVING {_has_some("e")}
  ) sums
  LEFT JOIN series named ON named.org = sums.org AND named.model = sums.model AND named.refused_by = ''
    AND {" AND ".join(f"named.{name} = sums.{name}" for name in _EXCHANGE)}
  LEFT JOIN rollups own ON own.length_ms = {_QUARTER_MS} AND own.detail = 'series' AND own.org = sums.org
    AND own.bucket_ms = sums.at AND own.series = named.id
  LEFT JOIN series others ON others.org = sums.org AND others.model = 'other' AND others.refused_by = ''
    AND {" AND ".join(f"others.{name} = sums.{name}" for name in _EXCHANGE)}
  GROUP BY 1, 2, 3
) found
WHERE rollups.length_ms = {_QUARTER_MS} AND rollups.detail = 'series' AND rollups.org = found.org
  AND rollups.bucket_ms = found.at AND rollups.series = found.number
"""  # noqa: S608  # names of ours


def _coarser(detail: str, length_ms: int, *, of_one: bool) -> str:
    number, joined = {"series": ("r.series", ""), "kind": ("k.id", _TO_KIND), "org": ("0", "")}[detail]
    at = f"r.bucket_ms / {length_ms} * {length_ms}"
    found = (
        f"SELECT r.org AS org, {at} AS at, {number} AS number, {_sums('r')} FROM rollups r {joined} "  # noqa: S608
        f"WHERE r.length_ms = {_QUARTER_MS} AND r.detail = 'series' AND {_within('r', 'bucket_ms', of_one=of_one)} "
        f"GROUP BY 1, 2, 3 HAVING {_has_some('r')}"
    )
    return (
        f"UPDATE rollups SET {_SET} FROM ({found}) found WHERE rollups.length_ms = {length_ms} AND rollups.detail = '{detail}' "  # noqa: S608
        "AND rollups.org = found.org AND rollups.bucket_ms = found.at AND rollups.series = found.number"
    )


_TO_KIND = "JOIN series s ON s.id = r.series JOIN series k ON k.credential = '' AND " + " AND ".join(
    f"k.{name} = s.{name}" for name in _LABELS if name != "credential"
)


def _of_credentials(length_ms: int, *, of_one: bool) -> str:
    return (
        f"INSERT INTO rollups (length_ms, detail, org, bucket_ms, series, {', '.join(_AMOUNTS)}) "  # noqa: S608
        f"SELECT {length_ms}, 'credential', r.org, r.bucket_ms, f.id, {', '.join(f'sum(r.{name})' for name in _AMOUNTS)} "
        "FROM rollups r JOIN series s ON s.id = r.series "
        "JOIN series f ON f.org = s.org AND f.credential = s.credential AND f.capability = '' AND f.model = '' AND f.endpoint = '' "
        "AND f.status = 0 AND f.outcome = '' AND f.refused_by = '' "
        f"WHERE r.length_ms = {length_ms} AND r.detail = 'series' AND {_within('r', 'bucket_ms', of_one=of_one)} "
        "GROUP BY r.org, r.bucket_ms, f.id ORDER BY 3, 4, 5"
    )
