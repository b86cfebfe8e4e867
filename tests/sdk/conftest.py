import ssl
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest
from sdk_sides import World, running_world

_context = cache(ssl.create_default_context)


@pytest.fixture(autouse=True)
def _one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of google-genai's clients reads all certificates that there are, four times: here they speak plain HTTP."""
    monkeypatch.setattr(ssl, "create_default_context", _context)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as world:
        yield world
