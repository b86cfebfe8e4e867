"""A small file that only one other reads stands inside that one, unless it is one of a family (CONTRIBUTING.md)."""

import ast
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "proxy"
LINES = 60

# One of a kind a file, and who gathers the kind.
FAMILIES = {
    "tallygate/dialects/*": ("tallygate/dialects/registry.py", "tallygate/dialects/stated_usage.py"),
    "tallygate/commands/*": ("tallygate/cli.py",),
    "tallygate/console/api_*": ("tallygate/console/usage_api.py", "tallygate/app/console_part.py"),
    "tallygate/ledger/export/*": ("tallygate/ledger/export/stream.py",),
    "tallygate/ledger/invoice/invoice_*": ("tallygate/ledger/invoice/documents.py",),
    "tallygate/simulator/wires/*": ("tallygate/simulator/endpoints.py",),
    "tallygate/ledger/migrations/*": (),  # alembic finds them
    "*/__main__.py": ("tallygate/cli.py",),  # programs: `python -m`
    "tallygate/processes/leash.py": (),
    "tallygate/processes/console.py": (),
    "tallygate/app/open_telemetry.py": ("tallygate/app/gateway.py",),  # loaded only where a collector is configured
}


@cache
def readers_by_file():
    """Which files import each."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): shown(path) for path in ROOT.rglob("*.py")}
    readers = {path: set() for path in files.values()}
    for path in files.values():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name in files:
                    readers[files[name]].add(path)
    return readers


def shown(path):
    return path.relative_to(ROOT).as_posix()


def small_files_of_one_reader():
    for path, readers in sorted(readers_by_file().items()):
        is_small = len((ROOT / path).read_text().splitlines()) < LINES
        if is_small and len(readers) < 2 and not path.endswith("__init__.py"):
            yield path, readers


def family_of(path, readers):
    return next((name for name, gatherers in FAMILIES.items() if fnmatch(path, name) and readers <= {*gatherers}), None)


def test_a_small_file_with_one_reader_is_one_of_a_family():
    alone = [(path, *readers) for path, readers in small_files_of_one_reader() if family_of(path, readers) is None]

    assert alone == [], "each belongs into the file behind it, or into none if nobody imports it"


def test_every_family_is_one():
    assert {family_of(path, readers) for path, readers in small_files_of_one_reader()} - {None} == {*FAMILIES}
