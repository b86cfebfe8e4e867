"""Ledger stream, limiter, totals, metrics and the upstream's own count are the same numbers, whatever the traffic was."""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from stack import AMPLE_PLANS, eventually, running_stack
from system_traffic import ORG_OF, PRICES, ask, assert_all_sums_agree, callers, chat, three_organizations, true_cost

ROUNDS = 5
EXACT = (  # name of the case, what is asked, whether it streams, usage source
    ("stream", "tokens=12", True, "upstream"),
    ("whole", "tokens=9", False, "upstream"),
    ("missing usage in a stream", "tokens=11 usage=missing", True, "assumed"),  # of which all was seen: no model of these reasons
    ("missing usage in a body", "tokens=7 usage=missing", False, "assumed"),
    ("over-generation", "over_generate=9 tokens=64", True, "upstream"),
    ("reasoning", "tokens=5 reasoning=6", True, "upstream"),
    ("refused by the upstream", "fault=status:429", True, "upstream"),
    ("failed before output", "fault=status:503", False, "upstream"),
)
CUT = (  # what a client or the upstream broke off: bounded by what was generated
    ("error in the stream", "tokens=12 fault=error at=6", 0),
    ("cut in the stream", "tokens=12 fault=cut at=6", 0),
)


async def test_five_sums_are_one(tmp_path: Path) -> None:
    random = Random(7)
    config: dict[str, Any] = {
        "plans": AMPLE_PLANS,
        "organizations": three_organizations(),
        "upstreams": {"upstreams": {"default": {"on_disconnect": "drain"}}},
    }
    async with running_stack(tmp_path, config=config, workers="4") as stack, callers() as session:
        calls: list[tuple[str, str, Any]] = []
        for _ in range(ROUNDS):
            for credential in ORG_OF:
                model = random.choice(["gpt-4o-mini", "gpt-4o"])
                for name, directive, streams, source in EXACT:
                    calls.append((name, source, ask(session, stack, credential, chat(directive, stream=streams, model=model))))
                for name, directive, _ in CUT:
                    calls.append((name, "cut", ask(session, stack, credential, chat(directive, model=model))))
                leaving = ask(session, stack, credential, chat("tokens=30 tps=200", model=model), leave_after_lines=5)
                calls.append(("leaves", "upstream", leaving))
                embedding = {"model": "text-embedding-3-small", "input": "some words to embed"}
                calls.append(("embeds", "upstream", ask(session, stack, credential, embedding, path="/v1/embeddings")))
                calls.append(("lists", "none", ask(session, stack, credential, None, path="/v1/models")))
        random.shuffle(calls)
        outcomes = await asyncio.gather(*(call for _, _, call in calls))
        await eventually(lambda: stack.ledger.totals.open == 0 and len(stack.events()) == len(calls), "all exchanges end")
        events = stack.events()

        await assert_all_sums_agree(stack, events)
        assert len(stack.ledger.records) == len(calls)
        by_id = {event["event_id"]: event for event in events}
        for (name, source, _), seen in zip(calls, outcomes, strict=True):
            event = by_id[seen.request_id]
            (record,) = stack.ledger.by_request_id(seen.request_id)
            if source == "cut":
                delivered = record.events and 0 < event["completion_tokens"] <= record.generated_tokens
                assert delivered, (name, event, record)
                assert int(event["_cost_nano_usd"]) <= true_cost(record), name
            else:
                assert (name, event["usage_source"]) == (name, source)
                cost = 0 if name == "lists" else true_cost(record)
                assert (name, int(event["_cost_nano_usd"])) == (name, cost)
            assert ("overrun" in event["_flags"].split(",")) == (name == "over-generation"), name
        exact = [by_id[seen.request_id] for (_, source, _), seen in zip(calls, outcomes, strict=True) if source != "cut"]
        charged = sum(int(event["_cost_nano_usd"]) for event in exact)
        cut = {seen.request_id for (_, source, _), seen in zip(calls, outcomes, strict=True) if source == "cut"}
        priced = [record for record in stack.ledger.records if record.model in PRICES and record.request_id not in cut]
        assert charged == sum(true_cost(record) for record in priced) > 0
        assert Counter(event["usage_source"] for event in exact)["assumed"] == 2 * ROUNDS * len(ORG_OF)
