"""Batches of Anthropic and the Gemini API, whose requests stand in the request that orders them."""

from pathlib import Path
from typing import Any

import pytest
from gateway_harness import ACME_KEY, BIG_KEY
from test_batches import ACME, World, world

GOOGLE = {"x-goog-api-key": ACME_KEY}
CLAUDE = "claude-haiku-4-5"  # 1 and 5 USD per million tokens, half in batches


def message(custom_id: str, text: str, **more: Any) -> dict[str, Any]:
    params = {"model": CLAUDE, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": custom_id, "params": params}


def content(text: str, **more: Any) -> dict[str, Any]:
    request = {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": {"maxOutputTokens": 100}}
    return {"request": request, "metadata": {"key": text[-3:]}, **more}


def google(requests: list[Any], **more: Any) -> dict[str, Any]:
    return {"batch": {"displayName": "A", "inputConfig": {"requests": {"requests": requests}}, **more}}


async def ask(at: World, path: str, body: Any, *, headers: Any = ACME, status: int = 200) -> dict[str, Any]:
    content = {"data": body, "headers": {**headers, "content-type": "application/json"}} if isinstance(body, bytes) else None
    async with at.session.post(path, **(content or {"json": body, "headers": headers})) as answer:
        assert answer.status == status, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def test_messages_are_held_and_entered_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        requests = [message(f"m-{number}", f"[[sim tokens={number + 1};delay=60000]] Hello") for number in range(25)]
        requests.append(message("bad", "[[sim fault=status;status=500;delay=60000]] Hello"))
        batch = await ask(at, "/v1/messages/batches", {"requests": requests})
        _, held = await at.spent_and_held()
        assert 26 * 100 * 2_500 < held < 26 * (100 * 2_500 + 200 * 1_250)
        assert await at.poll_after(10_000) == 1
        assert await at.spent_and_held() == (0, held)
        await at.poll_after(60_000)
        records = [record for record in at.harness.ledger.records if record.tier == "batch" and record.accepted]
        assert len(records) == 25
        cost = sum(record.prompt_tokens * 500 + record.generated_tokens * 2_500 for record in records)
        assert await at.spent_and_held() == (cost, 0)
        found = at.results()
        assert sorted(event["completion_tokens"] for event in found) == list(range(1, 26))
        assert {event["endpoint"] for event in found} == {"/v1/messages"}
        async with at.session.get(f"/v1/messages/batches/{batch['id']}", headers=ACME) as answer:
            shown = await answer.json()
        assert (shown["processing_status"], shown["results_url"]) == ("ended", f"/v1/messages/batches/{batch['id']}/results")
        async with at.session.get(shown["results_url"], headers=ACME) as answer:
            assert len((await answer.text()).splitlines()) == 26


async def test_contents_are_held_and_entered_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
    async with world(tmp_path, monkeypatch) as at:
        requests = [content(f"[[sim tokens={number + 1};delay=60000]] Hello") for number in range(3)]
        requests.append(content("[[sim fault=status;status=500;delay=60000]] Hello"))
        batch = await ask(at, path, google(requests), headers=GOOGLE)
        _, held = await at.spent_and_held()
        assert 4 * 100 * 1_250 < held < 4 * (100 * 1_250 + 100 * 150)
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (0, held)
        await at.poll_after(60_000)
        records = [record for record in at.harness.ledger.records if record.tier == "batch" and record.accepted]
        cost = sum(record.prompt_tokens * 150 + record.generated_tokens * 1_250 for record in records)
        assert await at.spent_and_held() == (cost, 0)
        assert sorted(event["completion_tokens"] for event in at.results()) == [1, 2, 3]
        assert {event["endpoint"] for event in at.results()} == {"/v1beta/models/{model}:generateContent"}
        async with at.session.get(f"/v1beta/{batch['name']}", headers=GOOGLE) as answer:
            assert (await answer.json())["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
        for key, own in ((ACME_KEY, [batch["name"]]), (BIG_KEY, [])):
            async with at.session.get("/v1beta/batches", headers={"x-goog-api-key": key}) as answer:
                assert [each["name"] for each in (await answer.json()).get("operations", [])] == own


async def test_embeddings_in_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        request = {"request": {"content": {"parts": [{"text": "Hello there"}]}}}
        await ask(at, "/v1beta/models/gemini-embedding-001:asyncBatchEmbedContent", google([request] * 2), headers=GOOGLE)
        _, held = await at.spent_and_held()
        assert held > 0
        await at.poll_after(10_000)
        spent, left = await at.spent_and_held()
        assert (0 < spent <= held, left, len(at.results())) == (True, 0, 2)


@pytest.mark.parametrize("api", ["anthropic", "google"])
async def test_one_that_is_cancelled_owes_what_was_completed(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("[[sim tokens=3]] Hi", "[[sim tokens=3;delay=90000]] Hi")
    async with world(tmp_path, monkeypatch) as at:
        if api == "anthropic":
            requests = [message(str(number), text) for number, text in enumerate(texts)]
            batch = await ask(at, "/v1/messages/batches", {"requests": requests})
            await ask(at, f"/v1/messages/batches/{batch['id']}/cancel", {})
        else:
            path = "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
            batch = await ask(at, path, google([content(text) for text in texts]), headers=GOOGLE)
            await ask(at, f"/v1beta/{batch['name']}:cancel", {}, headers=GOOGLE)
        await at.poll_after(10_000)
        assert [event["completion_tokens"] for event in at.results()] == [3]
        spent, held = await at.spent_and_held()
        assert spent > 0
        assert held == 0


BAD_MESSAGES: list[tuple[Any, str]] = [
    ({"requests": []}, "The batch has no requests."),
    ({}, "'requests' must be a list"),
    ({"requests": {"custom_id": "a"}}, "'requests' must be a list"),
    (b'{"requests": [], "requests": []}', "Duplicate key 'requests'"),
    ({"requests": [message("a", "Hi"), message("a", "Hi")]}, "Request 2 of the batch"),
    ({"requests": [message("a", "Hi", model="unheard-of")]}, "No price is configured"),
    ({"requests": [{**message("a", "Hi"), "Params": {}}]}, "Unknown member"),
    ({"requests": [{"custom_id": "a", "params": {"messages": []}}]}, "Request 1 of the batch"),
    (b"[1", "not valid JSON"),
    ({"requests": [], "Requests": []}, "Unknown member"),
]


@pytest.mark.parametrize(("body", "said"), BAD_MESSAGES)
async def test_odd_batches_of_messages_are_refused(body: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        refused = await ask(at, "/v1/messages/batches", body, headers={**ACME, "anthropic-version": "2023-06-01"}, status=400)
        assert said in refused["error"]["message"]
        assert refused["type"] == "error"


BAD_CONTENTS: list[tuple[Any, str]] = [
    (google([]), "The batch has no requests."),
    ({"batch": {"inputConfig": {"fileName": "files/abc"}}}, "send them inlined"),
    ({"batch": {"input_config": {"file_name": "files/abc"}}}, "send them inlined"),
    ({"batch": {}}, "'batch.inputConfig' is required"),
    (google([content("Hi")], input_config={"requests": {"requests": []}}), "'batch.inputConfig' is required"),
    (google([{"request": {"contents": [], "model": "models/gemini-2.5-pro"}}]), "names another model"),
]


@pytest.mark.parametrize(("body", "said"), BAD_CONTENTS)
async def test_odd_batches_of_contents_are_refused(body: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        path = "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
        refused = await ask(at, path, body, headers=GOOGLE, status=400)
        assert said in refused["error"]["message"]


async def test_a_batch_that_the_limit_cannot_hold_names_the_amount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch, acme_usd="0.01") as at:
        body = {"requests": [message(str(number), "Hi", max_tokens=1000) for number in range(40)]}
        refused = await ask(at, "/v1/messages/batches", body, headers={**ACME, "anthropic-version": "2023-06-01"}, status=429)
        assert 0.1 < float(refused["error"]["needed_usd"]) < 0.11
