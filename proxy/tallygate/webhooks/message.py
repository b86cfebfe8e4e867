"""Messages: for programs as JSON, for people in sentences, as chat services accept them at their incoming webhooks.

In JSON money is USD as exact decimal text, times are RFC 3339 in UTC, and fields that do not apply are null.
In chats text stays plain: no markup, no mentions.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from tallygate.config.webhook_endpoint import WebhookFormat
from tallygate.domain.instants import millisecond_text
from tallygate.domain.money import usd_text
from tallygate.ledger.notices.notice import Notice
from tallygate.webhooks.signature import webhook_id
from tallygate.webhooks.wording import Wording, trial_wording, wording_of

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


class TrialData(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: str


class TrialMessage(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    timestamp: str
    data: TrialData


def message_of(notice: Notice) -> Message:
    return Message(id=webhook_id(notice.event_id), body=body_of(notice), wording=wording_of(notice))


def trial_message(endpoint: str, *, message_id: str, now_ms: int) -> Message:
    """The message that `tallygate webhooks test` sends."""
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


def trial_body(endpoint: str, *, now_ms: int) -> bytes:
    return msgspec.json.encode(
        TrialMessage(type="webhook.test", timestamp=millisecond_text(now_ms), data=TrialData(endpoint=endpoint))
    )


def _fraction(permille: int) -> str:
    """Thousandths as a decimal: 800 is "0.8", 1000 is "1"."""
    whole, rest = divmod(permille, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".")


def slack_body(wording: Wording) -> bytes:
    """For api.slack.com, "Incoming webhooks"; three characters are escaped ("Formatting text for app surfaces")."""
    text = f"{wording.subject}\n{wording.text}"
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, entity)
    return msgspec.json.encode({"text": text, "mrkdwn": False})


def teams_body(wording: Wording) -> bytes:
    """For the Workflows trigger "When a Teams webhook request is received", which accepts adaptive cards.

    A TextRun has no Markdown (adaptivecards.io, "RichTextBlock").
    """
    lines = [
        {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **look}]}
        for text, look in ((wording.subject, {"weight": "bolder"}), (wording.text, {}))
    ]
    schema = "http://adaptivecards.io/schemas/adaptive-card.json"
    card = {"$schema": schema, "type": "AdaptiveCard", "version": "1.4", "body": lines}
    return msgspec.json.encode(
        {"type": "message", "attachments": [{"contentType": _CARD, "contentUrl": None, "content": card}]},
    )


def discord_body(wording: Wording) -> bytes:
    """For discord.com/developers/docs, "Execute Webhook": at most 2,000 characters, and nobody is mentioned."""
    subject, text = (_DISCORD_MARKUP.sub(r"\\\1", line) for line in (wording.subject, wording.text))
    content = f"**{subject}**\n{text}"[:_DISCORD_CHARS_MAX]
    return msgspec.json.encode({"content": content, "allowed_mentions": {"parse": []}})


CHAT_BODIES: Final[Mapping[WebhookFormat, Callable[[Wording], bytes]]] = {
    WebhookFormat.SLACK: slack_body,
    WebhookFormat.TEAMS: teams_body,
    WebhookFormat.DISCORD: discord_body,
}
