"""`tallygate orgs`, `credentials`, `tokens`, `apply` and `changes`, on a database of their own."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tallygate.cli import main
from tallygate.config.directory import Directory
from tallygate.config.holder import ConfigHolder
from tallygate.config.settings import load_settings

ORGANIZATIONS: dict[str, Any] = {
    "organizations": [
        {
            "id": "acme",
            "name": "Acme",
            "plan": "pay_as_you_go",
            "time_zone": "America/New_York",
            "spend_limit": {"usd": "25", "warn_at": [0.5, 1.0]},
            "credentials": [
                {"id": "acme-prod", "key_sha256": "2c" * 32, "capabilities": ["embeddings", "chat"], "expires": "2030-01-31"},
                {"id": "acme-ci", "key_sha256": "3c" * 32, "rate_limits": [{"requests": 10, "window": "1m"}]},
            ],
        },
        {"id": "big", "plan": "enterprise"},
    ]
}


class Commands:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "wanted.yaml"

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [*arguments, "--data-dir", str(self.directory / "data")])
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def apply(self, content: dict[str, Any], *more: str, code: int = 0) -> Any:
        self.file.write_text(yaml.safe_dump(content, sort_keys=False))
        return self.json("apply", str(self.file), *more, code=code)

    def served(self) -> Directory:
        """As a worker that starts now would read it."""
        from tallygate.app.configuration import config_source
        from tallygate.app.stores import open_ledger, read_directory

        async def read() -> Directory:
            settings = load_settings({"data_dir": self.directory / "data", "upstream_url": "https://up.example.com"})
            source = config_source(settings, {})
            database = await open_ledger(settings)
            replica = await read_directory(database, ConfigHolder(source.load(), source.load))
            await database.close()
            return Directory(replica.organizations.values())

        return asyncio.run(read())


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path)


def test_an_organization_and_its_key_from_nothing_to_revoked(commands: Commands) -> None:
    made = commands.json("orgs", "create", "acme", "--plan", "pay_as_you_go", "--spend-limit", "25", "--name", "Acme Inc")
    assert made["effective"]["spend_limits"][0]["usd"] == "25.00"
    key = commands.json("credentials", "create", "acme", "acme-prod", "--capability", "chat", "--model", "gpt-4o*")["api_key"]
    found = commands.served().find(key)
    assert found is not None
    assert (found[0].name, found[1].capabilities, found[1].models) == ("Acme Inc", frozenset({"chat"}), ("gpt-4o*",))

    new = commands.json("credentials", "rotate", "acme", "acme-prod", "--overlap", "1h")["api_key"]
    directory = commands.served()
    assert directory.find(key)
    assert directory.find(new)
    assert commands.json("credentials", "revoke", "acme", "acme-prod", "--yes")["status"] == "revoked"
    directory = commands.served()
    assert directory.find(key) is directory.find(new) is None
    assert [entry["action"] for entry in commands.json("changes", "--subject", "acme-prod")] == [
        "credential.revoked",
        "credential.rotated",
        "credential.created",
    ]


def test_tables_show_what_there_is_and_secrets_once(commands: Commands) -> None:
    assert "no organizations" in commands("orgs", "list").stdout
    commands("orgs", "create", "acme", "--plan", "enterprise")
    shown = commands("credentials", "create", "acme", "acme-prod", "--name", "Production").stdout
    key = next(line for line in shown.splitlines() if line.startswith("tg_acme-prod_"))
    token = commands("tokens", "create", "CI", "--org", "acme", "--access", "write").stdout
    secret = next(line for line in token.splitlines() if line.startswith("tga_"))

    later = "".join(
        commands(*arguments).stdout
        for arguments in (
            ["orgs", "list"],
            ["orgs", "show", "acme"],
            ["credentials", "list", "acme"],
            ["tokens", "list"],
            ["changes"],
            ["changes", "--json"],
            ["tokens", "list", "--json"],
        )
    )
    assert "Production" in later
    assert "credential.created" in later
    assert key.rpartition("_")[2] not in later
    assert secret not in later


def test_changes_by_flag_and_by_field(commands: Commands) -> None:
    commands("orgs", "create", "acme", "--plan", "pay_as_you_go", "--spend-limit", "25")
    shown = commands.json(
        "orgs", "set", "acme", "--spend-limit", "plan", "--fields", '{"rate_limits": [{"requests": 3, "window": "1m"}]}'
    )
    assert shown["effective"]["spend_limits"][0]["usd"] == "100.00"
    assert shown["effective"]["rate_limits"][0]["requests"] == 3
    shown = commands.json("orgs", "set", "acme", "--plan", "pro", "--spend-limit", "500/month", "--billing-day", "15")
    assert [(limit["usd"], limit["window"]) for limit in shown["effective"]["spend_limits"]] == [("500.00", "month")]
    assert shown["billing_day"] == 15
    shown = commands.json("orgs", "set", "acme", "--spend-limit", "500/month", "--spend-limit", "90")
    assert {limit["window"]: limit["usd"] for limit in shown["effective"]["spend_limits"]} == {"month": "500.00", "7d": "90.00"}
    shown = commands.json("orgs", "set", "acme", "--spend-limit", "plan")
    assert [(limit["usd"], limit["window"]) for limit in shown["effective"]["spend_limits"]] == [("800.00", "month")]
    assert "billing day     15" in commands("orgs", "show", "acme").output
    commands("credentials", "create", "acme", "c", "--no-key")
    assert commands.json("credentials", "set", "acme", "c", "--disable", "--expires", "2030-01-01")["status"] == "disabled"
    assert commands.json("credentials", "set", "acme", "c", "--enable", "--fields", '{"expires": null}')["status"] == "active"
    token = commands.json("tokens", "create", "ops", "--all")["id"]
    assert commands.json("tokens", "revoke", token, "--yes")["revoked_at"]
    assert "give --yes" in commands("orgs", "delete", "acme", code=1).output
    assert commands.json("orgs", "delete", "acme", "--yes") == {"id": "acme", "deleted": True}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["orgs", "create", "acme", "--plan", "gold"], 1, "plan 'gold' is not a plan"),
        (["orgs", "create", "a b", "--plan", "enterprise"], 1, "id must be 1 to 64"),
        (["orgs", "create", "acme", "--plan", "enterprise", "--fields", "[]"], 2, "must be a JSON object"),
        (["orgs", "create", "acme", "--plan", "enterprise", "--fields", '{"colour": 1}'], 1, "colour is not a known key"),
        (["orgs", "create", "acme", "--plan", "pro", "--billing-day", "32"], 1, "billing_day must be at most 31, got 32"),
        (["orgs", "create", "acme", "--plan", "pro", "--spend-limit", "801/month"], 1, "plan's maximum of 800.00 USD, got 801.00"),
        (["orgs", "create", "acme", "--plan", "pro", "--spend-limit", "5/year"], 1, "spend_limit.window must be"),
        (["orgs", "show", "gone"], 1, "no organization 'gone'"),
        (["credentials", "create", "gone", "x"], 1, "no organization 'gone'"),
        (["credentials", "rotate", "gone", "x", "--overlap", "soon"], 2, "must be a whole number with a unit"),
        (["tokens", "create", "x"], 2, "say --all, or which with --org"),
        (["tokens", "create", "x", "--all", "--expires", "soon"], 2, "must be a date"),
        (["tokens", "revoke", "tok_gone", "--yes"], 1, "no admin token"),
        (["orgs", "list", "--database-url", "mysql://x:secret@y/z"], 78, "must begin with postgresql://"),
    ],
)
def test_mistakes_are_told_in_a_line(commands: Commands, arguments: list[str], code: int, says: str) -> None:
    output = commands(*arguments, code=code).output

    assert says in output
    assert "Traceback" not in output
    assert "secret" not in output


def test_a_dry_run_shows_the_difference_and_changes_nothing(commands: Commands) -> None:
    steps = commands.apply(ORGANIZATIONS, "--dry-run", code=2)

    assert [(step["verb"], step["organization"], step["credential"]) for step in steps] == [
        ("create", "acme", None),
        ("create", "acme", "acme-prod"),
        ("create", "acme", "acme-ci"),
        ("create", "big", None),
    ]
    assert commands.json("orgs", "list") == []
    text = commands("apply", str(commands.file), "--dry-run", code=2).stdout
    assert '+ spend_limit: {"usd": "25", "warn_at": [0.5, 1.0]}' in text
    assert "4 changes to make" in text


def test_what_was_applied_is_no_difference_any_more(commands: Commands) -> None:
    assert len(commands.apply(ORGANIZATIONS)) == 4
    assert commands.apply(ORGANIZATIONS, "--dry-run") == []
    assert commands.apply(ORGANIZATIONS) == []
    directory = commands.served()
    found = directory.credential("acme-prod")
    assert found is not None
    assert (found[0].time_zone, found[1].key_sha256) == ("America/New_York", bytes.fromhex("2c" * 32))


def test_a_changed_file_changes_only_what_differs(commands: Commands) -> None:
    commands.apply(ORGANIZATIONS)
    wanted = json.loads(json.dumps(ORGANIZATIONS))
    wanted["organizations"][0] |= {"plan": "enterprise", "billing_day": 15}
    wanted["organizations"][0]["credentials"][0]["key_sha256"] = "4c" * 32
    del wanted["organizations"][0]["credentials"][1]
    del wanted["organizations"][1]

    steps = commands.apply(wanted)
    assert [(step["verb"], step["credential"], step["after"]) for step in steps] == [
        ("change", None, {"plan": "enterprise", "billing_day": 15}),
        ("rotate", "acme-prod", {"key_sha256": "4c" * 32}),
    ]
    found = commands.served().credential("acme-prod")
    assert found is not None
    assert (found[1].key_sha256, found[1].old_key_sha256) == (bytes.fromhex("4c" * 32), bytes.fromhex("2c" * 32))

    pruned = commands.apply(wanted, "--prune", "--yes")
    assert [(step["verb"], step["organization"], step["credential"]) for step in pruned] == [
        ("revoke", "acme", "acme-ci"),
        ("delete", "big", None),
    ]
    assert [row["id"] for row in commands.json("orgs", "list")] == ["acme"]
    assert commands.apply(wanted, "--prune", "--dry-run") == []


def test_a_file_with_a_mistake_changes_nothing_and_says_where(commands: Commands) -> None:
    wanted = json.loads(json.dumps(ORGANIZATIONS))
    wanted["organizations"][1]["plan"] = "gold"
    commands.file.write_text(yaml.safe_dump(wanted, sort_keys=False))
    output = commands("apply", str(commands.file), code=78).output

    assert f"{commands.file}:" in output
    assert "organizations[1].plan 'gold' is not a plan" in output
    assert commands.json("orgs", "list") == []


def test_a_revoked_credential_in_the_file_is_refused_before_anything_is_changed(commands: Commands) -> None:
    commands.apply(ORGANIZATIONS)
    commands("credentials", "revoke", "acme", "acme-ci", "--yes")
    wanted = json.loads(json.dumps(ORGANIZATIONS))
    wanted["organizations"][0]["name"] = "Other"
    commands.file.write_text(yaml.safe_dump(wanted))

    assert "revoked, for ever" in commands("apply", str(commands.file), code=1).output
    assert commands.json("orgs", "show", "acme")["name"] == "Acme"


def test_a_client_id_that_was_retired_is_refused_before_anything_is_changed_and_released_on_demand(commands: Commands) -> None:
    commands.apply(ORGANIZATIONS)
    commands("credentials", "revoke", "acme", "acme-ci", "--yes")
    commands("orgs", "delete", "acme", "--yes")

    assert "revoked, for ever" in commands("apply", str(commands.file), "--dry-run", code=1).output
    assert commands.json("credentials", "release", "acme-ci") == {"id": "acme-ci"}
    assert "not retired" in commands("credentials", "release", "acme-ci", code=1).output
    commands.apply(ORGANIZATIONS)
    assert commands.served().credential("acme-ci") is not None


def test_a_token_for_metrics_is_made_without_saying_for_whom(commands: Commands) -> None:
    made = commands.json("tokens", "create", "prometheus", "--access", "metrics")
    assert (made["access"], made["organizations"]) == ("metrics", None)
    assert "leave --org out" in commands("tokens", "create", "p", "--access", "metrics", "--org", "acme", code=2).output


def test_objects_are_adopted_listed_and_forgotten(commands: Commands, tmp_path: Path) -> None:
    commands.apply(ORGANIZATIONS)
    (tmp_path / "ids").write_text("file-2\n\nfile-3\n")

    assert commands.json("objects", "adopt", "acme", "file", "file-1", "--from-file", str(tmp_path / "ids"))["adopted"] == 3
    assert commands.json("objects", "adopt", "acme", "file", "file-1")["adopted"] == 0
    assert [found["id"] for found in commands.json("objects", "list", "acme")] == ["file-1", "file-2", "file-3"]
    assert commands.json("objects", "list", "acme", "--after", "default", "file", "file-2")[0]["id"] == "file-3"
    assert commands.json("objects", "forget", "acme", "file", "file-1", "file-9")["forgotten"] == 1
    assert "file-3" in commands("objects", "list", "acme").output
    assert "say which" in commands("objects", "adopt", "acme", "file", code=2).output
    assert "no organization" in commands("objects", "adopt", "nobody", "file", "x", code=1).output.lower()
