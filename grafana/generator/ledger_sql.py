"""SQL over the ledger's PostgreSQL tables: what an invoice says, to the nano-dollar.

Entries are the ledger's truth, and invoices are sums of them. Rollups hold the same sums by quarters of an hour, which every time
zone's days are made of: they answer questions about more than one month. Money is an integer of nano-USD; as USD it is a numeric,
so exact.

The reader needs no more than reader.sql grants. ${name:sqlstring} is quoted by Grafana.
"""

from collections.abc import Mapping
from typing import Final

_ORG: Final = "${organization:sqlstring}"
_MONTH: Final = "${month:sqlstring}"
_ZONE: Final = "${time_zone:sqlstring}"
_DAY: Final = "${billing_day:sqlstring}"
MONTHS_SHOWN: Final = 13

ORGANIZATIONS: Final = "SELECT DISTINCT org FROM series ORDER BY org"
MONTHS: Final = (
    "SELECT to_char(first - make_interval(months => ago), 'YYYY-MM') "
    "FROM (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AS first) AS this, generate_series(0, 119) AS ago ORDER BY ago"
)
# Names that PostgreSQL takes for abbreviations of a fixed offset, and zones that are the same with another name.
RENAMED: Final = {"CET": "Europe/Brussels", "EET": "Europe/Athens", "MET": "Europe/Brussels", "WET": "Europe/Lisbon"}
_RENAMINGS: Final = " ".join(f"WHEN '{name}' THEN '{zone}'" for name, zone in RENAMED.items())
# The directory knows the zones of its own organizations. Those of organizations.yaml are not in the database: all zones then.
TIME_ZONES: Final = f"""\
SELECT zone FROM (
  SELECT CASE time_zone {_RENAMINGS} ELSE time_zone END AS zone, 0 AS rank FROM organizations WHERE id = {_ORG}
  UNION ALL SELECT 'UTC', 1 WHERE NOT EXISTS (SELECT FROM organizations WHERE id = {_ORG})
  UNION ALL SELECT name, 2 FROM pg_timezone_names
   WHERE name LIKE '%/%' AND NOT EXISTS (SELECT FROM organizations WHERE id = {_ORG})
) AS zones ORDER BY rank, zone"""
BILLING_DAYS: Final = f"""\
SELECT days.day::text AS billing_day FROM (
  SELECT billing_day AS day FROM organizations WHERE id = {_ORG}
  UNION ALL SELECT day FROM generate_series(1, 31) AS day WHERE NOT EXISTS (SELECT FROM organizations WHERE id = {_ORG})
) AS days ORDER BY days.day"""


def _instant_ms(local: str) -> str:
    """Unix milliseconds of a local time. Where clocks are set back at that time it comes twice, and the first is meant."""
    instant = f"(({local}) AT TIME ZONE {_ZONE})"
    earlier = f"({instant} - interval '1 hour')"
    is_twice = f"({earlier} AT TIME ZONE {_ZONE}) = ({local})"
    return f"(extract(epoch FROM CASE WHEN {is_twice} THEN {earlier} ELSE {instant} END) * 1000)::bigint"


def _begins(first: str) -> str:
    """When the billing month begins that begins in the calendar month of `first`: on its last day, if it has no such day."""
    last_day = f"extract(day FROM {first} + interval '1 month - 1 day')::int"
    return f"({first} + make_interval(days => least({_DAY}::int, {last_day}) - 1))"


_FIRST: Final = f"to_date({_MONTH}, 'YYYY-MM')::timestamp"
_BEGINS: Final = _begins(_FIRST)
_ENDS: Final = _begins(f"({_FIRST} + interval '1 month')")
BILLED_MONTH: Final = f"""\
billed AS (
  SELECT {_instant_ms(_BEGINS)} AS start_ms,
         {_instant_ms(_ENDS)} AS end_ms
)"""
# As an invoice sums it: the model that answered, else the one asked for; original entries and later corrections apart.
ENTRIES_OF_MONTH: Final = f"""\
WITH {BILLED_MONTH}, month_entries AS (
  SELECT credential, capability, coalesce(nullif(response_model, ''), request_model, '') AS model,
         CASE WHEN sequence = 0 THEN '' ELSE kind END AS correction,
         requests, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_nano_usd
  FROM entries, billed
  WHERE org = {_ORG} AND settled_at_ms >= start_ms AND settled_at_ms < end_ms
)"""
_SUMS: Final = "length_ms = 900000 AND detail IN ('org', 'recent')"  # what is recent is in no other rows yet
_QUARTERS: Final = f"{_SUMS} AND org = {_ORG} AND bucket_ms >= start_ms AND bucket_ms < end_ms"
_LOCAL: Final = f"(to_timestamp(bucket_ms / 1000) AT TIME ZONE {_ZONE})"


def usd(nano_usd: str) -> str:
    return f"({nano_usd})::numeric / 1000000000"


def exact_usd(nano_usd: str) -> str:
    """As text: Grafana shows numbers as floating point."""
    return f"to_char({usd(nano_usd)}, 'FM999999999999990.000000000')"


def _sum(name: str) -> str:
    return f"coalesce(sum({name}), 0)"


_AMOUNTS: Final = ", ".join(
    [
        f'{_sum("requests")}::bigint AS "Requests"',
        f'{_sum("prompt_tokens")}::bigint AS "Prompt tokens"',
        f'{_sum("cached_tokens")}::bigint AS "of them cached"',
        f'{_sum("completion_tokens")}::bigint AS "Completion tokens"',
        f'{_sum("reasoning_tokens")}::bigint AS "of them reasoning"',
        f'{usd(_sum("cost_nano_usd"))} AS "Cost"',
        f'{exact_usd(_sum("cost_nano_usd"))} AS "Cost, exact"',
    ]
)


def figure(column: str, *, only_corrections: bool = False) -> str:
    """One number of the month; money as USD."""
    value = f"{usd(_sum(column))}" if column == "cost_nano_usd" else f"{_sum(column)}::bigint"
    where = "\nWHERE correction <> ''" if only_corrections else ""
    return f"{ENTRIES_OF_MONTH}\nSELECT {value} AS value\nFROM month_entries{where}"


def month_by(titles: Mapping[str, str]) -> str:
    """titles: of the columns that it is broken down by."""
    columns = ", ".join(titles)
    return f"""\
{ENTRIES_OF_MONTH}
SELECT {_titled(titles)}, {_AMOUNTS}
FROM month_entries
GROUP BY {columns}
ORDER BY sum(cost_nano_usd) DESC, {columns}"""


def _titled(titles: Mapping[str, str]) -> str:
    return ", ".join(f'{column} AS "{title}"' for column, title in titles.items())


def month_lines(*, corrections: bool) -> str:
    """An invoice's lines, in its order."""
    names = {"credential": "Credential", "capability": "Capability", "model": "Model"} | (
        {"correction": "Why"} if corrections else {}
    )
    labels = ", ".join(names)
    return f"""\
{ENTRIES_OF_MONTH}
SELECT {_titled(names)}, {_AMOUNTS}
FROM month_entries
WHERE correction {"<>" if corrections else "="} ''
GROUP BY {labels}
ORDER BY {labels}"""


def status_of_month() -> str:
    is_open = "end_ms > extract(epoch FROM now()) * 1000"
    return f"""\
WITH {BILLED_MONTH}
SELECT CASE WHEN {is_open} THEN 'provisional: not over yet' ELSE 'complete' END AS value
FROM billed"""


def daily() -> str:
    """Days of the organization's zone, corrections on the days of what they correct; days without traffic too."""
    return f"""\
WITH {BILLED_MONTH}, days AS (
  SELECT to_char({_LOCAL}, 'YYYY-MM-DD') AS day, sum(cost_nano_usd) AS cost
  FROM rollups, billed
  WHERE {_QUARTERS}
  GROUP BY 1
)
SELECT to_char(every, 'YYYY-MM-DD') AS "Day", {usd("coalesce(cost, 0)")} AS "Cost"
FROM generate_series({_BEGINS}, {_ENDS} - interval '1 day', interval '1 day') AS every
LEFT JOIN days ON day = to_char(every, 'YYYY-MM-DD')
ORDER BY 1"""


def monthly() -> str:
    """The month and those before it, in the organization's zone."""
    first = f"{_FIRST} - interval '{MONTHS_SHOWN - 1} months'"
    return f"""\
WITH months AS (
  SELECT every, {_instant_ms(_begins("every"))} AS start_ms,
         {_instant_ms(_begins("(every + interval '1 month')"))} AS end_ms
  FROM generate_series({first}, {_FIRST}, interval '1 month') AS every
)
SELECT to_char(every, 'YYYY-MM') AS "Month", {_sum("requests")}::bigint AS "Requests",
       {usd(_sum("cost_nano_usd"))} AS "Cost", {exact_usd(_sum("cost_nano_usd"))} AS "Cost, exact"
FROM months LEFT JOIN rollups ON {_QUARTERS}
GROUP BY every
ORDER BY 1 DESC"""
