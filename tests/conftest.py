"""Fixtures that every area's tests may use."""

import gc
import os
import platform
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase
from postgres_process import PostgresProcess, running_postgres
from search import SEARCH
from shared_statements import share_statements
from valkey_process import ValkeyProcess, running_valkey

# No deadline for one example: the machine may be busy. A deep search has new examples each time, from a seed.
settings.register_profile("short", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("steady", deadline=None, max_examples=100, derandomize=True)
settings.register_profile(
    "deep",
    deadline=None,
    max_examples=1_000,
    derandomize=False,
    database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
    print_blob=True,
)
settings.load_profile(SEARCH)
share_statements()
gc.disable()  # until the tests are collected
# A proxy of the machine leads nowhere from the loopback addresses that tests ask.
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
    os.environ.pop(name, None)
    os.environ.pop(name.lower(), None)
platform.processor()  # the SDKs tell it to their servers; it asks `uname -p`, once in a process
# What starts processes, and so is left out of `make quick`: by where it lies, by a fixture, or by a parameter that names a server.
PLACES = (
    "tests/system/",
    "tests/processes/",
    "tests/clients/",
    "tests/bench/",
    "tests/page/",
    "tests/deploy/test_helm_chart.py",
    "tests/alerting/test_alertmanager.py",
    "tests/alerting/test_prometheus_rules.py::test_a_rule_that_is_changed",
    "tests/alerting/test_prometheus_rules.py::test_promtool",
    "tests/alerting/test_prometheus_rules.py::test_rules_fire",
    "tests/alerting/test_runbooks.py::test_every_query",
    "tests/api/test_usage_api_examples.py",
    "tests/app/test_imports.py",
    "tests/app/test_machine.py",
    "tests/command/test_demo",
    "tests/dashboards/test_dashboard_queries.py",
    "tests/gloo/test_the_sum.py",
    "tests/ledger/test_lost_acknowledgements.py",
    "tests/ledger/test_migrations_at_once.py",
    "tests/limiter/test_fence.py",
    "tests/limiter/test_redis_connection.py",
    "tests/telemetry/test_count_file.py::test_a_successor",
    "tests/telemetry/test_exemplars.py::test_a_re",
    "tests/telemetry/test_exposition.py::test_promtool",
)
PURE = ("tests/system/chaos/test_checker.py", "tests/system/chaos/test_plan.py")  # in one of the places, and start none
FIXTURES = frozenset({"valkey_server", "postgres_server"})
SERVERS = frozenset({"valkey", "postgresql"})
# Minutes of waiting for processes: begun first and by one worker, beside the short tests of the others, which end together.
LONG = ("tests/system/", "tests/processes/", "tests/clients/", "tests/limiter/test_scripts_equal_reference.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After pytest-randomly's shuffle, whose order is kept within both parts."""
    for item in items:
        if _starts_processes(item):
            item.add_marker("process")
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not walk it each time, nor while it comes."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _starts_processes(item: pytest.Item) -> bool:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return (
        (item.nodeid.startswith(PLACES) and not item.nodeid.startswith(PURE))
        or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or any(isinstance(value, str) and value in SERVERS for value in parameters)
    )


_running: pytest.Item | None = None


def pytest_runtest_setup(item: pytest.Item) -> None:
    global _running  # noqa: PLW0603 - one at a time
    _running = item


def pytest_runtest_teardown() -> None:
    """Servers of the session are stopped after the last test, whichever that is."""
    global _running  # noqa: PLW0603
    _running = None


class _MarkedPopen(subprocess.Popen):  # type: ignore[type-arg]
    """Keeps the marks true: a test that starts a process without one fails."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        if _running is not None and _running.get_closest_marker("process") is None:
            pytest.fail(f"starts a process, and is not marked (tests/conftest.py): {arguments[0]}")
        super().__init__(*arguments, **options)


subprocess.Popen = _MarkedPopen  # type: ignore[misc]


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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresProcess]:
    """One real PostgreSQL for the whole session. Tests that kill it start their own with `running_postgres`."""
    with running_postgres() as server:
        yield server
