"""Notices in sentences, for people. Money in USD, exact; times in UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from tallygate.domain.money import usd_text
from tallygate.ledger.notices.notice import Notice, NoticeType


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """subject: one line, without a full stop. text: sentences. Both plain text, without any markup."""

    subject: str
    text: str


def wording_of(notice: Notice) -> Wording:
    whom = _whom(notice)
    spent, limit, held = (f"${usd_text(amount)}" for amount in (notice.spent_nano_usd, notice.limit_nano_usd, notice.held_nano_usd))
    spend = f"{spent} of {limit} ({notice.limit_key.rpartition(':')[2]}) are spent, and open requests hold {held}."
    match notice.type:
        case NoticeType.WARNING:
            percent = _percent(notice.threshold_permille or 0)
            return Wording(
                subject=f"{whom} has reached {percent} of a spend limit",
                text=f"{spend} At the limit, requests are refused until enough has left the window.",
            )
        case NoticeType.PAUSED:
            needed = (
                ""
                if notice.refused_nano_usd is None
                else f" A request that needs ${usd_text(notice.refused_nano_usd)} does not fit."
            )
            resumes = "" if notice.resumes_at_ms is None else f" Access resumes at {_time(notice.resumes_at_ms)}."
            return Wording(subject=f"{whom} is paused by a spend limit", text=f"{spend}{needed}{resumes}")
        case NoticeType.RESUMED:
            return Wording(subject=f"{whom} is no longer paused", text=f"{spend} Requests are served again.")
        case _:
            assert_never(notice.type)


def trial_wording(endpoint: str) -> Wording:
    """What `tallygate webhooks test` sends."""
    return Wording(
        subject="A test of tallygate's notices",
        text=f"Spend warnings, pauses and resumes will be sent here, since webhooks.yaml names this receiver {endpoint}.",
    )


def _whom(notice: Notice) -> str:
    """The organization, or its credential: a limit is "org:<name>" or "cred:<Client ID>:<name>"."""
    scope, _, rest = notice.limit_key.partition(":")
    return f"{notice.org}, credential {rest.rpartition(':')[0]}," if scope == "cred" else notice.org


def _percent(permille: int) -> str:
    whole, tenth = divmod(permille, 10)
    return f"{whole}.{tenth} %" if tenth else f"{whole} %"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(-(-at_ms // 60_000) * 60, UTC):%Y-%m-%d %H:%M} UTC"
