"""Fixtures that every area's tests may use."""

from collections.abc import Iterator

import pytest
from valkey_process import ValkeyProcess, running_valkey


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyProcess]:
    """One real Valkey for the whole session. Tests that kill or stop it start their own with `running_valkey`."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: ValkeyProcess) -> str:
    """Address of the session's Valkey (redis://127.0.0.1:port/0), emptied for this test."""
    with valkey_server.client() as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture
def valkey_unix_url(valkey_server: ValkeyProcess, valkey_url: str) -> str:
    """The same server over its Unix socket (unix:///path), emptied for this test."""
    return valkey_server.unix_url
