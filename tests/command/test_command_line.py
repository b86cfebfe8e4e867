"""The `tallygate` command as a user meets it."""

import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tallygate.cli import main
from tallygate.config.directory import Directory
from tallygate.config.load import load_config
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.telemetry.unpriced_models import UNPRICED_UNITS, UnpricedModels


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command in an empty directory with an empty environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TALLYGATE_")]:
        monkeypatch.delenv(name)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def test_a_new_key_opens_the_door_that_its_yaml_describes(run, tmp_path):
    shown = run("keys", "new", "acme-prod").output
    [key] = re.findall(r"^tg_acme-prod_\S+$", shown, re.MULTILINE)
    yaml = shown[shown.index("    credentials:") :]
    config = tmp_path / "config"
    config.mkdir()
    (config / "organizations.yaml").write_text(f"organizations:\n  - id: acme\n    name: Acme\n    plan: enterprise\n{yaml}")

    organizations = load_config(
        config, shipped_dir=shipped_directory(), known_dialects=dialects().traits, environ={}, default_url="http://u"
    ).organizations

    found = Directory(organizations).find(key)
    assert found is not None
    assert found[1].id == "acme-prod"
    assert hashlib.sha256(key.rpartition("_")[2].encode()).hexdigest() in yaml


def test_two_keys_are_never_alike(run):
    assert run("keys", "new", "a").output != run("keys", "new", "a").output


def test_a_client_id_that_configuration_would_refuse_gets_no_key(run):
    refused = run("keys", "new", "acme prod")

    assert refused.exit_code == 2
    assert "tg_" not in refused.output


def test_check_prints_each_problem_with_its_line_and_fails(run, tmp_path):
    (tmp_path / "plans.yaml").write_text("plans:\n  free: {api_acess: false}\n")

    checked = run("check", "--config-dir", str(tmp_path))

    assert checked.exit_code == 1
    assert "plans.yaml:2: " in checked.output
    assert "api_access" in checked.output, "the nearest right key"


def test_check_tells_of_a_file_that_is_not_read_for_its_misspelt_name(run, tmp_path):
    for name in ("organisations.yaml", "routes.yml", "organizations.example.yaml", "plans-old.yaml", "kustomization.yaml"):
        (tmp_path / name).write_text("")

    checked = run("check", "--config-dir", str(tmp_path))

    assert checked.exit_code == 0, "a directory may hold anything beside the configuration"
    told = " ".join(checked.output.split())
    assert "organisations.yaml is not read, did you mean 'organizations.yaml'?" in told
    assert "routes.yml is not read, did you mean 'routes.yaml'?" in told
    assert told.count("is not read") == 2


def test_check_is_content_with_what_is_shipped(run, monkeypatch):
    monkeypatch.setenv("TALLYGATE_UPSTREAM_URL", "http://127.0.0.1:9")

    assert run("check").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serve", "--workers", "none"), "TALLYGATE_WORKERS"),
        (("serve", "--listen", "nowhere"), "TALLYGATE_LISTEN"),
        (("serve",), "upstreams.yaml"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_a_line_without_a_traceback(run, arguments, says):
    refused = run(*arguments)

    assert refused.exit_code == 78
    assert says in refused.output
    assert "Traceback" not in refused.output
    assert isinstance(refused.exception, SystemExit)


def test_doctor_finds_a_store_that_is_not_there_and_shows_no_password(run, monkeypatch):
    monkeypatch.setenv("TALLYGATE_UPSTREAM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TALLYGATE_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")

    found = run("doctor")

    assert found.exit_code == 1
    assert "does not answer" in found.output
    assert "hunter2" not in found.output


def test_doctor_approves_of_a_good_store_and_warns_of_one_that_forgets(run, monkeypatch, valkey_url):
    monkeypatch.setenv("TALLYGATE_UPSTREAM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TALLYGATE_REDIS_URL", valkey_url)

    found = run("doctor").output

    assert re.search(r"^ok\s+eviction\s+maxmemory-policy is noeviction", found, re.MULTILINE)
    assert re.search(r"^bad\s+durability", found, re.MULTILINE), "the tests' server keeps nothing"


@pytest.mark.parametrize("command", [(), *((name,) for name in main.commands)])
def test_every_command_explains_itself(run, command):
    shown = run(*command, "--help")

    assert shown.exit_code == 0
    assert "Usage:" in shown.output


def test_the_version_is_that_of_the_package(run):
    assert re.fullmatch(r"tallygate \d+\.\d+\.\d+\n", run("version").output)


def test_check_needs_no_upstream_address_but_says_that_serve_does(run, tmp_path):
    answer = run("check", "--config-dir", str(tmp_path))

    assert answer.exit_code == 0
    assert "TALLYGATE_UPSTREAM_URL is not set here" in " ".join(answer.output.split())


def test_check_names_models_that_lacked_a_price_in_the_last_days(run, tmp_path):
    now_ms = time.time_ns() // 1_000_000
    unpriced = UnpricedModels(tmp_path / "data" / "unpriced_models", "worker-0")
    for model, org, policy, days in (
        ("gpt-[b]99", "acme", "refuse", 0),
        ("gpt-[b]99", "globex", "unpriced", 1),
        ("gpt-4o", "acme", "refuse", 0),  # which has a price by now
        ("gpt-4o-mini", "acme", UNPRICED_UNITS, 0),
        ("forgotten", "acme", "refuse", 8),
    ):
        unpriced.note(model, org, policy, now_ms=now_ms - days * 86_400_000)

    answer = run("check", "--data-dir", "data")

    assert answer.exit_code == 0
    told = " ".join(answer.output.split())
    assert "'gpt-[b]99' was asked for by acme, globex without a price" in told
    assert ": refused; served for nothing" in told
    assert "'gpt-4o-mini' was asked for by acme without a price" in told
    assert "flag unpriced_units" in told
    assert "'gpt-4o' was" not in told
    assert "forgotten" not in told


def test_check_says_where_it_cannot_know_of_models_without_a_price(run, tmp_path):
    assert "no gateway has served from tallygate-data" in " ".join(run("check").output.split())

    (tmp_path / "unpriced_models").write_text("")
    assert "cannot be read from unpriced_models: Not a directory" in " ".join(run("check", "--data-dir", ".").output.split())


@pytest.mark.parametrize("name", ["default", "gloo"])
def test_check_asks_for_no_address_that_the_files_have(run, tmp_path, name):
    (tmp_path / "upstreams.yaml").write_text(f"upstreams: {{{name}: {{base_url: https://platform.ai.gloo.com}}}}\n")
    route = f"{{method: POST, path: /ai/v2/responses, capability: chat, dialect: gloo_responses, upstream: {name}}}"
    (tmp_path / "routes.yaml").write_text(f"routes: [{route}]\n")

    answer = run("check", "--config-dir", str(tmp_path))

    assert answer.exit_code == 0, answer.output
    assert "UPSTREAM_URL" not in answer.output


@pytest.mark.process
def test_output_without_room_is_told_in_a_line(tmp_path):
    for arguments in (["plans", "--data-dir", "data"], ["version"]):
        command = [sys.executable, "-m", "tallygate", *arguments]
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (1, "Error: the output cannot be written: No space left on device\n")


@pytest.mark.process
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_lead_nowhere(tmp_path, closed):
    script = f'"$0" -m tallygate models --data-dir data {closed}; echo "ended with $?"'
    ended = subprocess.run(["sh", "-c", script, sys.executable], capture_output=True, cwd=tmp_path, text=True, check=False)
    assert ended.stdout.endswith("ended with 0\n"), ended.stderr
