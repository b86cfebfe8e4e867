"""`tallygate from-litellm`: what becomes of LiteLLM's keys is accepted by `apply`, and callers keep their keys."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tallygate.cli import main

KEYS = ("sk-first-key-of-litellm", "sk-second", "sk-third", "sk-fourth")
DIGESTS = [hashlib.sha256(key.encode()).hexdigest() for key in KEYS]


def key(number: int, **changed: Any) -> dict[str, Any]:
    """As GET /key/list answers with return_full_object=true."""
    blank = {"key_name": "sk-...abcd", "key_alias": None, "spend": 0.0, "expires": None, "models": [], "team_id": None}
    limits = dict.fromkeys(("max_parallel_requests", "tpm_limit", "rpm_limit", "max_budget", "budget_duration", "blocked"))
    return {"token": DIGESTS[number], **blank, **limits, **changed}


TEAMS = [
    {"team_id": "t-1", "team_alias": "Data Science", "max_budget": 50.25, "budget_duration": "7d", "rpm_limit": 600, "models": []},
    {"team_id": "t-2", "team_alias": None, "max_budget": 10, "budget_duration": None, "tpm_limit": None},
]
PAGES = [
    {
        "keys": [
            key(0, key_alias="notebooks", team_id="t-1", models=["gpt-4o*"], max_budget=5e-06, budget_duration="1mo"),
            key(1, key_alias="notebooks", team_id="t-1", expires="2027-01-31T00:00:00", blocked=True, models=["all-team-models"]),
        ],
        "total_pages": 2,
    },
    {"keys": [key(2, team_id="t-2", tpm_limit=1000, max_parallel_requests=3, model_max_budget={"gpt-4o": 1}), key(3)]},
]


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "keys.json").write_text("\n".join(map(json.dumps, PAGES)))
    (tmp_path / "teams.json").write_text(json.dumps(TEAMS))
    return tmp_path / "keys.json", tmp_path / "teams.json"


def test_teams_keys_and_budgets_become_what_apply_accepts(tmp_path: Path, files: tuple[Path, Path]) -> None:
    keys, teams = files
    result = run("from-litellm", keys, "--teams", teams, "--plan", "enterprise", "--output", tmp_path / "customers.yaml")
    others, science, second = yaml.safe_load((tmp_path / "customers.yaml").read_text())["organizations"]
    assert (science["id"], science["name"]) == ("Data-Science", "Data Science")
    assert science["spend_limits"] == [{"usd": "50.25", "window": "7d"}]
    assert science["rate_limits"] == [{"requests": 600, "window": "1m"}]
    first, blocked = science["credentials"]
    assert (first["id"], first["models"], first["spend_limits"]) == (
        "notebooks",
        ["gpt-4o*"],
        [{"usd": "0.000005", "window": "month"}],
    )
    assert (blocked["id"], blocked["enabled"], blocked["expires"]) == ("notebooks-2", False, "2027-01-31T00:00:00Z")
    assert "models" not in blocked
    assert second["credentials"][0]["rate_limits"] == [{"tokens": 1000, "window": "1m"}, {"open_requests": 3}]
    assert others["id"] == "litellm"
    assert "team t-2: its budget of $10 is left out: it has no duration" in result.stderr
    assert "`model_max_budget` is left out" in result.stderr
    assert "3 organizations, 4 credentials" in result.stderr

    data = ("--data-dir", tmp_path / "data")
    run("apply", tmp_path / "customers.yaml", *data)
    assert run("apply", tmp_path / "customers.yaml", "--dry-run", *data).exit_code == 0  # nothing is left to do
    shown = json.loads(run("credentials", "list", "Data-Science", "--json", *data).stdout)
    assert {credential["id"]: credential["status"] for credential in shown} == {"notebooks": "active", "notebooks-2": "disabled"}


def test_digests_alone_and_other_texts_are_told(tmp_path: Path) -> None:
    (tmp_path / "digests.json").write_text(json.dumps({"keys": DIGESTS}))
    assert "return_full_object=true" in run("from-litellm", tmp_path / "digests.json", code=1).output
    (tmp_path / "broken.json").write_text('{"keys": [')
    assert "is not JSON" in run("from-litellm", tmp_path / "broken.json", code=1).output
    (tmp_path / "odd.json").write_text(json.dumps({"keys": [key(0, token="sk-plain")]}))
    assert "no SHA-256 digest" in run("from-litellm", tmp_path / "odd.json").stderr
