"""The examples of docs/usage-api.md run as they stand, and its bounds are those of the code."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from api_values import an_entry
from api_world import World

from tallygate.console import (
    api_events,
    api_notices,
    api_openai_usage,
    api_parameters,
    api_scope,
    api_spend,
    api_times,
    api_usage,
    api_usage_values,
    usage_pages,
)
from tallygate.console.api_document import document
from tallygate.ledger import refused_requests

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "usage-api.md").read_text(encoding="utf-8")
EXAMPLES = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "curl" in block]


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_answers(world: World, example: str) -> None:
    await world.record([an_entry(1), an_entry(2, credential="acme-dev")])
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-ec",
        example,
        env={"PATH": "/usr/bin:/bin", "TALLYGATE": world.url, "ADMIN_TOKEN": "platform"},
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()

    assert process.returncode == 0
    for line in told.splitlines():
        assert json.loads(line), line


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 11


def test_every_endpoint_is_documented(world: World) -> None:
    pages = PAGE + "".join((DOCS / name).read_text(encoding="utf-8") for name in ("organizations.md", "export.md"))
    for path in document(world.routes, version="1")["paths"]:
        assert re.search(rf"{re.escape(path)}`", pages) or path.startswith("/api/organizations/{org}/credentials/"), path


@pytest.mark.parametrize(
    "most",
    [
        api_times.RANGE_DAYS_MAX,
        api_times.BUCKETS_MAX,
        api_usage.ROWS_MAX,
        api_usage.TOP_MAX,
        api_usage_values.VALUES_MAX,
        usage_pages.BUCKET_ROWS_MAX,
        api_events.EVENTS_MAX,
        api_notices.NOTICES_MAX,
        api_spend.DAYS_MAX,
        api_openai_usage.RESULTS_MAX,
        api_scope.ORGS_MAX,
        api_events.EVENT_ORGS_MAX,
        refused_requests.DAYS_KEPT,
        refused_requests.OF_AN_ORGANIZATION_MAX,
        refused_requests.OF_ALL_MAX,
        api_openai_usage.MINUTE_ORGS_MAX,
        api_parameters.VALUES_MAX,
        api_parameters.TEXT_CHARS_MAX,
    ],
)
def test_a_bound_is_documented(most: int) -> None:
    bounds = PAGE.partition("## Bounds")[2]
    assert re.search(rf"\b{most:,}\b", bounds)
