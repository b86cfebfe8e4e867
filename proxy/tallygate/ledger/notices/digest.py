"""The weekly digest of an organization: its usage of a week, beside the week before and its spend limits."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import msgspec

from tallygate.domain.calendar_months import day_start_ms, local_date

AFTER_MS: Final = 3_600_000  # after the end of the week: usage that the ledger gets late is still in its digest
_DAYS: Final = 7


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """requests: served ones; refused ones are counted apart."""

    requests: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    spent_nano_usd: int


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one model, or one credential by its Client ID, had of the week."""

    name: str
    requests: int
    spent_nano_usd: int


class LimitAtEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A spend limit at the end of the week. spent_nano_usd: in its own window. shadow: it refuses nothing."""

    limit_key: str
    spent_nano_usd: int
    limit_nano_usd: int
    shadow: bool


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """The figures, as they are kept. Nothing changes them later.

    first_day, last_day  Monday and Sunday, "2026-08-24"
    from_ms, to_ms   the week, from Monday to Monday in the organization's time zone
    history_from_ms  where the plan's history begins, if that is within the week: what was before is not in the sums
    before           the week before; None if the plan's history does not reach its beginning
    limits           those of the whole organization
    models, credentials  up to a few, by spend
    pauses           announced ones, of any spend limit
    url              of the Usage page over this week; "" where the console has no address for people
    """

    first_day: str
    last_day: str
    from_ms: int
    to_ms: int
    time_zone: str
    history_from_ms: int | None
    week: Sums
    before: Sums | None
    limits: tuple[LimitAtEnd, ...]
    models: tuple[Share, ...]
    credentials: tuple[Share, ...]
    pauses: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestNotice:
    """A digest as a row of `notices`."""

    event_id: str
    org: str
    digest: Digest
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """Seven days of a time zone, Monday to Sunday. first_day orders weeks, whatever their zones."""

    first_day: str
    last_day: str
    from_ms: int
    to_ms: int
    time_zone: str

    @property
    def before(self) -> "Week":
        return week_from(date.fromisoformat(self.first_day) - timedelta(days=_DAYS), self.time_zone)


def week_from(monday: date, time_zone: str) -> Week:
    return Week(
        first_day=str(monday),
        last_day=str(monday + timedelta(days=_DAYS - 1)),
        from_ms=day_start_ms(monday, time_zone),
        to_ms=day_start_ms(monday + timedelta(days=_DAYS), time_zone),
        time_zone=time_zone,
    )


def due_week(now_ms: int, time_zone: str) -> Week:
    """The last week whose digest is due: it ended AFTER_MS ago, or earlier."""
    today = local_date(now_ms - AFTER_MS, time_zone)
    return week_from(today - timedelta(days=today.weekday() + _DAYS), time_zone)


def digest_notice(org: str, digest: Digest, *, now_ms: int) -> DigestNotice:
    return DigestNotice(event_id=f"ntc-{org}-digest-{digest.first_day}", org=org, digest=digest, at_ms=now_ms)
