"""Messages: for programs as JSON, for people in sentences, as chat services accept them at their incoming webhooks.

In JSON money is USD as exact decimal text, times are RFC 3339 in UTC, and fields that do not apply are null.
In chats text stays plain: no markup, no mentions.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tallygate.config.webhook_endpoint import DIGEST, WebhookFormat
from tallygate.domain.instants import millisecond_text
from tallygate.domain.money import NANO_PER_USD, usd_text
from tallygate.ledger.notices.digest import Digest, DigestNotice, LimitAtEnd, Share, Sums, due_week
from tallygate.ledger.notices.digest_data import DigestData, digest_data
from tallygate.ledger.notices.notice import Notice
from tallygate.webhooks.signature import webhook_id
from tallygate.webhooks.wording import Wording, digest_wording, trial_wording, wording_of

_DISCORD_CHARS_MAX: Final = 2_000
_DISCORD_MARKUP: Final = re.compile(r"([\\*_~`|>#\[\]()<@-])")
_CARD: Final = "application/vnd.microsoft.card.adaptive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, whatever its receiver's format. id: the same for every attempt. body: in JSON, to be signed."""

    id: str
    body: bytes
    wording: Wording


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


class DigestMessage(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    timestamp: str
    data: DigestData


class TrialData(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: str


class TrialMessage(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    timestamp: str
    data: TrialData


def message_of(notice: Notice | DigestNotice) -> Message:
    if isinstance(notice, Notice):
        return Message(id=webhook_id(notice.event_id), body=body_of(notice), wording=wording_of(notice))
    return Message(id=webhook_id(notice.event_id), body=digest_body(notice), wording=digest_wording(notice.org, notice.digest))


def trial_message(endpoint: str, *, message_id: str, now_ms: int, is_digest: bool = False) -> Message:
    """The message that `tallygate webhooks test` sends. is_digest: an example of a digest instead."""
    if is_digest:
        example = example_digest(now_ms)
        return Message(id=message_id, body=digest_body(example), wording=digest_wording(example.org, example.digest))
    return Message(id=message_id, body=trial_body(endpoint, now_ms=now_ms), wording=trial_wording(endpoint))


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


def digest_body(notice: DigestNotice) -> bytes:
    """The body of a message: the same bytes for every attempt."""
    data = digest_data(notice.org, notice.digest)
    return msgspec.json.encode(DigestMessage(type=DIGEST, timestamp=millisecond_text(notice.at_ms), data=data))


def trial_body(endpoint: str, *, now_ms: int) -> bytes:
    return msgspec.json.encode(
        TrialMessage(type="webhook.test", timestamp=millisecond_text(now_ms), data=TrialData(endpoint=endpoint))
    )


def example_digest(now_ms: int) -> DigestNotice:
    """A digest of nobody, of the last whole week, as `tallygate webhooks test --digest` sends it."""
    week = due_week(now_ms, "UTC")
    sums = Sums(requests=1_284, refused=12, prompt_tokens=2_400_000, completion_tokens=310_000, spent_nano_usd=42 * NANO_PER_USD)
    digest = Digest(
        first_day=week.first_day,
        last_day=week.last_day,
        from_ms=week.from_ms,
        to_ms=week.to_ms,
        time_zone=week.time_zone,
        history_from_ms=None,
        week=sums,
        before=msgspec.structs.replace(sums, requests=1_007, refused=0, spent_nano_usd=35 * NANO_PER_USD),
        limits=(
            LimitAtEnd(
                limit_key="org:spend_7d", spent_nano_usd=sums.spent_nano_usd, limit_nano_usd=50 * NANO_PER_USD, shadow=False
            ),
        ),
        models=(Share(name="gpt-4o", requests=1_284, spent_nano_usd=sums.spent_nano_usd),),
        credentials=(Share(name="example-prod", requests=1_284, spent_nano_usd=sums.spent_nano_usd),),
        pauses=1,
        url="",
    )
    return DigestNotice(event_id="", org="example", digest=digest, at_ms=now_ms)


def _fraction(permille: int) -> str:
    """Thousandths as a decimal: 800 is "0.8", 1000 is "1"."""
    whole, rest = divmod(permille, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".")


def slack_body(wording: Wording) -> bytes:
    """For api.slack.com, "Incoming webhooks"; three characters are escaped ("Formatting text for app surfaces")."""
    text = "\n".join(filter(None, (wording.subject, wording.text, wording.link)))
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, entity)
    return msgspec.json.encode({"text": text, "mrkdwn": False})


def teams_body(wording: Wording) -> bytes:
    """For the Workflows trigger "When a Teams webhook request is received", which accepts adaptive cards.

    A TextRun has no Markdown (adaptivecards.io, "RichTextBlock"). A link is a button below ("Action.OpenUrl").
    """
    looks = ((wording.subject, {"weight": "bolder"}), *((line, {}) for line in wording.text.split("\n")))
    lines = [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **look}]} for text, look in looks]
    schema = "http://adaptivecards.io/schemas/adaptive-card.json"
    card: dict[str, Any] = {"$schema": schema, "type": "AdaptiveCard", "version": "1.4", "body": lines}
    if wording.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the Usage page", "url": wording.link}]
    return msgspec.json.encode(
        {"type": "message", "attachments": [{"contentType": _CARD, "contentUrl": None, "content": card}]},
    )


def discord_body(wording: Wording) -> bytes:
    """For discord.com/developers/docs, "Execute Webhook": at most 2,000 characters, and nobody is mentioned."""
    subject, text = (_DISCORD_MARKUP.sub(r"\\\1", line) for line in (wording.subject, wording.text))
    link = f"\n<{wording.link}>" if wording.link else ""  # in angle brackets: without a preview, which Discord would fetch
    content = f"**{subject}**\n{text}"[: _DISCORD_CHARS_MAX - len(link)] + link
    return msgspec.json.encode({"content": content, "allowed_mentions": {"parse": []}})


CHAT_BODIES: Final[Mapping[WebhookFormat, Callable[[Wording], bytes]]] = {
    WebhookFormat.SLACK: slack_body,
    WebhookFormat.TEAMS: teams_body,
    WebhookFormat.DISCORD: discord_body,
}
