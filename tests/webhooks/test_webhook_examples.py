"""docs/webhooks.md shows what is sent, and its code verifies it."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ledger_values import START_MS
from notice_values import PAUSED, RESUMED, a_digest, a_notice
from receiver import KEY, SECRET

from tallygate.config.document import read_document
from tallygate.config.problems import Problems
from tallygate.config.webhook_endpoint import NOTICE_TYPES, SPEND_NOTICES
from tallygate.config.webhooks import read_webhooks
from tallygate.ledger.notices.notice import NoticeType
from tallygate.webhooks.dispatcher import DELAYS_MS
from tallygate.webhooks.message import body_of, digest_body, trial_body
from tallygate.webhooks.signature import signed_headers
from tallygate.webhooks.wording import digest_wording, wording_of

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
EXAMPLES = {example["type"]: example for example in map(json.loads, re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))}


def examples() -> dict[str, bytes]:
    """The messages that the page shows, as they are made."""
    paused = {**PAUSED, "spent_nano_usd": 99_400_000_000, "resumes_at_ms": START_MS + 3_600_000}
    resumed = {**RESUMED, "spent_nano_usd": 71_200_000_000, "held_nano_usd": 0, "at_ms": START_MS + 3_600_003}
    return {
        "spend.warning": body_of(a_notice(1)),
        "spend.paused": body_of(a_notice(2, **paused)),
        "spend.resumed": body_of(a_notice(3, **resumed)),
        "usage.digest": digest_body(a_digest()),
        "webhook.test": trial_body("billing", now_ms=START_MS),
    }


@pytest.fixture
def verified() -> Callable[..., dict[str, Any]]:
    """The page's own code."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    return names["verified"]


def test_every_type_is_shown_as_it_is_sent() -> None:
    assert {name: json.loads(body) for name, body in examples().items()} == EXAMPLES
    assert [notice_type.value for notice_type in NoticeType] == list(SPEND_NOTICES)
    assert set(NOTICE_TYPES) < EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("keys", [[KEY], [KEY, b"o" * 24], [b"o" * 24, KEY]])
def test_the_pages_code_takes_what_is_sent(verified: Callable[..., dict[str, Any]], name: str, keys: list[bytes]) -> None:
    body = examples()[name]
    assert verified(SECRET, signed_headers("an-id", body, keys=keys, at_ms=time.time_ns() // 1_000_000), body) == EXAMPLES[name]


def test_the_pages_code_refuses_what_is_forged_or_old(verified: Callable[..., dict[str, Any]]) -> None:
    body, now = examples()["spend.warning"], time.time_ns() // 1_000_000
    with pytest.raises(ValueError, match="not signed"):
        verified(SECRET, signed_headers("an-id", body, keys=[b"o" * 24], at_ms=now), body)
    with pytest.raises(ValueError, match="not signed"):
        verified(SECRET, signed_headers("an-id", body, keys=[KEY], at_ms=now), body + b" ")
    with pytest.raises(ValueError, match="too old"):
        verified(SECRET, signed_headers("an-id", body, keys=[KEY], at_ms=now - 400_000), body)


def test_the_schedule_is_told_as_it_is() -> None:
    units = {"s": 1_000, "min": 60_000, "h": 3_600_000}
    told = re.search(r"\*\*Tried again\*\* (.*?) after the attempt", PAGE, re.DOTALL)
    assert told is not None
    assert tuple(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", told[1])) == DELAYS_MS


def test_the_configurations_shown_are_right_ones(tmp_path: Path) -> None:
    programs, people, weekly = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    (tmp_path / "secret").write_text(SECRET)
    programs["webhooks"][1]["secret_file"] = str(tmp_path / "secret")
    problems = Problems()
    document = read_document(
        "webhooks.yaml",
        yaml.safe_dump({"webhooks": [*programs["webhooks"], *people["webhooks"], *weekly["webhooks"]]}).encode(),
        problems,
    )
    assert document is not None
    environ = {"BILLING_WEBHOOK_SECRET": SECRET, "SLACK_WEBHOOK_URL": "https://hooks.slack.com/x", "MAIL_PASSWORD": "secret"}
    found = read_webhooks(document, environ=environ, reads_secrets=True)
    assert problems.texts() == ()
    assert [endpoint.name for endpoint in found] == ["billing", "acme-ops", "finance-slack", "finance-mail", "finance-weekly"]


def test_the_sentences_shown_are_those_that_are_sent() -> None:
    paused = {**PAUSED, "spent_nano_usd": 99_400_000_000, "resumes_at_ms": 1_788_003_600_000}
    wording = wording_of(a_notice(2, **paused))
    assert f"```\n{wording.subject}\n{wording.text}\n```" in PAGE
    notice = a_digest()
    wording = digest_wording(notice.org, notice.digest)
    assert f"```\n{wording.subject}\n{wording.text}\n{wording.link}\n```" in PAGE
