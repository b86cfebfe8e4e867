"""Notices in sentences, for people. Money in USD, exact, of a week in cents; times in UTC, days in the organization's zone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, assert_never

from tallygate.domain.money import NANO_PER_USD, usd_text
from tallygate.ledger.notices.digest import Digest, LimitAtEnd, Share, Sums
from tallygate.ledger.notices.notice import Notice, NoticeType

_NANO_PER_CENT: Final = NANO_PER_USD // 100
# A model's name comes from clients where a plan serves unknown models: no lines of its own, and nothing that is read as a link.
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._:/@+-]|(?<=/)/", re.ASCII)
_NAME_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """subject: one line, without a full stop. text: sentences. Both plain text, without any markup. link: a URL of ours, or ""."""

    subject: str
    text: str
    link: str = ""


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


def digest_wording(org: str, digest: Digest) -> Wording:
    """A line each for what there is to say."""
    week, before = digest.week, digest.before
    lines = [f"{_counts(week)}, from Monday {digest.first_day} to Sunday {digest.last_day} ({digest.time_zone})."]
    if digest.history_from_ms is not None:
        lines.append(f"The plan's history begins at {_time(digest.history_from_ms)}: what was before is not counted.")
    if before is not None:
        has_some = before.requests or before.refused
        spent = f"{_dollars(before.spent_nano_usd)}, {_counts(before)}" if has_some else "no requests"
        lines.append(f"The week before: {spent}.")
    lines += [f"Limit {_limit_words(limit)}." for limit in digest.limits]
    lines += [f"{title}: {_shares(shares)}." for title, shares in _tops(digest) if shares]
    if digest.pauses:
        lines.append(f"Paused {'once' if digest.pauses == 1 else f'{digest.pauses:,} times'}.")
    subject = f"{org} spent {_dollars(week.spent_nano_usd)} in the week of {digest.first_day}"
    return Wording(subject=subject, text="\n".join(lines), link=digest.url)


def _tops(digest: Digest) -> tuple[tuple[str, Sequence[Share]], ...]:
    return (("Models that cost most", digest.models), ("Credentials", digest.credentials))


def _counts(sums: Sums) -> str:
    requests = "1 request" if sums.requests == 1 else f"{sums.requests:,} requests"
    refused = f" and {sums.refused:,} refused" if sums.refused else ""
    return f"{requests}{refused}, {sums.prompt_tokens:,} prompt and {sums.completion_tokens:,} completion tokens"


def _limit_words(limit: LimitAtEnd) -> str:
    share = f" ({limit.spent_nano_usd * 100 // limit.limit_nano_usd} %)" if limit.limit_nano_usd else ""
    not_enforced = ", which refuses nothing" if limit.shadow else ""
    spent, most = _dollars(limit.spent_nano_usd), _dollars(limit.limit_nano_usd)
    return f"{limit.limit_key.rpartition(':')[2]} at the end of the week: {spent} of {most}{share}{not_enforced}"


def _shares(shares: Sequence[Share]) -> str:
    return ", ".join(f"{_name(share.name)} {_dollars(share.spent_nano_usd)}" for share in shares)


def _name(name: str) -> str:
    shown = _NOT_IN_NAMES.sub("?", name)
    return shown if len(shown) <= _NAME_CHARS_MAX else f"{shown[: _NAME_CHARS_MAX - 1]}…"


def _dollars(nano_usd: int) -> str:
    """To the nearest cent; a corrected week may have less than nothing."""
    if 0 < nano_usd < _NANO_PER_CENT:
        return "less than $0.01"
    cents = (abs(nano_usd) + _NANO_PER_CENT // 2) // _NANO_PER_CENT
    return f"{'-' if nano_usd < 0 else ''}${cents // 100:,}.{cents % 100:02d}"


def trial_wording(endpoint: str) -> Wording:
    """What `tallygate webhooks test` sends."""
    return Wording(
        subject="A test of tallygate's notices",
        text=f"Notices of tallygate will be sent here, since webhooks.yaml names this receiver {endpoint}.",
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
