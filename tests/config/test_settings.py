"""Settings of the process."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from tallygate.config.settings import Settings, flag_name, load_settings, misspelt_variables, secret_fields, variable_name
from tallygate.domain.errors import ConfigError

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables or .env of whoever runs the tests."""
    import os

    for name in [name for name in os.environ if name.startswith("TALLYGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def problems(flags=None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(flags)
    return caught.value.problems


def test_the_defaults_are_those_that_others_rely_on() -> None:
    settings = load_settings()

    assert (settings.listen, settings.console_listen) == ("127.0.0.1:8080", "127.0.0.1:9090")
    assert (settings.upstream_url, settings.config_dir, settings.log_level) == ("", None, "info")
    assert (settings.lease_seconds, settings.checkpoint_seconds, settings.drain_seconds) == (30, 5, 30)
    assert (settings.header_timeout_seconds, settings.idle_timeout_seconds) == (10, 75)
    assert (settings.body_bytes_max, settings.header_bytes_max) == (32_000_000, 32_768)
    assert (settings.spend_fail_policy, settings.spend_grace_nano_usd) == ("refuse", 10**9)
    assert {settings.redis_url.get_secret_value(), settings.database_url.get_secret_value()} == {""}


def test_the_defaults_satisfy_their_own_rules() -> None:
    settings = load_settings()
    load_settings({name: value for name, value in settings.model_dump().items() if value is not None})


def test_a_flag_wins_over_a_variable_over_a_secret_file_over_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = []

    def note() -> None:
        found.append(load_settings().admin_token.get_secret_value())

    (tmp_path / ".env").write_text("TALLYGATE_ADMIN_TOKEN=from-dotenv\nOTHER=1\n")
    note()
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("TALLYGATE_ADMIN_TOKEN_FILE", str(tmp_path / "token"))
    note()
    monkeypatch.delenv("TALLYGATE_ADMIN_TOKEN_FILE")
    monkeypatch.setenv("TALLYGATE_ADMIN_TOKEN", "from-variable")
    note()
    found.append(load_settings({"admin_token": "from-flag", "workers": None}).admin_token.get_secret_value())

    assert found == ["from-dotenv", "from-file", "from-variable", "from-flag"]


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYGATE_CONFIG_DIR", "")
    monkeypatch.setenv("TALLYGATE_WORKERS", "")

    assert load_settings() == Settings()


def test_every_wrong_variable_is_named_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LISTEN": "8080",
        "CONSOLE_LISTEN": "localhost:70000",
        "UPSTREAM_URL": "ftp://x.example.com",
        "WORKERS": "0",
        "LOG_LEVEL": "loud",
        "LEASE_SECONDS": "long",
        "BODY_BYTES_MAX": "99999999999",
        "SPEND_FAIL_POLICY": "allow",
        "SPEND_GRACE_USD": "1.5e3",
    }.items():
        monkeypatch.setenv(f"TALLYGATE_{name}", value)

    assert problems() == (
        "TALLYGATE_LISTEN must be host:port, such as 127.0.0.1:8080 or [::]:8080",
        "TALLYGATE_CONSOLE_LISTEN must be host:port, such as 127.0.0.1:8080 or [::]:8080",
        "TALLYGATE_UPSTREAM_URL must be a URL such as https://api.example.com, got 'ftp://x.example.com'",
        "TALLYGATE_WORKERS must be at least 1, got 0",
        "TALLYGATE_LOG_LEVEL must be one of 'debug', 'info', 'warning' or 'error'",
        "TALLYGATE_LEASE_SECONDS must be an integer",
        "TALLYGATE_BODY_BYTES_MAX must be at most 2147483647, got 99999999999",
        "TALLYGATE_SPEND_FAIL_POLICY must be one of 'refuse' or 'grace'",
        "TALLYGATE_SPEND_GRACE_USD must be a decimal number of USD such as '0.15', got '1.5e3'",
    )


def test_settings_that_contradict_each_other_are_refused() -> None:
    assert problems({"lease_seconds": 9, "checkpoint_seconds": 5}) == (
        "TALLYGATE_LEASE_SECONDS must be at least twice TALLYGATE_CHECKPOINT_SECONDS: one lost renewal is normal",
    )
    assert "TALLYGATE_CONSOLE_LISTEN must differ" in problems({"console_listen": "127.0.0.1:8080"})[0]


def test_a_secret_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in secret_fields():
        monkeypatch.setenv(variable_name(name), "canary=7f3a")  # which could be headers, too
    settings = load_settings()

    assert settings.redis_url.get_secret_value() == "canary=7f3a"
    assert "canary" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_a_wrong_secret_does_not_show_in_its_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYGATE_ADMIN_TOKEN", "canary-7f3a\nX-Injected: 1")
    monkeypatch.setenv("TALLYGATE_UPSTREAM_URL", "https://user:canary-7f3a@x.example.com")
    told = problems()

    assert "canary" not in " ".join(told)
    assert told == (
        "TALLYGATE_UPSTREAM_URL must not hold a user or password: use `auth`",
        "TALLYGATE_ADMIN_TOKEN must be one line without control characters",
    )


def test_a_secret_in_two_places_or_in_no_readable_file_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TALLYGATE_REDIS_URL_FILE", str(tmp_path / "missing"))
    assert re.fullmatch(r"TALLYGATE_REDIS_URL_FILE names the file '.*', which cannot be read: .*", problems()[0])
    (tmp_path / "missing").write_text("")
    assert "which is empty" in problems()[0]
    monkeypatch.setenv("TALLYGATE_REDIS_URL", "redis://localhost")
    assert problems() == ("TALLYGATE_REDIS_URL and TALLYGATE_REDIS_URL_FILE are both set: keep one",)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().workers = 2


def test_a_misspelt_variable_is_pointed_out_but_not_those_that_kubernetes_makes() -> None:
    environ = {
        "TALLYGATE_REDIS_ULR": "x",
        "TALLYGATE_REDIS_URL_FILE": "x",
        "TALLYGATE_WORKERS": "1",
        "TALLYGATE_SERVICE_HOST": "10.0.0.1",
        "TALLYGATE_PORT": "tcp://10.0.0.1:8080",
        "TALLYGATE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "PATH": "/bin",
    }
    assert misspelt_variables(environ) == ("TALLYGATE_REDIS_ULR is not a setting, did you mean 'TALLYGATE_REDIS_URL'?",)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_row_in_the_documentation_with_its_default(name: str) -> None:
    field = Settings.model_fields[name]
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    row = re.search(rf"^\| `{variable_name(name)}` \| (.*?) \|", DOCUMENT.read_text(), re.MULTILINE)

    assert row is not None
    assert row[1].strip("` ") == ("" if default in ("", None) else str(default))
    assert field.description
    assert flag_name(name).startswith("--")


def test_a_collector_needs_the_extra_which_its_error_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({"otlp_endpoint": "http://127.0.0.1:4318/"}).otlp_endpoint == "http://127.0.0.1:4318"
    assert problems({"otlp_endpoint": "http://u:p@collector"}) == (
        "TALLYGATE_OTLP_ENDPOINT must not hold a user or password: use TALLYGATE_OTLP_HEADERS",
    )
    for missing in (None, ModuleNotFoundError("opentelemetry")):

        def find(_name: str, missing: ModuleNotFoundError | None = missing) -> None:
            if missing is not None:
                raise missing

        monkeypatch.setattr("tallygate.config.settings.find_spec", find)
        assert problems({"otlp_endpoint": "http://127.0.0.1:4318"}) == (
            "TALLYGATE_OTLP_ENDPOINT needs the package opentelemetry-proto: pip install 'tallygate[otel]'",
        )
        assert load_settings({"otlp_endpoint": ""}).otlp_endpoint == ""


def test_headers_of_a_collector_are_read_as_opentelemetry_writes_them() -> None:
    settings = load_settings({"otlp_headers": SecretStr("Authorization=Bearer%20a%2Cb, x-tenant = acme ,")})
    assert settings.otlp_header_fields == {"Authorization": "Bearer a,b", "x-tenant": "acme"}
    for wrong in ("canary", "a b=canary", "x=canary%0a", "x=canary\u00e9", "=canary"):
        (problem,) = problems({"otlp_headers": SecretStr(wrong)})
        assert problem.startswith("TALLYGATE_OTLP_HEADERS must be headers")
        assert "canary" not in problem


@pytest.mark.parametrize("ratio", ["1.1", "-0.1", "all"])
def test_a_share_is_between_0_and_1(ratio: str) -> None:
    (problem,) = problems({"otlp_trace_ratio": ratio})
    assert problem.startswith("TALLYGATE_OTLP_TRACE_RATIO must be") or "number" in problem


def test_even_pydantics_own_error_does_not_quote_what_was_given() -> None:
    with pytest.raises(ValueError, match="validation error") as caught:
        Settings(admin_token=SecretStr("canary-7f3a\n"), upstream_url="https://user:canary-7f3a@x.example.com")

    assert "canary" not in str(caught.value)
