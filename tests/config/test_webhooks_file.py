"""webhooks.yaml: what a right file becomes, and who gets which notice."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from tallygate.config.load import ConfigSource
from tallygate.config.shipped import shipped_directory
from tallygate.config.webhook_endpoint import NOTICE_TYPES, WebhookEndpoint
from tallygate.config.webhooks import signing_key
from tallygate.domain.errors import ConfigError

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()

LoadWebhooks = Callable[[str], tuple[WebhookEndpoint, ...]]


@pytest.fixture
def load_webhooks(source: ConfigSource, tmp_path: Path) -> LoadWebhooks:
    def write_and_load(text: str) -> tuple[WebhookEndpoint, ...]:
        (tmp_path / "webhooks.yaml").write_text(text)
        return replace(source, environ={"OPS_SECRET": SECRET}).load().webhooks

    return write_and_load


def one(**lines: str) -> str:
    told = {"name": "ops", "url": "https://hooks.example.com/x", "secret_env": "OPS_SECRET", **lines}
    return "webhooks:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in told.items())


def test_without_the_file_nothing_is_sent(source: ConfigSource) -> None:
    assert source.load().webhooks == ()


def test_an_endpoint_gets_everything_of_everybody_unless_told_otherwise(load_webhooks: LoadWebhooks) -> None:
    (endpoint,) = load_webhooks(one())
    assert endpoint == WebhookEndpoint(name="ops", url="https://hooks.example.com/x", keys=(KEY,))
    assert all(endpoint.wants(notice_type, "anybody") for notice_type in NOTICE_TYPES)
    assert load_webhooks(one(organizations="all")) == (endpoint,)


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
