"""Scripts as they are joined: each file needs exactly what it uses, and what is joined is a script to real servers."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import tallygate.limiter
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.script import load_scripts

FOLDER = Path(tallygate.limiter.__file__).parent / "scripts"
SHARED = {path.stem: path for path in (FOLDER / "shared").glob("*.lua")}
FILES = {path.stem: path for path in FOLDER.rglob("*.lua")}


def code_of(path: Path) -> str:
    """Without comments and strings."""
    return re.sub(r"'[^'\n]*'|--.*", "", path.read_text())


def defined_by(path: Path) -> set[str]:
    """What a file's outermost level declares."""
    functions = re.findall(r"^local function (\w+)", code_of(path), re.MULTILINE)
    values = re.findall(r"^local (?!function)([\w, ]+?) *=", code_of(path), re.MULTILINE)
    return {*functions, *re.split(r", *", ", ".join(values))} - {""}


def used_by(path: Path) -> set[str]:
    """Names that the file declares nowhere itself; no field of a table, and none that is set in one."""
    code = code_of(path)
    declared = re.findall(r"(?:local(?! function)|for) ([\w, ]+)", code) + re.findall(r"function \w*\(([\w, ]*)\)", code)
    own = defined_by(path) | {word for names in declared for word in re.findall(r"\w+", names)}
    return set(re.findall(r"(?<![.\w])([A-Za-z_]\w*)(?! = )\b", code)) - own


def needs_of(path: Path) -> set[str]:
    lines = re.findall(r"^(?:-- needs| +-- made here): (.+)$", path.read_text(), re.MULTILINE)
    return {name for line in lines for name in line.split(", ")}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_needs_what_defines_the_names_that_it_uses_and_nothing_else(name: str) -> None:
    used = used_by(FILES[name])
    assert needs_of(FILES[name]) == {shared for shared, path in SHARED.items() if shared != name and defined_by(path) & used}


def test_a_name_is_defined_in_one_file() -> None:
    defined = [name for path in SHARED.values() for name in defined_by(path)]
    assert len(defined) == len(set(defined))


async def test_every_script_compiles_on_a_server(connection: RedisConnection) -> None:
    scripts = load_scripts()
    for script in [getattr(scripts, field.name) for field in fields(scripts)]:
        assert await connection.command(b"SCRIPT", b"LOAD", script.source) == script.sha
