"""Requests whose worst case is more money than can be counted."""

from pathlib import Path

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, BIG_KEY, running_gateway
from refused import refusal_of

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.openai_chat import CHOICES_MAX
from tallygate.domain.organization import Plan
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import TOKENS_MAX
from tallygate.gateway.exchange.estimate import estimate, refuse_absurd


@pytest.mark.parametrize("key", [ACME_KEY, BIG_KEY])
async def test_a_worst_case_beyond_what_can_be_counted_is_the_callers_mistake(tmp_path: Path, key: str) -> None:
    absurd = {"messages": [{"role": "user", "content": "Hi"}], "model": "gpt-4", "max_tokens": TOKENS_MAX, "n": CHOICES_MAX}
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        url = f"{harness.url}/v1/chat/completions"
        async with session.post(url, json=absurd, headers={"Authorization": f"Bearer {key}"}) as answer:
            error = (await answer.json())["error"]

        assert (answer.status, error["code"]) == (400, "invalid_request")
        assert error["message"].startswith("This request asks for up to 1024000000000 tokens, which no limit can count")
        assert not harness.ledger.records
        assert (await harness.window()).held_nano_usd == 0


@pytest.mark.parametrize(("choices", "is_refused"), [(9_007_199, False), (9_007_200, True)])
def test_tokens_beyond_what_a_bucket_can_count_are_refused_also_without_a_price(choices: int, is_refused: bool) -> None:
    facts = RequestFacts(model="m", prompt=PromptShape(), max_output_tokens=TOKENS_MAX, choices=choices)
    assert (refusal_of(refuse_absurd, estimate(facts, Plan(id="p"), None, 7)) is not None) == is_refused
