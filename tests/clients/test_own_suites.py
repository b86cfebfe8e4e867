"""The test suites that the `openai` and `anthropic` SDKs have themselves: what passes at an upstream passes through the gateway.

The suites come with the packages' sources. Each is run twice: at an upstream that answers with the SDK's own types, and at a
gateway with the shipped routes in front of it. A test may fail through the gateway only where its request is refused for a reason
that docs/clients.md names; and what arrives at the upstream has to be what the SDK sent.
"""

import asyncio
import json
import os
import re
import subprocess
import tarfile
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from gateway_harness import digest, running_gateway
from installed import PROGRAMS, Installed, from_pypi
from valkey_process import free_port

SUITE_SECONDS_MAX = 900
TOOLS = (  # what the suites import
    *("pytest", "pytest-asyncio", "respx", "Pillow", "rich", "inline-snapshot", "griffe", "trio", "time-machine", "dirty-equals"),
    *("hypothesis", "http-snapshot[httpx]", "packaging", "opentelemetry-sdk", "aiohttp", "httpx-aiohttp"),
    *("standardwebhooks", "botocore", "pip"),
)
REFUSED = re.compile(
    r"Error code: (?:404 - .*(?:This gateway has no endpoint|unknown_endpoint)"
    r"|403 - .*(?:This endpoint is off here|endpoint_not_enabled)"
    r"|400 - .*(?:You must provide a model parameter|send the request without 'background'|cannot follow a batch"
    r"|'fallbacks' must list the models by name))",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """prefix: of the paths that are below the base URL. options: of pytest, in place of the suite's own."""

    package: str
    version: str
    key: str
    prefix: str = ""
    options: str = ""


SUITES = (
    Suite(package="openai", version="3.57.0", key="My API Key", prefix="/v1"),
    Suite(package="anthropic", version="2.14.0", key="my-anthropic-api-key", options="-p tests._alias_httpx"),
)


@pytest.mark.clients
@pytest.mark.parametrize("suite", SUITES, ids=[suite.package for suite in SUITES])
async def test_what_passes_at_an_upstream_passes_through_the_gateway(suite: Suite, tmp_path: Path) -> None:
    place = await asyncio.to_thread(from_pypi, f"{suite.package}=={suite.version}", *TOOLS)
    source = await asyncio.to_thread(unpacked, place, suite)
    config = {
        "plans": {"plans": {"suite": {"unknown_model": "unpriced"}}},
        "organizations": {
            "organizations": [
                {"id": "suite", "name": "Suite", "plan": "suite", "credentials": [{"id": "sdk", "key_sha256": digest(suite.key)}]}
            ]
        },
    }
    with answering(place, source, suite, tmp_path / "direct.log") as url:
        direct = await asyncio.to_thread(failures, place, source, suite, url, tmp_path / "direct.xml")
    with answering(place, source, suite, tmp_path / "through.log") as url:
        async with running_gateway(tmp_path, config=config, upstream_url=url) as harness:
            through = await asyncio.to_thread(failures, place, source, suite, harness.url, tmp_path / "through.xml")

    assert through.keys() == direct.keys()
    assert sum(not failure for failure in direct.values()) > 8_000
    broken = {test: failure for test, failure in through.items() if failure and not direct[test] and not REFUSED.search(failure)}
    assert broken == {}
    arrived, sent = requests(tmp_path / "through.log"), requests(tmp_path / "direct.log")
    assert sum(arrived.values()) > 500
    assert {request for request in arrived if request not in sent} == set(), "something arrived that the SDK did not send"


def unpacked(place: Installed, suite: Suite) -> Path:
    """The package's source, with its tests."""
    source = place.place / "source" / f"{suite.package}-{suite.version}"
    if not source.exists():
        wanted = f"{suite.package}=={suite.version}"
        download = ("python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", suite.package, "--dest", ".", wanted)
        settings = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        place.run(*download, environment=settings, directory=place.place)
        with tarfile.open(next(place.place.glob("*.tar.gz"))) as archive:
            archive.extractall(source.parent, filter="data")
    return source


@contextmanager
def answering(place: Installed, source: Path, suite: Suite, log: Path) -> Iterator[str]:
    """An upstream that answers with the SDK's own types; its URL."""
    port = free_port()
    log.touch()
    program = str(PROGRAMS / "sdk_answers.py")
    process = subprocess.Popen(
        [str(place.commands / "python"), "-B", program, suite.package, str(source), str(port), str(log)], cwd=source
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the upstream ended"
                assert time.monotonic() < deadline, "the upstream does not answer"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def failures(place: Installed, source: Path, suite: Suite, url: str, results: Path) -> dict[str, str]:
    """By test what it failed of, or nothing."""
    place.run(
        *("python", "-B", "-m", "pytest", "tests/api_resources", "-o", f"addopts={suite.options}"),
        *("-q", "--tb=line", "-p", "no:cacheprovider", f"--junitxml={results}"),
        environment={"TEST_API_BASE_URL": url + suite.prefix, "DEFER_PYDANTIC_BUILD": "false", "HOME": str(results.parent)},
        directory=source,
        seconds=SUITE_SECONDS_MAX,
        succeeds=False,
    )
    found = {}
    for case in ET.parse(results).iter("testcase"):  # noqa: S314 - pytest wrote it
        failed = [each for each in (case.find("failure"), case.find("error")) if each is not None]
        found[f"{case.get('classname')}::{case.get('name')}"] = " ".join(f"{each.get('message')} {each.text}" for each in failed)
    return found


def requests(log: Path) -> Counter[tuple[str, ...]]:
    return Counter(tuple(json.loads(line)) for line in log.read_text().splitlines())
