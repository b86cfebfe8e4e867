"""Notices in chat services: what each accepts, with nothing of a name read as markup."""

import json
from typing import Any

import pytest
from notice_values import PAUSED, RESUMED, a_notice
from post import Post
from receiver import Receiver, running_receiver

from tallygate.config.webhook_endpoint import WebhookEndpoint, WebhookFormat
from tallygate.webhooks.message import CHAT_BODIES
from tallygate.webhooks.wording import Wording, trial_wording, wording_of

HOSTILE = Wording(subject="a_b_c *x* <!channel> @everyone", text="1 < 2 & [a](https://evil.example) `x`")


def shown_by_slack(sent: dict[str, Any]) -> str:
    assert sent["mrkdwn"] is False
    text: str = sent["text"]
    assert "<" not in text
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def shown_by_teams(sent: dict[str, Any]) -> str:
    (attachment,) = sent["attachments"]
    assert (sent["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    runs = [run for block in attachment["content"]["body"] for run in block["inlines"]]
    assert {run["type"] for run in runs} == {"TextRun"}
    return "\n".join(run["text"] for run in runs)


def shown_by_discord(sent: dict[str, Any]) -> str:
    assert sent["allowed_mentions"] == {"parse": []}
    subject, _, text = sent["content"].partition("\n")
    assert subject[:2] == subject[-2:] == "**"
    return f"{subject[2:-2]}\n{text}".replace("\\", "")


SHOWN = {
    WebhookFormat.SLACK: shown_by_slack,
    WebhookFormat.TEAMS: shown_by_teams,
    WebhookFormat.DISCORD: shown_by_discord,
}


@pytest.mark.parametrize("kind", SHOWN)
def test_what_people_see_is_the_text_as_it_is(kind: WebhookFormat) -> None:
    assert SHOWN.keys() == CHAT_BODIES.keys() == {kind for kind in WebhookFormat if kind.is_chat}
    assert SHOWN[kind](json.loads(CHAT_BODIES[kind](HOSTILE))) == f"{HOSTILE.subject}\n{HOSTILE.text}"


def test_discord_reads_no_markup_and_takes_no_more_than_it_may() -> None:
    sent = json.loads(CHAT_BODIES[WebhookFormat.DISCORD](HOSTILE))["content"]
    assert r"a\_b\_c \*x\* \<!channel\> \@everyone" in sent
    assert len(json.loads(CHAT_BODIES[WebhookFormat.DISCORD](Wording(subject="s", text="t" * 5_000)))["content"]) == 2_000


@pytest.mark.parametrize("kind", SHOWN)
async def test_a_notice_arrives_without_a_signature(post: Post, kind: WebhookFormat) -> None:
    async with running_receiver(Receiver(answer=lambda _number: 202)) as receiver:
        post.endpoints.append(WebhookEndpoint(name="chat", format=kind, url=receiver.url))
        await post.store(a_notice(1, **PAUSED))
        await post.send(post.dispatcher())
    ((headers, body),) = receiver.got
    assert not [name for name in headers if name.startswith("webhook-")]
    assert "acme is paused by a spend limit" in SHOWN[kind](json.loads(body))
    assert [row.state.value for row in await post.rows()] == ["delivered"]


def test_each_notice_says_who_how_much_and_what_follows() -> None:
    assert wording_of(a_notice(1, threshold_permille=955)) == Wording(
        subject="acme has reached 95.5 % of a spend limit",
        text="$80.000000001 of $100.00 (spend_7d) are spent, and open requests hold $0.25. "
        "At the limit, requests are refused until enough has left the window.",
    )
    paused = wording_of(a_notice(1, **{**PAUSED, "limit": "cred:acme-prod:spend_7d", "resumes_at_ms": 1_790_000_000_001}))
    assert paused.subject == "acme, credential acme-prod, is paused by a spend limit"
    assert paused.text.endswith("A request that needs $0.90 does not fit. Access resumes at 2026-09-21 14:14 UTC.")  # a minute up
    assert wording_of(a_notice(1, **RESUMED)).text.endswith("Requests are served again.")
    assert "ops" in trial_wording("ops").text
