"""Which secrets each child finds in its environment."""

from pathlib import Path

import pytest

from tallygate.app.role import Role
from tallygate.config.settings import load_settings, secrets_on_command_line
from tallygate.processes.environments import environments, secret_variables

UPSTREAMS = """upstreams:
  default: {base_url: "https://a.example", auth: {kind: bearer, secret_env: OPENAI_KEY}}
  other: {base_url: "https://b.example", auth: {kind: oauth2_client_credentials, client_id_env: OAUTH_ID, secret_env: SHARED}}
"""
WEBHOOKS = "webhooks:\n  - {name: a, url: 'https://c.example', secret_env: SIGNING, old_secret_env: SHARED}\n"
AUTHENTICATION = "key_lookup: {url: 'https://d.example', secret_env: LOOKUP}\n"
SIGN_IN = "openid: {issuer: 'https://e.example', client_secret_env: CLIENT}\n"
SECRETS = {
    "TALLYGATE_UPSTREAM_API_KEY": "1",
    "TALLYGATE_ADMIN_TOKEN_FILE": "/run/secrets/admin",
    "TALLYGATE_METRICS_TOKEN": "3",
    "OPENAI_KEY": "4",
    "OAUTH_ID": "5",
    "SHARED": "6",
    "SIGNING": "7",
    "LOOKUP": "8",
    "CLIENT": "9",
}
PLAIN = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "TALLYGATE_LOG_LEVEL": "info",
    "TALLYGATE_REDIS_URL": "redis://x",
    "TALLYGATE_DATABASE_URL": "y",
}
OF_WORKERS = {"TALLYGATE_UPSTREAM_API_KEY", "OPENAI_KEY", "OAUTH_ID", "SHARED", "LOOKUP"}
OF_WEBHOOKS = {"SIGNING", "SHARED"}
OF_SIGN_IN = {"CLIENT"}
OF_CONSOLE = {"TALLYGATE_ADMIN_TOKEN_FILE", "TALLYGATE_METRICS_TOKEN"}


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    (tmp_path / "upstreams.yaml").write_text(UPSTREAMS)
    (tmp_path / "authentication.yaml").write_text(AUTHENTICATION)
    (tmp_path / "webhooks.yaml").write_text(WEBHOOKS)
    (tmp_path / "sign_in.yaml").write_text(SIGN_IN)
    return tmp_path


@pytest.mark.parametrize(
    ("role", "console"),
    [
        (Role.SERVE, OF_CONSOLE | OF_WEBHOOKS | OF_SIGN_IN),
        (Role.LEDGER, OF_CONSOLE | OF_WEBHOOKS),
        (Role.GATEWAY, OF_CONSOLE),
        (Role.CONSOLE, OF_CONSOLE | OF_SIGN_IN),
    ],
)
def test_each_child_has_its_own_secrets_and_all_plain_settings(config_dir: Path, role: Role, console: set[str]) -> None:
    found = environments(role, load_settings({"config_dir": config_dir}), {**SECRETS, **PLAIN})

    assert dict(found.worker) == PLAIN | {name: SECRETS[name] for name in OF_WORKERS}
    assert dict(found.console) == PLAIN | {name: SECRETS[name] for name in console}
    assert dict(found.valkey) == {"PATH": "/bin", "LC_ALL": "C"}


def test_the_seed_of_hashes_stays_a_secret_of_each_worker(tmp_path: Path) -> None:
    settings = load_settings({"config_dir": tmp_path})
    assert dict(environments(Role.SERVE, settings, {"PYTHONHASHSEED": "0"}).worker) == {}


@pytest.mark.parametrize("text", ["", "[", "a: &a [*a]", "\x00", "x: {secret_env: [1]}"])
def test_a_file_that_says_nothing_names_no_variable(tmp_path: Path, text: str) -> None:
    (tmp_path / "upstreams.yaml").write_text(text)
    assert secret_variables(tmp_path, "upstreams.yaml") == frozenset()
    assert secret_variables(tmp_path, "webhooks.yaml") == secret_variables(None, "webhooks.yaml") == frozenset()


def test_a_secret_on_the_command_line_is_warned_of() -> None:
    flags = {
        "upstream_api_key": "sk-1",
        "admin_token": None,
        "redis_url": "redis://127.0.0.1:6379",
        "database_url": "postgresql://u:hidden@db/x",
        "log_level": "info",
    }
    warnings = secrets_on_command_line(flags)
    assert [warning.partition(" ")[0] for warning in warnings] == ["--upstream-api-key", "--database-url"]
    assert "TALLYGATE_UPSTREAM_API_KEY_FILE" in warnings[0]
    assert not any(secret in warning for warning in warnings for secret in ("sk-1", "hidden"))
