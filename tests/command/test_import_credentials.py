"""`tallygate credentials import`, on a database of its own: lists of keys that callers have already."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tallygate.cli import main

KEY = "gloo-studio-key-of-the-first-caller"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Imports:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for org in ("acme", "big"):
            self("orgs", "create", org, "--plan", "pay_as_you_go")

    def __call__(self, *arguments: str, code: int = 0, given: str | None = None) -> Result:
        result = CliRunner().invoke(main, [*arguments, "--data-dir", str(self.directory / "data")], input=given)
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0, given: str | None = None) -> Any:
        return json.loads(self(*arguments, "--json", code=code, given=given).stdout)

    def file(self, text: str | bytes, name: str = "keys.csv") -> str:
        path = self.directory / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def credentials(self, org: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("credentials", "list", org)
        return found


@pytest.fixture
def imports(tmp_path: Path) -> Imports:
    return Imports(tmp_path)


CSV = f"""org,id,key_sha256,name,environment,expires,capabilities,models
acme,studio-1,{sha(KEY)},First,production,2031-01-31,"chat, embeddings",gpt-4o*
big,studio-2,{sha("two").upper()},,,,,
"""
LINES = f"""{{"org": "acme", "id": "studio-1", "key_sha256": "{sha(KEY)}", "name": "First", "environment": "production",\
 "expires": "2031-01-31", "capabilities": ["embeddings", "chat"], "models": ["gpt-4o*"]}}
{{"org": "big", "id": "studio-2", "key_sha256": "{sha("two")}", "capabilities": null}}
"""
PLAIN = f"""org,id,key,name,environment,expires,capabilities,models
acme,studio-1,{KEY},First,production,2031-01-31,chat embeddings,gpt-4o*
big,studio-2,sixteen-or-more-of-them,,,,,
"""


@pytest.mark.parametrize("text", ["\ufeff" + CSV.replace("\n", "\r\n"), LINES + "\n\n"])
def test_a_list_is_made_credentials_once_and_changes_nothing_the_second_time(imports: Imports, text: str) -> None:
    made = imports.json("credentials", "import", imports.file(text))
    assert (made["rows"], made["created"], made["unchanged"], made["organizations"]) == (2, 2, 0, 2)

    first = imports.credentials("acme")[0]
    assert {"id", "name", "environment", "has_key", "expires"} <= first.keys()
    assert (first["id"], first["name"], first["expires"], first["status"]) == (
        "studio-1",
        "First",
        "2031-01-31T00:00:00Z",
        "active",
    )
    assert (first["capabilities"], first["models"]) == (["chat", "embeddings"], ["gpt-4o*"])
    assert imports.credentials("big")[0]["capabilities"] is None

    log = imports.json("changes")
    again = imports.json("credentials", "import", imports.file(LINES))
    assert (again["created"], again["unchanged"], again["different"]) == (0, 2, 0)
    assert imports.json("changes") == log
    assert [(entry["organization"], entry["after"]) for entry in log if entry["action"] == "credentials.imported"] == [
        ("big", {"credentials": 1, "first": "studio-2", "last": "studio-2"}),
        ("acme", {"credentials": 1, "first": "studio-1", "last": "studio-1"}),
    ]


def test_keys_themselves_are_hashed_here_and_neither_kept_nor_shown(imports: Imports) -> None:
    refused = imports("credentials", "import", imports.file(PLAIN), code=78).output
    assert "nothing was changed" in refused
    assert imports.credentials("acme") == []
    assert "keys.csv:2: has a key in the column `key`: --plain-keys hashes them" in refused
    assert KEY not in refused

    made = imports("credentials", "import", "-", "--plain-keys", given=PLAIN)
    assert "2 made" in made.output
    assert KEY not in made.output
    stored = b"".join(path.read_bytes() for path in (imports.directory / "data").rglob("*") if path.is_file())
    assert KEY.encode() not in stored
    assert sha(KEY).encode() in stored
    assert (
        imports.json("credentials", "import", imports.file(CSV.replace(sha("two").upper(), sha("sixteen-or-more-of-them"))))[
            "unchanged"
        ]
        == 2
    )


def test_a_dry_run_counts_and_changes_nothing(imports: Imports) -> None:
    found = imports.json("credentials", "import", imports.file(CSV), "--dry-run", code=2)
    assert (found["to_create"], found["created"], imports.credentials("acme")) == (2, 0, [])
    imports("credentials", "import", imports.file(CSV))
    found = imports.json("credentials", "import", imports.file(CSV), "--dry-run")
    assert (found["to_create"], found["unchanged"]) == (0, 2)


def test_what_was_changed_since_stays_and_is_told(imports: Imports) -> None:
    imports("credentials", "import", imports.file(CSV))
    imports("credentials", "set", "acme", "studio-1", "--name", "Renamed")
    found = imports.json("credentials", "import", imports.file(CSV))
    assert (found["created"], found["unchanged"], found["different_lines"]) == (0, 1, [2])
    assert imports.credentials("acme")[0]["name"] == "Renamed"
    assert "stay (lines 2)" in imports("credentials", "import", imports.file(CSV)).output
