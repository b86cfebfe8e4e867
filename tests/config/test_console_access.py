"""Who may see the console's port, by the settings."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tallygate.app.access import asked_token_sha256, known_hosts, metrics_token, platform_token
from tallygate.config.settings import Settings, load_settings
from tallygate.domain.errors import ConfigError


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return load_settings({"data_dir": tmp_path, **changes})


def test_on_loopback_no_token_is_asked_for_and_off_it_always(tmp_path: Path) -> None:
    for listen in ("127.0.0.1:9090", "localhost:9090", "[::1]:9090"):
        assert asked_token_sha256(settings(tmp_path, console_listen=listen)) is None
    for listen in ("0.0.0.0:9090", ":9090", "[::]:9090", "10.0.0.5:9090", "127.0.0.2:9090"):
        with pytest.raises(ConfigError, match="METRICS_TOKEN"):
            asked_token_sha256(settings(tmp_path, console_listen=listen))
        assert asked_token_sha256(settings(tmp_path, console_listen=listen, metrics_token=SecretStr("m")))
        assert asked_token_sha256(settings(tmp_path, console_listen=listen, admin_token=SecretStr("a")))


def test_behind_a_public_address_a_token_is_asked_for_on_loopback_too(tmp_path: Path) -> None:
    public = settings(tmp_path, console_url="https://usage.example.com", admin_token=SecretStr("a"))
    assert asked_token_sha256(public), "a proxy on this machine answers everybody"
    with pytest.raises(ConfigError, match="CONSOLE_URL"):
        asked_token_sha256(settings(tmp_path, console_url="http://10.0.0.5:9090"))
    for own in ("http://localhost:9090", "https://127.0.0.1", "http://[::1]:9090"):
        assert asked_token_sha256(settings(tmp_path, console_url=own)) is None


async def test_the_token_for_metrics_is_not_the_admins(tmp_path: Path) -> None:
    given = settings(tmp_path, metrics_token=SecretStr("m"), admin_token=SecretStr("a"))
    platform, metrics = platform_token(given), metrics_token(given)
    assert platform is not None
    assert metrics is not None
    assert await platform.find("m") is None
    assert await metrics.find("a") is None
    assert metrics_token(settings(tmp_path)) is None
    assert platform_token(settings(tmp_path)) is None


@pytest.mark.parametrize(
    ("changes", "host", "is_known"),
    [
        ({"console_listen": "10.0.0.5:9090"}, "10.0.0.5:9090", True),
        ({"console_listen": "console.internal:9090"}, "console.internal", True),
        ({"console_listen": "0.0.0.0:9090"}, "0.0.0.0:9090", False),
        ({"console_hosts": "a.internal, 10.0.0.5"}, "10.0.0.5:9090", True),
        ({"console_hosts": "a.internal, 10.0.0.5"}, "A.internal:1", True),
        ({"console_hosts": "a.internal"}, "b.internal", False),
        ({"console_hosts": "[fd00::1]"}, "[fd00::1]:9090", True),
    ],
)
def test_hosts_are_known_by_the_settings(tmp_path: Path, changes: dict[str, str], host: str, is_known: bool) -> None:
    assert known_hosts(settings(tmp_path, **changes)).include([host]) is is_known


@pytest.mark.parametrize("names", ["a b", "http://a", "a:9090", "*"])
def test_a_name_that_could_be_no_host_is_told(tmp_path: Path, names: str) -> None:
    with pytest.raises(ConfigError, match="TALLYGATE_CONSOLE_HOSTS"):
        settings(tmp_path, console_hosts=names)
