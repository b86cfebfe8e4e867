"""Commands beside a serve use its configuration and its database, and say so."""

import json
import os

import pytest
from click.testing import CliRunner

from tallygate.app.role import Role
from tallygate.cli import main
from tallygate.config.load import misspelt_files
from tallygate.config.settings import load_settings
from tallygate.processes.data_directory import DataDirectory
from tallygate.processes.running_settings import keep_running_settings


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An empty directory and an empty environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TALLYGATE_")]:
        monkeypatch.delenv(name)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "plans.yaml").write_text("plans:\n  gold: {}\n")
    return tmp_path


@pytest.fixture
def serving(here):
    """A configuration with the plan `gold` is served, with a database of its own."""
    lock = DataDirectory(here / "tallygate-data").lock()
    settings = load_settings(
        {"config_dir": here / "conf", "database_url": "sqlite:///own.db", "upstream_url": "http://127.0.0.1:9"}
    )
    keep_running_settings(here / "tallygate-data", Role.SERVE, settings, {}, gateway_url="http://g:1", console_url="http://c:2")
    yield here
    os.close(lock)


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def words(text):
    return " ".join(text.split())


def test_a_command_without_settings_uses_those_that_serve(serving):
    made = run("orgs", "create", "acme", "--plan", "gold")

    assert made.exit_code == 0, made.output
    assert f"with {serving}/conf, database sqlite:///{serving}/own.db, as tallygate serve runs on tallygate-data" in words(
        made.stderr
    )
    assert (serving / "own.db").exists()
    assert not (serving / "tallygate-data" / "ledger.db").exists()
    assert "acme" in run("orgs", "list").stdout
    assert run("usage").exit_code == 0
    assert f"ok {serving}/conf" in words(run("check").stdout)
    config = next(finding for finding in json.loads(run("doctor", "--json").stdout) if finding["check"] == "config")
    assert config == {"check": "config", "is_good": True, "text": f"{serving}/conf"}
    assert f"{serving}/conf" in "".join(run("doctor").stdout.split()), "with the address of its upstream"


@pytest.mark.parametrize(
    ("option", "value", "what", "theirs"),
    [("--config-dir", "other", "configuration", "conf"), ("--database-url", "sqlite:///other.db", "database", "own.db")],
)
def test_a_command_with_other_settings_is_told_which_serve(serving, option, value, what, theirs):
    (serving / "other").mkdir()

    told = words(run("orgs", "create", "acme", "--plan", "free", option, value).stderr)

    assert f"warning: the {what} of this command is not that of the tallygate serve at http://g:1, which uses" in told
    assert theirs in told
    assert f"leave {option}" in told


def test_the_same_settings_in_other_words_are_no_others(serving):
    told = run("orgs", "list", "--config-dir", "conf/../conf", "--database-url", "sqlite:///own.db").stderr

    assert "warning" not in told


def test_a_change_where_nothing_serves_is_told(here):
    made = run("orgs", "create", "acme", "--plan", "free")

    assert made.exit_code == 0
    assert "nothing serves from tallygate-data" in words(made.stderr)
    assert "nothing serves" not in run("orgs", "list").stderr


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("plan.yml", "plans.yaml"),
        ("orgs.yaml", "organizations.yaml"),
        ("prices.yml", "prices.yaml"),
        ("Routes.yaml", "routes.yaml"),
        ("upstream.yaml", "upstreams.yaml"),
        ("auth.yml", "authentication.yaml"),
        ("webhook.yaml", "webhooks.yaml"),
    ],
)
def test_misspelt_file_names_are_told_with_the_right_one(tmp_path, name, meant):
    (tmp_path / name).touch()
    assert misspelt_files(tmp_path) == (f"{name} is not read, did you mean {meant!r}?",)
    (tmp_path / meant).touch()
    assert misspelt_files(tmp_path) == (f"{name} is not read, only {meant!r} beside it is",)


def test_serve_tells_of_misspelt_files(here):
    (here / "conf" / "plan.yml").touch()
    (here / "conf" / "upstreams.yaml").write_text("upstreams: {default: {base_url: 'http://127.0.0.1:9'}}\n")

    refused = run("serve", "--config-dir", "conf", "--listen", "192.0.2.1:1")  # an address that no machine has: RFC 5737

    assert refused.exit_code == 1
    assert "warning: plan.yml is not read, only 'plans.yaml' beside it is" in words(refused.stderr)
