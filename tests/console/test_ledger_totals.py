"""The shared counters: what the ledger's lifetime totals come to under the labels of each family."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from operator import is_
from pathlib import Path

import pytest
from new_ledger import new_ledger
from sqlalchemy import insert

from tallygate.console import ledger_totals
from tallygate.console.ledger_totals import LedgerTotals
from tallygate.domain.usage import UsageSource
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.lifetime_queries import ORGS_AT_ONCE
from tallygate.ledger.schema import LIFETIME_AMOUNTS, LIFETIME_SPEND, LIFETIME_TOTALS
from tallygate.telemetry import metrics
from tallygate.telemetry.exposition import Renderer, Scraped
from tallygate.telemetry.metric import InParts, Metric, Samples, Source

CHAT = ("acme", "acme-prod", "chat")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await new_ledger(tmp_path)
    yield opened
    await opened.close()


async def put(database: Database, *rows: tuple[tuple[str, str, str], str, str, str, dict[str, int]]) -> None:
    """(organization, credential, capability), model, outcome, usage source, amounts that are not 0."""
    values = [
        {
            **dict(zip(("org", "credential", "capability"), exchange, strict=True)),
            "model": model,
            "outcome": outcome,
            "usage_source": source,
            **(dict.fromkeys(LIFETIME_AMOUNTS, 0) | amounts),
        }
        for exchange, model, outcome, source, amounts in rows
    ]
    async with database.write() as connection:
        await connection.execute(insert(LIFETIME_TOTALS), values)


async def test_each_family_adds_up_over_the_labels_that_it_does_not_have(database: Database) -> None:
    served = {"requests": 2, "prompt_tokens": 30, "completion_tokens": 4, "cached_tokens": 20, "cost_nano_usd": 50}
    credited = {"requests": 1, "prompt_tokens": 1, "credited_prompt_tokens": 5, "credited_cost_nano_usd": 9, "late_settlements": 1}
    await put(
        database,
        (CHAT, "gpt-4o", "success", "upstream", served),
        (CHAT, "other", "success", "counted", credited),
        (CHAT, "gpt-4o", "truncated", "counted", {"requests": 4, "overruns": 2, "reasoning_tokens": 3}),
        (CHAT, "", "refused", "", {"requests": 7}),
        (("globex", "globex-1", "search"), "gpt-4o", "expired", "checkpoint", {"requests": 1, "expired_holds": 1}),
    )

    values = (await LedgerTotals(database).fetch(["acme", "globex"])).samples

    assert values[metrics.REQUESTS] == {
        (*CHAT, "success"): 3,
        (*CHAT, "truncated"): 4,
        (*CHAT, "refused"): 7,
        ("globex", "globex-1", "search", "expired"): 1,
    }
    assert values[metrics.TOKENS] == {(*CHAT, "prompt"): 31, (*CHAT, "completion"): 4}
    assert values[metrics.CACHED_TOKENS] == {CHAT: 20}
    assert values[metrics.REASONING_TOKENS] == {CHAT: 3}
    assert values[metrics.SPEND] == {CHAT: 50}
    assert values[metrics.SPEND_CREDITED] == {CHAT: 9}
    assert values[metrics.TOKENS_CREDITED] == {(*CHAT, "prompt"): 5}
    assert values[metrics.MODEL_REQUESTS] == {("acme", "gpt-4o"): 6, ("acme", "other"): 1, ("globex", "gpt-4o"): 1}
    assert values[metrics.MODEL_TOKENS] == {
        ("acme", "gpt-4o", "prompt"): 30,
        ("acme", "gpt-4o", "completion"): 4,
        ("acme", "other", "prompt"): 1,
    }
    assert values[metrics.MODEL_SPEND] == {("acme", "gpt-4o"): 50}
    assert values[metrics.MODEL_SPEND_CREDITED] == {("acme", "other"): 9}
    assert values[metrics.USAGE_SOURCE] == {
        ("upstream",): 2,
        ("counted",): 5,
        ("checkpoint",): 1,
        ("estimated",): 0,
        ("assumed",): 0,
        ("none",): 0,
    }
    assert values[metrics.ODD_SETTLEMENTS] == {("overrun",): 2, ("late",): 1, ("unheld",): 0}
    assert values[metrics.HOLDS_EXPIRED] == {(): 1}
    assert set(values) == {metric for metric in metrics.METRICS if metric.source is Source.TOTALS}


async def test_spend_by_kind_is_shown_with_what_was_taken_back_of_it(database: Database) -> None:
    rows = [
        (*CHAT, "input", 70, 0, 0),
        (*CHAT, "other", 9, 9, 0),
        (*CHAT, "output", 8, 3, 5),
        ("gone", "g", "chat", "fee", 1, 0, 0),
    ]
    names = [column.name for column in LIFETIME_SPEND.columns]
    async with database.write() as connection:
        await connection.execute(insert(LIFETIME_SPEND), [dict(zip(names, row, strict=True)) for row in rows])

    totals = await LedgerTotals(database).fetch(["acme"])

    assert totals.samples[metrics.SPEND_BY_UNIT] == {(*CHAT, "input"): 70, (*CHAT, "other"): 9, (*CHAT, "output"): 8}
    assert totals.samples[metrics.SPEND_BY_UNIT_CREDITED] == {(*CHAT, "other"): 9, (*CHAT, "output"): 3}


async def test_an_empty_ledger_has_counters_without_labels_only(database: Database) -> None:
    values = (await LedgerTotals(database).fetch(["acme"])).samples

    assert {metric for metric, series in values.items() if series} == {
        metrics.USAGE_SOURCE,
        metrics.ODD_SETTLEMENTS,
        metrics.HOLDS_EXPIRED,
        metrics.JOBS_OPEN,
        metrics.WEBHOOK_DELIVERIES,
        metrics.WEBHOOK_QUEUE,
    }
    assert len(values[metrics.USAGE_SOURCE]) == len(UsageSource)


async def test_series_of_organizations_that_left_end_and_what_has_no_label_goes_on(database: Database) -> None:
    gone = ("gone", "gone-prod", "chat")
    await put(
        database,
        (CHAT, "gpt-4o", "success", "upstream", {"requests": 1}),
        (gone, "gpt-4o", "success", "upstream", {"requests": 5}),
        (("other", "other", "chat"), "", "refused", "", {"requests": 3}),
    )

    values = (await LedgerTotals(database).fetch(["acme"])).samples

    assert values[metrics.REQUESTS] == {(*CHAT, "success"): 1, ("other", "other", "chat", "refused"): 3}
    assert values[metrics.USAGE_SOURCE][("upstream",)] == 6


async def test_past_the_bound_whole_organizations_are_left_out_and_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    orgs = [f"org-{number:04}" for number in range(3 * ORGS_AT_ONCE)]
    await put(database, *((((org, f"{org}-1", "chat"), "gpt-4o", "success", "upstream", {"requests": 1})) for org in orgs))
    everything = await LedgerTotals(database).fetch(orgs)
    monkeypatch.setattr(ledger_totals, "ROWS_MAX", 2 * ORGS_AT_ONCE)  # an organization has one

    bounded = await LedgerTotals(database).fetch(orgs)

    assert (len(everything.samples[metrics.REQUESTS]), everything.organizations_skipped) == (3 * ORGS_AT_ONCE, 0)
    shown = 2 * ORGS_AT_ONCE
    assert (len(bounded.samples[metrics.REQUESTS]), bounded.organizations_skipped) == (shown, len(orgs) - shown)
    assert len(bounded.samples[metrics.MODEL_REQUESTS]) == shown


async def test_a_database_that_hangs_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    totals = LedgerTotals(database)
    monkeypatch.setattr(ledger_totals, "READ_SECONDS", 0.0)

    with pytest.raises(LedgerUnavailableError):
        await totals.fetch(["acme"])

    monkeypatch.undo()
    assert (await totals.fetch(["acme"])).organizations_skipped == 0, "the next scrape is answered again"


async def test_scrapes_at_once_see_the_same(database: Database) -> None:
    await put(database, (CHAT, "gpt-4o", "success", "upstream", {"requests": 2, "cost_nano_usd": 3}))
    consoles = [LedgerTotals(database) for _ in range(2)]

    seen = await asyncio.gather(*(console.fetch(["acme"]) for console in consoles for _ in range(5)))

    texts = {Renderer().render(Scraped(samples=one.samples), accept="")[1] for one in seen}
    assert len(texts) == 1


async def test_a_scrape_shows_what_has_changed_since_the_one_before_and_hands_on_the_rest(database: Database) -> None:
    globex = ("globex", "globex-1", "chat")
    await put(database, *((exchange, "gpt-4o", "success", "upstream", {"requests": 2}) for exchange in (CHAT, globex)))
    totals = LedgerTotals(database)
    before = (await totals.fetch(["acme", "globex"])).samples
    await put(database, (CHAT, "gpt-4o", "truncated", "counted", {"requests": 1}))

    after = (await totals.fetch(["acme", "globex"])).samples

    assert after[metrics.REQUESTS] == {(*CHAT, "success"): 2, (*CHAT, "truncated"): 1, (*globex, "success"): 2}
    assert after[metrics.MODEL_REQUESTS] == {("acme", "gpt-4o"): 3, ("globex", "gpt-4o"): 2}
    assert list(map(is_, parts(after, metrics.REQUESTS), parts(before, metrics.REQUESTS))) == [False, True]


def parts(samples: Samples, metric: Metric) -> Sequence[object]:
    numbers = samples[metric]
    assert isinstance(numbers, InParts)
    return numbers.parts
