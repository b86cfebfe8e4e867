"""The two counts that the demo compares: the gateway's, and the mock API's own."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from tallygate.config.catalogue import PriceCatalogue
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Conditions, usage_of_totals

_NANO: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of everything that the upstream accepted."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_nano_usd: int

    def __sub__(self, before: "Counts") -> "Counts":
        return Counts(**{name: count - getattr(before, name) for name, count in self.rows()})

    def rows(self) -> list[tuple[str, int]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


def gateway_counts(exposition: str) -> tuple[Counts, dict[str, "OrgCounts"]]:
    """The gateway's counts from /metrics: the sum, and each organization's share."""
    by_org: dict[str, OrgCounts] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            name, labels, value = sample.name, sample.labels, sample.value
            if "org" in labels and labels["org"] != "other":
                by_org.setdefault(labels["org"], OrgCounts()).add(name, labels, value)
    return (
        Counts(
            requests=sum(org.served for org in by_org.values()),
            prompt_tokens=sum(org.prompt_tokens for org in by_org.values()),
            cached_tokens=sum(org.cached_tokens for org in by_org.values()),
            completion_tokens=sum(org.completion_tokens for org in by_org.values()),
            reasoning_tokens=sum(org.reasoning_tokens for org in by_org.values()),
            cost_nano_usd=sum(org.cost_nano_usd for org in by_org.values()),
        ),
        by_org,
    )


@dataclass(slots=True)
class OrgCounts:
    """One organization's totals as /metrics shows them."""

    served: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0

    def add(self, name: str, labels: Mapping[str, str], value: float) -> None:
        match name:
            case "tallygate_requests_total" if labels["outcome"] != "refused":
                self.served += int(value)
            case "tallygate_tokens_total" if labels["kind"] == "prompt":
                self.prompt_tokens += int(value)
            case "tallygate_tokens_total":
                self.completion_tokens += int(value)
            case "tallygate_cached_tokens_total":
                self.cached_tokens += int(value)
            case "tallygate_reasoning_tokens_total":
                self.reasoning_tokens += int(value)
            case "tallygate_spend_usd_total":
                self.cost_nano_usd += round(value * _NANO)
            case _:
                pass


def simulator_counts(records: list[dict[str, Any]], prices: PriceCatalogue) -> Counts:
    """The mock API's counts from its ledger, priced record by record with the same list."""
    accepted = [record for record in records if record["accepted"]]
    cost = 0
    for record in accepted:
        price = prices.find(record["model"] or "", time.time_ns() // 1_000_000)
        if price is not None:
            cost += price.cost_nano_usd(
                usage_of_totals(
                    prompt=record["prompt_tokens"],
                    completion=record["generated_tokens"],
                    cached=record["cached_tokens"],
                    reasoning=record["reasoning_tokens"],
                    audio_prompt=record["audio_tokens"],
                )
                .with_moved(Unit.INPUT, Unit.INPUT_IMAGE, record["source_image_tokens"])
                .with_moved(Unit.OUTPUT, Unit.OUTPUT_IMAGE, record["image_tokens"])
                .with_calls({f"{Unit.IMAGE}:{record['image_kind']}": record["images"]})  # of models that are billed so
                .with_calls(record["units"]),
                Conditions(service_tier=record["tier"]),
            )
    return Counts(
        requests=len(accepted),
        prompt_tokens=sum(record["prompt_tokens"] for record in accepted),
        cached_tokens=sum(record["cached_tokens"] for record in accepted),
        completion_tokens=sum(record["generated_tokens"] for record in accepted),
        reasoning_tokens=sum(record["reasoning_tokens"] for record in accepted),
        cost_nano_usd=cost,
    )
