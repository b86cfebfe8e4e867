"""webhooks.yaml: what a right file becomes, and who gets which notice."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from tallygate.config.load import ConfigSource
from tallygate.config.shipped import shipped_directory
from tallygate.config.webhook_endpoint import (
    SPEND_NOTICES,
    MailAddresses,
    MailSecurity,
    MailServer,
    WebhookEndpoint,
    WebhookFormat,
)
from tallygate.config.webhooks import signing_key
from tallygate.domain.errors import ConfigError

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
CHAT_URL = "https://hooks.slack.example/services/T0/B0/5ecret"

LoadWebhooks = Callable[[str], tuple[WebhookEndpoint, ...]]


@pytest.fixture
def load_webhooks(source: ConfigSource, tmp_path: Path) -> LoadWebhooks:
    def write_and_load(text: str) -> tuple[WebhookEndpoint, ...]:
        (tmp_path / "webhooks.yaml").write_text(text)
        environ = {"OPS_SECRET": SECRET, "CHAT_URL": CHAT_URL, "MAIL_PASSWORD": "a mail password"}
        return replace(source, environ=environ).load().webhooks

    return write_and_load


def one(**lines: str) -> str:
    told = {"name": "ops", "url": "https://hooks.example.com/x", "secret_env": "OPS_SECRET", **lines}
    return "webhooks:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in told.items())


def test_without_the_file_nothing_is_sent(source: ConfigSource) -> None:
    assert source.load().webhooks == ()


def test_an_endpoint_gets_every_notice_of_a_limit_of_everybody_unless_told_otherwise(load_webhooks: LoadWebhooks) -> None:
    (endpoint,) = load_webhooks(one())
    assert endpoint == WebhookEndpoint(name="ops", url="https://hooks.example.com/x", keys=(KEY,))
    assert all(endpoint.wants(notice_type, "anybody") for notice_type in SPEND_NOTICES)
    assert load_webhooks(one(organizations="all")) == (endpoint,)


def test_digests_go_only_to_those_who_name_them(load_webhooks: LoadWebhooks) -> None:
    assert not load_webhooks(one())[0].wants("usage.digest", "acme")
    (endpoint,) = load_webhooks(one(events="[usage.digest]"))
    assert endpoint.wants("usage.digest", "acme")
    assert not endpoint.wants("spend.paused", "acme")


def test_an_endpoint_gets_only_what_it_names(load_webhooks: LoadWebhooks) -> None:
    (endpoint,) = load_webhooks(one(organizations="[acme]", events="[spend.paused]"))
    assert endpoint.wants("spend.paused", "acme")
    assert not endpoint.wants("spend.paused", "other")
    assert not endpoint.wants("spend.warning", "acme")
    (disabled,) = load_webhooks(one(enabled="false"))
    assert not disabled.wants("spend.paused", "acme")


def test_a_rotated_secret_signs_beside_the_new_one(load_webhooks: LoadWebhooks, tmp_path: Path) -> None:
    old = tmp_path / "old_secret"
    old.write_text("whsec_" + base64.b64encode(b"o" * 24).decode().rstrip("=") + "\n")
    (endpoint,) = load_webhooks(one(old_secret_file=str(old)))
    assert endpoint.keys == (KEY, b"o" * 24)
    assert "whsec" not in repr(endpoint)
    assert repr(KEY)[2:-1] not in repr(endpoint)


def test_a_process_that_sends_nothing_needs_no_secrets(source: ConfigSource, tmp_path: Path) -> None:
    (tmp_path / "webhooks.yaml").write_text(one(secret_env="NOT_SET_HERE"))
    (endpoint,) = replace(source, sends_webhooks=False).load().webhooks
    assert endpoint.keys == ()
    with pytest.raises(ConfigError, match="NOT_SET_HERE"):
        source.load()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/x", "http://[::1]/x", "http://localhost/x/", "https://h.example/x/?sig=1"])
def test_a_url_is_kept_as_it_is_written(load_webhooks: LoadWebhooks, url: str) -> None:
    (endpoint,) = load_webhooks(one(url=url))
    assert endpoint.url == url
    assert "sig" not in endpoint.shown_url


def test_plain_http_to_another_machine_must_be_asked_for(load_webhooks: LoadWebhooks) -> None:
    (endpoint,) = load_webhooks(one(url="http://hooks.internal/x", allow_http="true"))
    assert endpoint.url == "http://hooks.internal/x"
    with pytest.raises(ConfigError, match="https"):
        load_webhooks(one(url="http://hooks.internal/x"))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h.example/x",
        "https://",
        "/x",
        "https://h.example/x#y",
        "https://h.example:0/",
        "https://h.example/a b",
        "https://[::1",
    ],
)
def test_what_is_no_url_is_refused(load_webhooks: LoadWebhooks, url: str) -> None:
    with pytest.raises(ConfigError, match=r"webhooks\.yaml:3: webhooks\[0\]\.url must"):
        load_webhooks(one(url=f'"{url}"'))


@pytest.mark.parametrize(
    "secret", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", "whsec_" + "A" * 200]
)
def test_what_is_no_signing_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError) as refused:
        signing_key(secret)
    assert not secret or secret.removeprefix("whsec_")[:8] not in str(refused.value) or secret == "whsec_"


def test_an_endpoint_is_another_one_after_any_change(load_webhooks: LoadWebhooks, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    old = tmp_path / "old_secret"
    old.write_text(SECRET)
    changes: list[dict[str, str]] = [
        {},
        {"name": "other"},
        {"url": "https://hooks.example.com/y"},
        {"organizations": "[acme]"},
        {"events": "[spend.paused]"},
        {"enabled": "false"},
        {"ca_file": str(ca)},
        {"old_secret_file": str(old)},
    ]
    assert len({load_webhooks(one(**change))[0].fingerprint for change in changes}) == len(changes)
    assert load_webhooks(one())[0].fingerprint == load_webhooks(one(organizations="all"))[0].fingerprint


def chat(**lines: str) -> str:
    told = {"name": "ops", "format": "slack", "url_env": "CHAT_URL", **lines}
    return "webhooks:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in told.items() if value)


@pytest.mark.parametrize("kind", ["slack", "teams", "discord"])
def test_the_url_of_a_chat_service_is_a_secret(load_webhooks: LoadWebhooks, tmp_path: Path, kind: str) -> None:
    (endpoint,) = load_webhooks(chat(format=kind))
    assert endpoint == WebhookEndpoint(name="ops", format=WebhookFormat(kind), url=CHAT_URL)
    assert endpoint.shown_url == "https://hooks.slack.example/…"
    assert "5ecret" not in repr(endpoint)
    (tmp_path / "url").write_text(CHAT_URL + "\n")
    assert load_webhooks(chat(format=kind, url_env="", url_file=str(tmp_path / "url"))) == (endpoint,)
    assert load_webhooks(chat(format=kind, url_env="", url=CHAT_URL)) == (endpoint,)


def test_a_process_that_sends_nothing_needs_no_url_of_a_chat_service(source: ConfigSource, tmp_path: Path) -> None:
    (tmp_path / "webhooks.yaml").write_text(chat(url_env="NOT_SET_HERE"))
    (endpoint,) = replace(source, sends_webhooks=False).load().webhooks
    assert (endpoint.url, endpoint.shown_url) == ("", "slack: not read by this process")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ({"format": "sms"}, r"webhooks\[0\]\.format must be one of standard, slack, teams, discord, email"),
        ({"url_env": ""}, r"must have exactly one of url_env .* and url_file"),
        ({"url_env": "NOT_SET"}, r"url_env names the variable \"?'?NOT_SET"),
        ({"url_env": "OPS_SECRET"}, r"url_env names a text that is no https URL"),
        ({"secret_env": "OPS_SECRET"}, r"secret_env is not a known key"),
    ],
)
def test_what_a_chat_service_cannot_use_is_told_without_its_secret(
    load_webhooks: LoadWebhooks, lines: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as refused:
        load_webhooks(chat(**lines))
    assert "whsec" not in str(refused.value)


MAIL = """
webhooks:
  - name: finance
    format: email
    from: tallygate@example.com
    to: [finance@example.com, ops@example.org]
    smtp: {host: mail.example.com, user: tallygate, password_env: MAIL_PASSWORD}
"""


def test_a_mail_server_is_asked_for_encryption_unless_it_is_this_machine(load_webhooks: LoadWebhooks) -> None:
    (endpoint,) = load_webhooks(MAIL)
    server = MailServer(
        host="mail.example.com", port=587, security=MailSecurity.STARTTLS, user="tallygate", password="a mail password"
    )
    assert endpoint.mail == MailAddresses(
        server=server, sender="tallygate@example.com", recipients=("finance@example.com", "ops@example.org")
    )
    assert endpoint.shown_url == "mailto:finance@example.com,ops@example.org"
    assert "a mail password" not in repr(endpoint)

    on_the_network = "{host: mail.example.com, user: tallygate, password_env: MAIL_PASSWORD}"
    (local,) = load_webhooks(MAIL.replace(on_the_network, "{host: localhost, security: none}"))
    assert local.mail is not None
    assert (local.mail.server.port, local.mail.server.user) == (25, "")
    assert local.fingerprint != endpoint.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("tallygate@example.com", "tallygate", r"\.from must be an e-mail address"),
        ("ops@example.org", '"ops@example.org\\nBcc: x@evil.example"', r"\.to\[1\] must be an e-mail address"),
        ("[finance@example.com, ops@example.org]", "[]", r"\.to must not be empty"),
        ("mail.example.com", '"mail.example.com/x"', r"smtp\.host must be the name or address"),
        ("host: mail.example.com", "host: mail.example.com, security: none", r"smtp\.security must be starttls or tls"),
        ("password_env: MAIL_PASSWORD", "password: abc", r"password is not a known key|must have exactly one of password_env"),
        ("    from: tallygate@example.com\n", "", r"has no `from`"),
        ("    smtp", "    url: https://x.example/\n    smtp", r"url is not a known key"),
    ],
)
def test_what_is_no_mail_is_refused(load_webhooks: LoadWebhooks, old: str, new: str, problem: str) -> None:
    assert old in MAIL
    with pytest.raises(ConfigError, match=problem):
        load_webhooks(MAIL.replace(old, new))


def test_the_file_is_a_part_of_the_configuration_that_is_read_again_as_a_whole(source: ConfigSource, tmp_path: Path) -> None:
    file = tmp_path / "webhooks.yaml"
    mine = replace(source, environ={"OPS_SECRET": SECRET})
    file.write_text(one())
    first = mine.load()
    file.write_text(one(name="other"))
    second = mine.load()
    assert [endpoint.name for endpoint in second.webhooks] == ["other"]
    assert first.version != second.version

    file.write_text(one(url="http://hooks.example.com/x"))
    with pytest.raises(ConfigError):
        mine.load()
    file.unlink()
    assert mine.load().webhooks == ()


def test_the_shipped_example_is_a_right_file(source: ConfigSource, tmp_path: Path) -> None:
    (tmp_path / "webhooks.yaml").write_text((shipped_directory() / "webhooks.example.yaml").read_text())
    (endpoint,) = replace(source, environ={"BILLING_WEBHOOK_SECRET": SECRET}).load().webhooks
    assert endpoint.name == "billing"
