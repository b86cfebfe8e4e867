"""Fixtures that every area's tests may use."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from valkey_process import ValkeyProcess, running_valkey

# No deadline for one example: the machine may be busy. On the build server (CI=true) properties are searched longer.
settings.register_profile("quick", deadline=None, max_examples=100)
settings.register_profile("deep", deadline=None, max_examples=1_000, print_blob=True)
# A proxy of the machine leads nowhere from the loopback addresses that tests ask.
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
    os.environ.pop(name, None)
    os.environ.pop(name.lower(), None)
settings.load_profile("deep" if os.environ.get("CI") else "quick")

# Minutes of waiting for processes: begun first and by one worker, beside the short tests of the others, which end together.
LONG = (
    *("tests/system/", "tests/processes/", "tests/clients/"),
    *("tests/limiter/test_scripts_equal_reference.py", "tests/gloo/test_the_sum.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After pytest-randomly's shuffle, whose order is kept within both parts."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


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
