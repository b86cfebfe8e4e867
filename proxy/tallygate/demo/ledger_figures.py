"""The demo's queries to the console's API: usage in the ledger, and every single event."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode

from tallygate.demo.counts import Counts
from tallygate.demo.stage import DemoError, Stage, fetch_json

STORED_SECONDS_MAX: Final = 20.0  # the ledger has an event within a second; a busy machine takes longer
_EVENTS_OF_A_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One organization's usage of one capability."""

    org: str
    capability: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFigures:
    """Figures of the ledger. sources: number of events by usage source. event_ids: of all entries, with repetitions."""

    counts: Counts
    rows: tuple[UsageRow, ...]
    sources: Mapping[str, int]
    event_ids: Counter[str]


def fetch_ledger(stage: Stage, requests: int, *, since: str) -> LedgerFigures:
    """Fetch the ledger from an instant on, once it has all `requests`. Raises DemoError if it never does."""
    deadline = time.monotonic() + STORED_SECONDS_MAX
    while True:
        answer = _ask(stage, "/api/usage", bucket="total", group_by=("org", "capability"), **{"from": since})
        if answer["totals"]["requests"] >= requests:
            break
        if time.monotonic() > deadline:
            raise DemoError(f"the ledger has {answer['totals']['requests']} of {requests} requests; its log is {stage.log}")
        time.sleep(0.1)
    events = _events(stage, since)
    return LedgerFigures(
        counts=_counts(answer["totals"]),
        rows=tuple(_row(line) for line in answer["rows"] if line["usage"]["requests"]),
        sources=Counter(event["usage_source"] for event in events),
        event_ids=Counter(event["event_id"] for event in events),
    )


def _counts(sums: Mapping[str, int]) -> Counts:
    return Counts(
        requests=sums["requests"],
        prompt_tokens=sums["prompt_tokens"],
        cached_tokens=sums["cached_tokens"],
        completion_tokens=sums["completion_tokens"],
        reasoning_tokens=sums["reasoning_tokens"],
        cost_nano_usd=sums["cost_nano_usd"],
    )


def _row(line: Mapping[str, Any]) -> UsageRow:
    return UsageRow(
        org=line["group"]["org"],
        capability=line["group"]["capability"],
        requests=line["usage"]["requests"],
        prompt_tokens=line["usage"]["prompt_tokens"],
        completion_tokens=line["usage"]["completion_tokens"],
        cost_nano_usd=line["usage"]["cost_nano_usd"],
    )


def _events(stage: Stage, since: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    position = {"from": since}
    while True:
        page = _ask(stage, "/api/events", limit=str(_EVENTS_OF_A_PAGE), **position)
        found += page["events"]
        if page["next_cursor"] is None:
            return found
        position = {"cursor": page["next_cursor"]}


def _ask(stage: Stage, path: str, **parameters: str | Sequence[str]) -> Any:
    try:
        return fetch_json(f"{stage.console_url}{path}?{urlencode(parameters, doseq=True)}", token=stage.admin_token)
    except HTTPError as error:
        with error:
            raise DemoError(f"{path} answered {error.code}: {error.read().decode(errors='replace')}") from error
