"""What a command reads of the settings that serve."""

import json
from pathlib import Path

import pytest

from tallygate.app.role import Role
from tallygate.config.settings import load_settings
from tallygate.domain.errors import ConfigError
from tallygate.processes.data_directory import DataDirectory
from tallygate.processes.running_settings import keep_running_settings, read_running_settings


def kept(root, environ=None, **flags):
    """Write the file as serve does, and read it back."""
    DataDirectory(root).lock()
    settings = load_settings({"data_dir": root, **flags})
    keep_running_settings(root, Role.SERVE, settings, environ or {}, gateway_url="http://g", console_url="http://c")
    return read_running_settings(root)


def test_what_is_given_is_kept_with_paths_from_the_root_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = kept(tmp_path, config_dir=Path("conf"), database_url="sqlite:///mine.db", workers=3)

    assert found.is_running
    assert found.value("config_dir") == str(tmp_path / "conf")
    assert found.value("database_url") == f"sqlite:///{tmp_path}/mine.db"
    assert found.value("workers") == "3"
    assert found.value("redis_url") is None, "the embedded one"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://tally:hunter2@db/ledger",
        "postgresql://tally:p@ss/hunter2@db/ledger",
        "postgresql://db/ledger?user=tally&password=hunter2",
        "postgresql://tally:hunter2@db-1:5432,db-2:5433/ledger?target_session_attrs=read-write",
    ],
)
def test_no_secret_is_written_and_a_command_without_it_is_told_what_to_set(tmp_path, url):
    found = kept(
        tmp_path,
        database_url=url,
        redis_url="redis+sentinel://:hunter2@r,s/limits/0?sentinel_username=tally&sentinel_password=hunter2",
        admin_token="hunter2",
        upstream_api_key="hunter2",
    )

    text = (tmp_path / "running.json").read_text()
    assert "hunter2" not in text
    assert not {"admin_token", "upstream_api_key"} & json.loads(text)["given"].keys()
    assert (tmp_path / "running.json").stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="set TALLYGATE_DATABASE_URL"):
        found.value("database_url")
    assert not found.differs("database_url", load_settings({"database_url": url}).database_url), "as far as can be seen"


def test_an_address_from_a_file_is_read_from_there_again(tmp_path):
    file = tmp_path / "secret"
    file.write_text("postgresql://tally:hunter2@db/ledger\n")
    found = kept(tmp_path / "data", {"TALLYGATE_DATABASE_URL_FILE": str(file)}, database_url=file.read_text().strip())

    assert found.value("database_url") == "postgresql://tally:hunter2@db/ledger"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"role": "serve"}', '{"given": 1}'])
def test_a_file_that_cannot_be_read_is_none(tmp_path, text):
    kept(tmp_path)
    (tmp_path / "running.json").write_text(text)

    assert read_running_settings(tmp_path) is None
