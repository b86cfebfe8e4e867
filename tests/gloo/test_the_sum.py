"""`tallygate serve` in front of the fake Gloo: after all forms, its account, the ledger and the metrics are one."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from aiohttp import ClientSession
from fake_gloo import API_KEY, FakeGloo
from gloo_world import running_gloo, write_directory
from prometheus_client.parser import text_string_to_metric_families
from request_forms import FORMS, NOT_IN_PAY_AS_YOU_GO, upload
from stack import Stack, eventually, running_stack

ADMIN = "tga_" + "0" * 40
SEARCHED = {"method": "POST", "path": "/ai/data/v1/search", "capability": "search", "fee_usd": "0.002"}


def account_of_gloo(gloo: FakeGloo) -> Counter[str]:
    """Of what came through the gateway; it asked for the catalogue itself as well."""
    served = [each for each in gloo.served if "via" in each.headers]
    return Counter(
        requests=len(served),
        prompt_tokens=sum(each.usage.prompt for each in served),
        completion_tokens=sum(each.usage.completion for each in served),
        cached_tokens=sum(each.usage.cached for each in served),
        reasoning_tokens=sum(each.usage.reasoning for each in served),
        cost_nano_usd=sum(each.cost_nano_usd for each in served),
    )


def usage(stack: Stack) -> Counter[str]:
    request = Request(f"{stack.console}/api/usage?bucket=total", headers={"Authorization": f"Bearer {ADMIN}"})
    with urlopen(request, timeout=10) as answer:
        totals: dict[str, Any] = json.loads(answer.read())["totals"]
    return Counter({name: totals[name] for name in NAMES})


def price_shown(stack: Stack) -> tuple[str, str] | None:
    """The source and the input rate that the console states for a model that only Gloo's catalogue names so."""
    request = Request(f"{stack.console}/api/prices?model=gloo-openai-gpt-5.2", headers={"Authorization": f"Bearer {ADMIN}"})
    with urlopen(request, timeout=10) as answer:
        rows = [row for model in json.loads(answer.read())["models"] for row in model["rows"] if row["applies"]]
    return None if not rows else (rows[0]["layer"], next(rate["usd"] for rate in rows[0]["rates"] if rate["unit"] == "input"))


NAMES = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cost_nano_usd")


def metrics(stack: Stack) -> Counter[str]:
    _, text = stack.get("/metrics")
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            match sample.name:
                case "tallygate_requests_total" if sample.labels["outcome"] != "refused":
                    found["requests"] += int(sample.value)
                case "tallygate_tokens_total":
                    found[f"{sample.labels['kind']}_tokens"] += int(sample.value)
                case "tallygate_cached_tokens_total":
                    found["cached_tokens"] += int(sample.value)
                case "tallygate_reasoning_tokens_total":
                    found["reasoning_tokens"] += int(sample.value)
                case "tallygate_spend_usd_total":
                    found["cost_nano_usd"] += round(sample.value * 10**9)
                case _:
                    pass
    return found


async def test_gloos_account_the_ledger_and_the_metrics_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_API_KEY", API_KEY)
    async with running_gloo() as (gloo, url):
        keys = write_directory(tmp_path / "config", url, routes={"with_shipped": True, "routes": [SEARCHED]})
        async with (
            running_stack(tmp_path, config_dir=tmp_path / "config", admin_token=ADMIN, workers="1") as stack,
            ClientSession() as session,
        ):
            # What pay-as-you-go has is asked for by both, in turns: a minute of that plan has sixty requests.
            for index, form in enumerate((upload("three items", "here", "a.txt", "b.txt", "c.txt"), *FORMS)):
                org = "partner" if form.capability in NOT_IN_PAY_AS_YOU_GO or index % 2 else "acme"
                headers = {"Authorization": f"Bearer {keys[org]}", "Content-Type": form.content_type, **form.headers}
                async with session.request(form.method, stack.url + form.target, data=form.body_bytes, headers=headers) as answer:
                    assert answer.status == 200, (form.name, await answer.text())
                    await answer.read()

            account = account_of_gloo(gloo)
            assert account == Counter(
                requests=1 + len(FORMS),
                prompt_tokens=sum(form.tokens[0] for form in FORMS if form.tokens),
                completion_tokens=sum(form.tokens[1] for form in FORMS if form.tokens),
                cached_tokens=sum(form.tokens[2] for form in FORMS if form.tokens),
                reasoning_tokens=sum(form.tokens[3] for form in FORMS if form.tokens),
                cost_nano_usd=sum(form.cost for form in FORMS),
            )
            account["cost_nano_usd"] += 2_000_000 * sum(form.path == SEARCHED["path"] for form in FORMS)  # the operator's fee
            await eventually(lambda: usage(stack)["requests"] == account["requests"], "the ledger has all")
            assert usage(stack) == account == metrics(stack)
            await eventually(lambda: price_shown(stack) == ("upstream's catalogue", "1.75"), "the console has read the catalogue")
