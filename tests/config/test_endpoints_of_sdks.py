"""The shipped routes beside the endpoints that the providers' SDKs have, in the versions that are installed."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallygate.config.load import load_config
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.gateway.routes import RouteTable

SERVED = (  # whole, though what is priced otherwise than by tokens is off
    *("batches", "chat", "completions", "conversations", "embeddings", "files", "images", "models", "moderations", "responses"),
    *("uploads", "complete", "messages", "vector_stores", "containers", "fine_tuning", "assistants", "threads", "evals", "videos"),
)
SOUND = frozenset({"/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations"})
_CALL = re.compile(r'self\._(get|post|delete|put|patch|get_api_list)\(\s*(?:path_template\(\s*)?"(/[^"?]*)')
_POSTED = re.compile(r'method="post"')
_PARAMETER = re.compile(r"\{\w+\}")


def endpoints(package: str) -> Iterator[tuple[str, str]]:
    """Method and path, with an id in each place of a parameter."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    for file in (Path(found.origin).parent / "resources").rglob("*.py"):
        text = file.read_text()
        for call in _CALL.finditer(text):
            called, path = call.groups()
            is_posted = _POSTED.search(text[call.end() :].partition("def ")[0]) is not None
            method = called.upper() if called != "get_api_list" else "POST" if is_posted else "GET"
            yield method, _PARAMETER.sub("id-1", path if path.startswith("/v1/") else f"/v1{path}")


@pytest.mark.parametrize(("package", "least"), [("openai", 40), ("anthropic", 12)])
def test_of_an_api_that_is_served_each_endpoint_of_its_sdk_has_a_route(package: str, least: int) -> None:
    config = load_config(
        shipped_directory(),
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="http://up.invalid",
    )
    table = RouteTable(config.routes, {"default": ""})
    served = {(method, path) for method, path in endpoints(package) if path.split("/")[2] in SERVED or path in SOUND}

    assert len(served) >= least, "the SDK is written in another way than this test reads"
    assert [each for each in sorted(served) if table.find(*each) is None] == []
