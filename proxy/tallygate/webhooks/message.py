"""The bodies of messages. Money is USD as exact decimal text, times are RFC 3339 in UTC; fields that do not apply are null."""

import msgspec

from tallygate.domain.instants import millisecond_text
from tallygate.domain.money import usd_text
from tallygate.ledger.notices.notice import Notice


class SpendData(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a notice. limit: the spend window, "org:spend_7d". threshold: the crossed fraction of the limit, "0.8"."""

    organization: str
    limit: str
    threshold: str | None
    spent_usd: str
    held_usd: str
    limit_usd: str
    refused_usd: str | None
    resumes_at: str | None


class SpendMessage(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    timestamp: str
    data: SpendData


class TrialData(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: str


class TrialMessage(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    timestamp: str
    data: TrialData


def body_of(notice: Notice) -> bytes:
    """The body of a message: the same bytes for every attempt."""
    refused, resumes = notice.refused_nano_usd, notice.resumes_at_ms
    data = SpendData(
        organization=notice.org,
        limit=notice.limit_key,
        threshold=None if notice.threshold_permille is None else _fraction(notice.threshold_permille),
        spent_usd=usd_text(notice.spent_nano_usd),
        held_usd=usd_text(notice.held_nano_usd),
        limit_usd=usd_text(notice.limit_nano_usd),
        refused_usd=None if refused is None else usd_text(refused),
        resumes_at=None if resumes is None else millisecond_text(resumes),
    )
    return msgspec.json.encode(SpendMessage(type=notice.type.value, timestamp=millisecond_text(notice.at_ms), data=data))


def trial_body(endpoint: str, *, now_ms: int) -> bytes:
    """The body that `tallygate webhooks test` sends."""
    return msgspec.json.encode(
        TrialMessage(type="webhook.test", timestamp=millisecond_text(now_ms), data=TrialData(endpoint=endpoint))
    )


def _fraction(permille: int) -> str:
    """Thousandths as a decimal: 800 is "0.8", 1000 is "1"."""
    whole, rest = divmod(permille, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".")
