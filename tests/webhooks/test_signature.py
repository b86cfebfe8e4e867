"""Messages as receivers see them: signatures that their library accepts, bodies that are exact."""

import json
from random import Random

import pytest
from notice_values import PAUSED, RESUMED, a_notice
from receiver import KEY, SECRET, now_ms
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tallygate.webhooks.dispatcher import ATTEMPTS_MAX, DELAYS_MS, RETRY_AFTER_MAX_MS, next_attempt_ms
from tallygate.webhooks.message import body_of, trial_body
from tallygate.webhooks.signature import signed_headers, webhook_id

OLD_SECRET = "whsec_b29vb29vb29vb29vb29vb29vb29vb29v"
OLD_KEY = b"o" * 24


def test_the_signature_is_that_of_the_specifications_example() -> None:
    """Standard Webhooks, "Signature scheme": id, timestamp, body and secret of its example."""
    key = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")._whsecret
    body = b'{"test": 2432232314}'
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", body, keys=[key], at_ms=1_614_265_330_999)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_while_a_secret_is_rotated_receivers_with_either_accept(secret: str) -> None:
    body = body_of(a_notice())
    headers = signed_headers("an_id", body, keys=[KEY, OLD_KEY], at_ms=now_ms())
    assert headers["webhook-signature"].count(" ") == 1
    assert Webhook(secret).verify(body, dict(headers)) == json.loads(body)


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp", "secret"])
def test_what_was_changed_on_the_way_is_refused(changed: str) -> None:
    body, secret = body_of(a_notice()), SECRET
    headers = dict(signed_headers("an_id", body, keys=[KEY], at_ms=now_ms()))
    if changed == "body":
        body = body.replace(b"80.000000001", b"80.000000002")
    elif changed == "secret":
        secret = OLD_SECRET
    else:
        headers[changed] = "another_id" if changed == "webhook-id" else str(now_ms() // 1000 - 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_ids_are_as_distinct_as_events_and_hold_no_full_stop() -> None:
    events = ["ntc-a.b-org:w-spend.paused-1", "ntc-a~b-org:w-spend.paused-1", "ntc-a-b-org:w-spend.paused-1"]
    ids = [webhook_id(event) for event in (events[0], events[2])]
    assert len(set(ids)) == 2
    assert all("." not in message_id for message_id in ids)


def test_a_warning_tells_money_to_the_nano_dollar() -> None:
    message = json.loads(body_of(a_notice(1, spent_nano_usd=1, held_nano_usd=0, limit_nano_usd=9_007_199_254_740_991)))
    assert message == {
        "type": "spend.warning",
        "timestamp": "2026-08-29T10:40:00.001Z",
        "data": {
            "organization": "acme",
            "limit": "org:spend_7d",
            "threshold": "0.8",
            "spent_usd": "0.000000001",
            "held_usd": "0.00",
            "limit_usd": "9007199.254740991",
            "refused_usd": None,
            "resumes_at": None,
        },
    }


def test_a_pause_tells_what_was_refused_and_when_it_ends() -> None:
    message = json.loads(body_of(a_notice(1, **PAUSED)))
    assert message["data"]["refused_usd"] == "0.90"
    assert message["data"]["resumes_at"] == "2026-08-29T11:40:00.000Z"
    assert message["data"]["threshold"] is None


@pytest.mark.parametrize(("permille", "text"), [(500, "0.5"), (950, "0.95"), (1000, "1"), (5, "0.005"), (1500, "1.5")])
def test_thresholds_are_fractions(permille: int, text: str) -> None:
    assert json.loads(body_of(a_notice(1, threshold_permille=permille)))["data"]["threshold"] == text


def test_bodies_are_the_same_for_every_attempt() -> None:
    assert body_of(a_notice(1, **RESUMED)) == body_of(a_notice(1, **RESUMED))
    assert json.loads(trial_body("ops", now_ms=0)) == {
        "type": "webhook.test",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "data": {"endpoint": "ops"},
    }


def test_retry_after_is_heeded_within_its_bound() -> None:
    def after(attempts: int, given: int | None) -> int | None:
        return next_attempt_ms(attempts, now_ms=0, random=Random(0), retry_after_ms=given)

    assert after(1, 60_000) == 60_000
    assert after(1, 10**12) == RETRY_AFTER_MAX_MS
    later = after(2, 1_000)
    assert later is not None
    assert later >= DELAYS_MS[1]
    assert after(ATTEMPTS_MAX, 60_000) is None


def test_delays_vary_so_that_messages_do_not_come_back_together() -> None:
    random = Random(3)
    assert len({next_attempt_ms(2, now_ms=0, random=random) for _ in range(50)}) > 40
