"""`tallygate init`, from an empty directory to the first metered request."""

import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from aiohttp import ClientSession
from click.testing import CliRunner
from gateway_harness import running_gateway, shared_prompt_tokens
from usage_events import counts_of_event, counts_of_served

from tallygate.cli import main
from tallygate.commands.init import STARTERS
from tallygate.config.load import load_config
from tallygate.config.model import AuthKind
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.simulator.server import running_simulator
from tallygate.simulator.service import SimulatorSettings

KEY_VARIABLES = {
    "gloo": "GLOO_API_KEY",
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "openai-compatible": "UPSTREAM_API_KEY",
}
ADDRESSES = {
    "gloo": "https://platform.ai.gloo.com",
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "openai-compatible": "http://127.0.0.1:8000",
}
# In which the API takes its key, wherever one header fits all of its endpoints.
HEADERS = {
    "gloo": "authorization",
    "openai": "authorization",
    "anthropic": "x-api-key",
    "gemini": "auto",
    "openai-compatible": "authorization",
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command in an empty directory, with neither settings nor keys in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TALLYGATE_") or name in KEY_VARIABLES.values()]:
        monkeypatch.delenv(name)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def upstream(environ):
    config = load_config(Path("config"), shipped_dir=shipped_directory(), known_dialects=dialects().traits, environ=environ)
    return config.upstreams["default"]


def curl(shown):
    """The printed curl command: URL, headers, body. Its header with the key comes from standard input."""
    words = shlex.split(shown[shown.index("  curl ") : shown.index("  tallygate usage")].replace("\\\n", ""))
    assert words[:4] == ["curl", "-H", "@-", "<<<"]
    given = dict(header.split(": ", 1) for flag, header in pairwise(words) if flag == "-H" and header != "@-")
    [url] = [word for word in words if word.startswith("http://")]
    return url, given, words[words.index("-d") + 1]


@pytest.mark.parametrize("api", STARTERS)
def test_what_is_written_passes_the_check_with_the_key_alone(run, monkeypatch, api):
    assert run("init", api).exit_code == 0
    monkeypatch.setenv(KEY_VARIABLES[api], "sk-of-the-operator")

    assert run("check", "--config-dir", "config").exit_code == 0
    written = upstream({KEY_VARIABLES[api]: "sk-of-the-operator"})
    assert written.base_url == ADDRESSES[api]
    assert (written.auth.kind, written.auth.secret) == (AuthKind.BEARER, "sk-of-the-operator")
    assert written.auth.header == HEADERS[api]


def test_the_check_asks_for_the_key_of_the_api(run):
    run("init", "gloo")

    checked = run("check", "--config-dir", "config")

    assert checked.exit_code == 1
    assert "names the variable 'GLOO_API_KEY', which is not set" in checked.output


@pytest.mark.parametrize("api", STARTERS)
async def test_the_printed_request_is_served_and_metered(run, monkeypatch, tmp_path, api):
    monkeypatch.setenv(KEY_VARIABLES[api], "sk-of-the-operator")
    settings = SimulatorSettings(profile="gloo", api_key="sk-of-the-operator") if api == "gloo" else None
    async with running_simulator(settings=settings, prompt_tokens=shared_prompt_tokens()) as simulator:
        shown = run("init", api, "--base-url", f"{simulator.url}/v1").output
        [key] = re.findall(r"^tg_acme-prod_\S+$", shown, re.MULTILINE)
        url, headers, body = curl(shown)
        async with running_gateway(tmp_path, config_dir=tmp_path / "config") as stack, ClientSession() as client:
            path = url.removeprefix("http://127.0.0.1:8080")
            answer = await client.post(stack.url + path, data=body, headers={**headers, "Authorization": f"Bearer {key}"})
            text = await answer.text()
            await stack.at_rest()
            [event] = stack.events()
        served = [record for record in simulator.ledger.records if record.method == "POST"]  # not its catalogue of prices
    assert answer.status == 200, text
    assert (event["org"], event["credential"]) == ("acme", "acme-prod")
    assert [counts_of_event(event)] == [counts_of_served(record) for record in served]
    assert (event["cost_nano_usd"] == 0) == (api == "openai-compatible"), "its models have no price until one is given"
    assert ("unpriced" in event["flags"]) == (api == "openai-compatible")


@pytest.mark.parametrize("kind", [AuthKind.OAUTH2_CLIENT_CREDENTIALS, AuthKind.PASSTHROUGH])
def test_the_other_blocks_of_gloo_work_once_they_take_the_place_of_the_first(run, kind):
    run("init", "gloo")
    file = Path("config/upstreams.yaml")
    text = file.read_text()
    first, second, third = re.split(r"^    # \d\. ", text, flags=re.MULTILINE)[1:]
    block = second if kind is AuthKind.OAUTH2_CLIENT_CREDENTIALS else third
    own = "\n".join("    " + line for line in re.findall(r"^    # (auth:.*|  \w+: .*)$", block, re.MULTILINE))
    assert own.count("auth:") == 1
    file.write_text(text.replace(first[first.index("    auth:\n") :], f"{own}\n\n", 1))

    auth = upstream({"GLOO_CLIENT_ID": "client", "GLOO_CLIENT_SECRET": "secret"}).auth

    assert auth.kind is kind
    if kind is AuthKind.OAUTH2_CLIENT_CREDENTIALS:
        assert (auth.client_id, auth.secret, auth.scope) == ("client", "secret", "api/access")
        assert auth.token_url == "https://platform.ai.gloo.com/oauth2/token"


def test_no_secret_is_in_a_file_or_an_argument(run):
    shown = run("init", "gloo").output
    [key] = re.findall(r"tg_acme-prod_\S+", shown)

    assert all(key.rpartition("_")[2] not in path.read_text() for path in Path("config").rglob("*.*"))
    assert "GLOO_API_KEY=" not in shown
    assert shown.count(key) == 1
    assert run("init", "gloo", "--config-dir", "other").output.count(key) == 0, "each has a key of its own"


def test_each_file_names_its_schema_which_lies_beside_it(run):
    run("init", "gloo")

    for path in Path("config").glob("*.yaml"):
        line = path.read_text().partition("\n")[0]
        named = Path("config") / line.removeprefix("# yaml-language-server: $schema=")
        assert json.loads(named.read_text())["title"] == path.name


def test_a_schema_is_printed_and_all_are_written(run):
    assert json.loads(run("schema", "plans.yaml").output)["title"] == "plans.yaml"
    assert run("schema", "--write", "there").exit_code == 0
    assert Path("there/plans.schema.json").read_text() == run("schema", "plans").output
    assert "Give one of" in run("schema", "plan").output
    assert "Give one of" in run("schema").output


@pytest.mark.parametrize("there", ["upstreams.yaml", "organizations.yaml", "webhooks.yaml"])
def test_nothing_is_written_where_a_configuration_is(run, tmp_path, there):
    config = tmp_path / "config"
    config.mkdir()
    (config / there).write_text("mine\n")

    refused = run("init", "gloo")

    assert refused.exit_code == 1
    assert there in refused.output
    assert "tg_" not in refused.output
    assert [path.read_text() for path in config.iterdir()] == ["mine\n"]


def test_half_a_directory_is_taken_back(run, tmp_path):
    config = tmp_path / "config"
    config.mkdir()
    (config / "organizations.yaml").symlink_to(tmp_path / "nowhere" / "gone")
    (config / "README").write_text("other files do not matter\n")

    refused = run("init", "gloo")

    assert refused.exit_code == 1
    assert "organizations.yaml" in refused.output
    assert sorted(path.name for path in config.iterdir()) == ["README", "organizations.yaml"]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("http://10.0.0.5:8000", "http://10.0.0.5:8000"),
        ("https://api.groq.com/openai/v1/", "https://api.groq.com/openai"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_an_address_may_end_as_sdks_want_it(run, given, written):
    shown = run("init", "openai-compatible", "--base-url", given, "--config-dir", "my config").output

    assert yaml.safe_load(Path("my config/upstreams.yaml").read_text())["upstreams"]["default"]["base_url"] == written
    assert "tallygate serve --config-dir 'my config'" in shown
    assert "is an example" not in shown


def test_who_gives_no_address_of_a_server_of_their_own_is_told_where_it_stands(run):
    assert "base_url is an example" in run("init", "openai-compatible").output


@pytest.mark.parametrize("given", ["https://user:hunter2@host", "ftp://host", "host:8000"])
def test_an_address_that_cannot_be_used_is_refused(run, given):
    refused = run("init", "openai-compatible", "--base-url", given)

    assert refused.exit_code == 2
    assert "--base-url" in refused.output
    assert "hunter2" not in refused.output
    assert not Path("config").exists()


def test_the_page_of_gloo_types_what_is_printed(run):
    page = (Path(__file__).parents[2] / "docs" / "gloo.md").read_text(encoding="utf-8")
    shown = run("init", "gloo").output

    assert "$ tallygate init gloo" in page
    for command in re.findall(r"^ +((?:read|tallygate) [^#\n]+?) *(?:#.*)?$", shown, re.MULTILINE):
        assert f"$ {command}" in page
    url, _, body = curl(shown)
    assert url in page
    assert f"-d '{body}'" in page
