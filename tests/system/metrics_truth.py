"""The shared counters of /metrics beside the ledger's entries: two ways to the same sums."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from stack import Stack
from system_traffic import samples

from tallygate.ledger.lifetime import OTHER, charged_model
from tallygate.ledger.lifetime_spend import SPENT_ON
from tallygate.telemetry.metric import Source
from tallygate.telemetry.metrics import METRICS

Sums = dict[tuple[str, ...], int]  # by the family's name without `_total`, and the values of its labels in their order
_EXCHANGE = ("org", "credential", "capability")
_MONEY = "_usd"
_LABELS = {metric.name: metric.labels for metric in METRICS if metric.source is Source.TOTALS}
_SUMMED = {
    "tallygate_cached_tokens": "cached_tokens",
    "tallygate_reasoning_tokens": "reasoning_tokens",
    "tallygate_spend_usd": "cost_nano_usd",
}
_KINDS = {"prompt": "prompt_tokens", "completion": "completion_tokens"}
_ODD = {"late": "late", "unheld": "unheld"}


def counters(text: str) -> dict[tuple[str, ...], int]:
    """Every shared counter as it stands, money in nano-USD."""
    found = {}
    for (name, labels), value in samples(text).items():
        if name in _LABELS:
            given = dict(labels)
            found[name, *(given[label] for label in _LABELS[name])] = round(value * 10**9) if _MONEY in name else int(value)
    return found


def net_of_metrics(text: str) -> Sums:
    """What was counted without what was taken back; refused requests apart, since they are no entries; no zeros."""
    sums: Counter[tuple[str, ...]] = Counter()
    for (name, *labels), value in counters(text).items():
        family = name.removesuffix("_total")
        if labels[-1:] == ["refused"]:
            continue
        sums[family.replace("_credited", ""), *labels] += -value if "_credited" in family else value
    return {key: value for key, value in sums.items() if value}


def net_of_entries(entries: Iterable[dict[str, Any]]) -> Sums:
    """The same of the ledger's rows. An event is one request under its first word."""
    sums: Counter[tuple[str, ...]] = Counter()
    for entry in entries:
        exchange = tuple(entry[label] for label in _EXCHANGE)
        model = (entry["org"], charged_model(entry["price_version"]))
        if entry["sequence"] == 0:
            sums["tallygate_requests", *exchange, entry["outcome"]] += 1
            sums["tallygate_model_requests", *model] += 1
            sums["tallygate_usage_source", entry["usage_source"]] += 1
        for kind, column in _KINDS.items():
            sums["tallygate_tokens", *exchange, kind] += entry[column]
            sums["tallygate_model_tokens", *model, kind] += entry[column]
        for family, column in _SUMMED.items():
            sums[family, *exchange] += entry[column]
        sums["tallygate_model_spend_usd", *model] += entry["cost_nano_usd"]
        known = {kind: entry[f"{kind}_nano_usd"] for kind in SPENT_ON if kind != OTHER}
        for kind, amount in {**known, OTHER: entry["cost_nano_usd"] - sum(known.values())}.items():
            sums["tallygate_spend_by_unit_usd", *exchange, kind] += amount
        if entry["kind"] in _ODD:
            sums["tallygate_odd_settlements", entry["kind"]] += 1
        if entry["kind"] in {"settled", "released", "late"} and "overrun" in entry["flags"].split(","):
            sums["tallygate_odd_settlements", "overrun"] += 1
        if entry["kind"] == "expired":
            sums["tallygate_holds_expired",] += 1
    return {key: value for key, value in sums.items() if value}


def refused_of_metrics(text: str, org: str) -> int:
    """Refused requests of an organization, or of nobody ("other")."""
    found = counters(text)
    return sum(
        value
        for (name, *labels), value in found.items()
        if name == "tallygate_requests_total" and labels[0] == org and labels[-1] == "refused"
    )


class NeverFalling:
    """Looks at a console's shared counters again and again; one that falls or vanishes is a reset."""

    def __init__(self, get: Callable[[str], tuple[int, str]]) -> None:
        self._get = get
        self._highest: dict[tuple[str, ...], int] = {}
        self.looks = 0

    async def watch(self) -> None:
        """Until cancelled. A console that is away, or says that something is missing, is looked at again."""
        while True:
            await asyncio.sleep(0.2)
            await self.look()

    async def look(self) -> None:
        try:
            status, text = await asyncio.to_thread(self._get, "/metrics")
        except OSError:
            return
        if status != 200 or "tallygate_scrape_incomplete 0.0" not in text:
            return
        now = counters(text)
        fallen = {key: (high, now.get(key)) for key, high in self._highest.items() if now.get(key, -1) < high}
        assert not fallen, fallen
        self._highest = now
        self.looks += 1


def assert_metrics_are_the_ledger(stack: Stack, entries: list[dict[str, Any]]) -> None:
    """To be called at rest."""
    status, text = stack.get("/metrics")
    assert status == 200
    assert net_of_metrics(text) == net_of_entries(entries)
