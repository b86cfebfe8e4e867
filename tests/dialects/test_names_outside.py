"""What is known of an API is declared in `dialects/`: elsewhere nothing names one, so that a new one is a file and a line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tallygate
from tallygate.dialects.registry import dialects

ROOT = Path(tallygate.__file__).parent
APIS = re.compile("openai|anthropic|gemini|azure|gloo|mistral", re.IGNORECASE)
# The mock provider has names of its own, some of them the same: it shares no code with the gateway that it tests.
WITH_OWN_NAMES = {"dialects", "simulator"}
WITHOUT_APIS = (
    "gateway",
    "http1",
    "limiter",
    "ledger",
    "app",
    "processes",
    "telemetry",
    "outbound",
    "shares",
    "webhooks",
    "domain",
)


def sources(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The texts of a module, without its docstrings."""
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and id(node) not in documents:
            yield node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1")


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The names that a module gives or takes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name


def test_no_dialect_is_named_outside_dialects() -> None:
    packages = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in WITH_OWN_NAMES]
    known = set(dialects())
    found = [f"{path}:{line}: {text}" for path, tree in sources(*packages) for line, text in texts(tree) if text in known]
    assert found == []


def test_no_api_is_known_on_the_way_of_a_request() -> None:
    found = [
        f"{path}:{line}: {text}"
        for path, tree in sources(*WITHOUT_APIS)
        for line, text in (*texts(tree), *names(tree))
        if APIS.search(text)
    ]
    assert found == []
