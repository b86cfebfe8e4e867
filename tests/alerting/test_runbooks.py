"""What the runbooks tell people to type works: commands and flags exist, queries are PromQL over metrics that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import yaml
from prometheus_server import program
from shipped_rules import assert_asks_for_what_exists

from tallygate.cli import main

TEXT = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text(encoding="utf-8")
QUERIES = [line for block in re.findall(r"```promql\n(.*?)```", TEXT, re.DOTALL) for line in block.strip().splitlines()]
_BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = sorted(
    {found.split("   #")[0].strip() for found in re.findall(r"^(tallygate .+)$", _BLOCKS, re.MULTILINE)}
    | set(re.findall(r"`(tallygate (?!gateway|console|ledger)[a-z]+(?: [^`]*)?)`", TEXT))
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_runbooks_exists_with_its_flags(command: str) -> None:
    words = shlex.split(command)[1:]
    found: click.Command = main
    while isinstance(found, click.Group):
        assert words, "names a group, not a command"
        name = words.pop(0)
        assert name in found.commands, name
        found = found.commands[name]
    options = {flag for parameter in found.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word in options


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_runbooks_asks_for_what_exists(query: str) -> None:
    assert_asks_for_what_exists(query)


def test_every_query_of_the_runbooks_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"runbook:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}), encoding="utf-8")

    done = subprocess.run(
        [program("promtool"), "check", "rules", str(tmp_path / "rules.yml")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
