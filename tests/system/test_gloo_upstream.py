"""Gloo as the upstream: a token by OAuth2 client credentials, and prices from its own catalogue."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, running_gateway, shared_prompt_tokens

from tallygate.simulator.server import running_simulator

AUTH = {"Authorization": f"Bearer {ACME_KEY}"}
MODEL, PROMPT_NANO, COMPLETION_NANO = "gloo-openai-gpt-5.2", 1_750, 14_000


def upstreams(url: str, **changes: Any) -> dict[str, Any]:
    auth = {
        "kind": "oauth2_client_credentials",
        "token_url": f"{url}/oauth2/token",
        "client_id_env": "GLOO_CLIENT_ID",
        "secret_env": "GLOO_CLIENT_SECRET",
        "scope": "api/access",
    }
    return {"upstreams": {"upstreams": {"default": {"auth": auth, "catalogue_path": "/platform/v2/models"} | changes}}}


@pytest.fixture(autouse=True)
def gloo_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_CLIENT_ID", "gloo-client")
    monkeypatch.setenv("GLOO_CLIENT_SECRET", "gloo-secret")


async def test_gloo_models_are_priced_from_the_first_request_and_one_token_serves_all(tmp_path: Path) -> None:
    async with running_simulator(prompt_tokens=shared_prompt_tokens()) as gloo:
        async with (
            running_gateway(tmp_path, upstream_url=gloo.url, config=upstreams(gloo.url)) as harness,
            ClientSession() as session,
        ):
            assert [record.status for record in gloo.ledger.records if record.endpoint == "gloo_models"] == [200]  # at start
            for stream in (False, True) * 3:
                body = {"model": MODEL, "max_tokens": 30, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
                async with session.post(f"{harness.url}/ai/v2/chat/completions", json=body, headers=AUTH) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()
            await harness.at_rest()
            events = harness.events()

        asked = [record for record in gloo.ledger.records if record.endpoint == "gloo_chat"]
        by_id = {event["event_id"]: event for event in events}
        assert len(asked) == len(by_id) == 6
        for record in asked:
            cost = record.prompt_tokens * PROMPT_NANO + record.generated_tokens * COMPLETION_NANO
            assert by_id[str(record.request_id)]["_cost"] == cost > 0
            assert record.credential_headers == ("authorization",)
            assert not record.has_gateway_key
        assert sum(record.endpoint == "oauth2_token" for record in gloo.ledger.records) == 1
        assert gloo.ledger.totals.gateway_keys_seen == 0


async def test_a_model_that_no_catalogue_names_is_refused(tmp_path: Path) -> None:
    async with running_simulator(prompt_tokens=shared_prompt_tokens()) as gloo:
        async with (
            running_gateway(tmp_path, upstream_url=gloo.url, config=upstreams(gloo.url)) as harness,
            ClientSession() as session,
        ):
            body = {"model": "gloo-unheard-of", "messages": [{"role": "user", "content": "Hello"}]}
            async with session.post(f"{harness.url}/ai/v2/chat/completions", json=body, headers=AUTH) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"]["code"] == "unknown_model"
        assert all(record.endpoint == "gloo_models" for record in gloo.ledger.records)


async def test_a_token_that_cannot_be_had_is_an_upstream_failure_and_costs_nothing(tmp_path: Path) -> None:
    async with running_simulator(prompt_tokens=shared_prompt_tokens()) as gloo:
        config = upstreams(gloo.url)
        config["upstreams"]["upstreams"]["default"]["auth"]["token_url"] = f"{gloo.url}/no/such/path"
        async with running_gateway(tmp_path, upstream_url=gloo.url, config=config) as harness, ClientSession() as session:
            body = {"model": MODEL, "max_tokens": 30, "messages": [{"role": "user", "content": "Hello"}]}
            async with session.post(f"{harness.url}/ai/v2/chat/completions", json=body, headers=AUTH) as answer:
                assert answer.status in {502, 503}
                assert "gloo-secret" not in await answer.text()
            (event,) = harness.events()
            assert (event["_kind"], event["_cost"]) == ("released", 0)
            assert (await harness.window()).held_nano_usd == 0
