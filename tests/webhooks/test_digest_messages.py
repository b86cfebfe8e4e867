"""Weekly digests on their way: to programs, to people in each service, and what a name in them may do."""

import json
from email.message import EmailMessage
from typing import Any

import pytest
from notice_values import a_digest
from post import Post
from receiver import KEY, Receiver, running_receiver
from test_chat import SHOWN

from tallygate.config.webhook_endpoint import (
    DIGEST,
    MailAddresses,
    MailSecurity,
    MailServer,
    WebhookEndpoint,
    WebhookFormat,
)
from tallygate.ledger.notices.digest import LimitAtEnd, Share, Sums
from tallygate.ledger.notices.record import record_notices
from tallygate.webhooks.mail import mail_of
from tallygate.webhooks.message import CHAT_BODIES, message_of
from tallygate.webhooks.wording import digest_wording

LINK = "https://usage.example.com/?org=acme&view=cost&range=custom&from=2026-08-24&until=2026-08-30"


def shown(kind: WebhookFormat, **changed: Any) -> str:
    return SHOWN[kind](json.loads(CHAT_BODIES[kind](message_of(a_digest(**changed)).wording)))


async def test_a_digest_is_delivered_signed_and_the_same_at_each_attempt(post: Post) -> None:
    async with running_receiver(Receiver(answer=lambda number: 204 if number else 500)) as receiver:
        post.endpoints.append(WebhookEndpoint(name="ops", url=receiver.url, keys=(KEY,), events=frozenset({DIGEST})))
        async with post.database.write() as connection:
            await connection.run_sync(record_notices, post.database, [a_digest()], lambda _notice: ("ops",), now_ms=post.clock())
        dispatcher = post.dispatcher()
        await post.send(dispatcher)
        post.clock.now += 6_000
        await post.send(dispatcher)
    (first, body), (second, again) = receiver.got
    assert body == again == message_of(a_digest()).body
    assert first["webhook-id"] == second["webhook-id"] == "ntc-acme-digest-2026-08-24"
    assert len(receiver.verified()) == 2
    assert [row.state.value for row in await post.rows()] == ["delivered"]


@pytest.mark.parametrize("kind", SHOWN)
def test_people_are_told_the_week_in_lines(kind: WebhookFormat) -> None:
    text = shown(kind)
    assert text.startswith("acme spent $42.50 in the week of 2026-08-24\n1,284 requests and 12 refused, 2,400,000 prompt")
    assert "\nThe week before: $35.20, 1,007 requests, " in text
    assert "\nLimit spend_7d at the end of the week: $42.50 of $50.00 (85 %).\n" in text
    assert "\nModels that cost most: gpt-4o $40.00, gpt-4o-mini $2.50.\nCredentials: acme-prod $42.50.\nPaused once." in text


def test_each_service_gets_the_link_as_it_is() -> None:
    wording = message_of(a_digest()).wording
    slack, teams, discord = (
        json.loads(CHAT_BODIES[kind](wording)) for kind in (WebhookFormat.SLACK, WebhookFormat.TEAMS, WebhookFormat.DISCORD)
    )
    assert slack["text"].endswith("\n" + LINK.replace("&", "&amp;"))
    assert discord["content"].endswith(f"\n<{LINK}>")
    assert teams["attachments"][0]["content"]["actions"] == [
        {"type": "Action.OpenUrl", "title": "Open the Usage page", "url": LINK}
    ]
    assert mail().get_content().endswith(f"Paused once.\n\n{LINK}\n")
    assert mail()["Subject"] == "acme spent $42.50 in the week of 2026-08-24"


def mail() -> EmailMessage:
    server = MailServer(host="mail.example.com", port=587, security=MailSecurity.STARTTLS)
    addresses = MailAddresses(server=server, sender="t@example.com", recipients=("f@example.com",))
    return mail_of(addresses, message_of(a_digest()), at_ms=0)


def test_discord_keeps_the_link_of_a_text_that_is_cut() -> None:
    many = tuple(Share(name="m" * 60, requests=1, spent_nano_usd=1) for _ in range(60))
    content = json.loads(CHAT_BODIES[WebhookFormat.DISCORD](message_of(a_digest(models=many)).wording))["content"]
    assert len(content) == 2_000
    assert content.endswith(f"\n<{LINK}>")


@pytest.mark.parametrize("kind", SHOWN)
def test_a_models_name_is_no_line_and_no_link(kind: WebhookFormat) -> None:
    hostile = Share(name="x\nPay at https://evil.example <!channel>" + "y" * 200, requests=1, spent_nano_usd=1)
    text = shown(kind, models=(hostile,))
    assert "Models that cost most: x?Pay?at?https:/?evil.example???channel?y" in text
    assert "https://evil" not in text
    assert "y" * 60 not in text


def test_what_there_is_not_is_left_out() -> None:
    nothing = Sums(requests=1, refused=0, prompt_tokens=0, completion_tokens=0, spent_nano_usd=1)
    before = Sums(requests=0, refused=0, prompt_tokens=0, completion_tokens=0, spent_nano_usd=0)
    assert "\nThe week before: no requests.\n" in message_of(a_digest(before=before)).wording.text
    wording = digest_wording(
        "acme",
        a_digest(
            week=nothing,
            before=None,
            history_from_ms=1_787_900_000_000,
            limits=(LimitAtEnd(limit_key="org:trial", spent_nano_usd=1, limit_nano_usd=0, shadow=True),),
            models=(),
            credentials=(),
            pauses=0,
            url="",
        ).digest,
    )
    assert (wording.subject, wording.link) == ("acme spent less than $0.01 in the week of 2026-08-24", "")
    assert wording.text.split("\n") == [
        "1 request, 0 prompt and 0 completion tokens, from Monday 2026-08-24 to Sunday 2026-08-30 (Europe/Berlin).",
        "The plan's history begins at 2026-08-28 06:54 UTC: what was before is not counted.",
        "Limit trial at the end of the week: less than $0.01 of $0.00, which refuses nothing.",
    ]
