"""OpenAI's SDK as a client of Azure, with nothing but its endpoint changed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import recordings
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, Harness, running_gateway
from sdk_sides import PRICES, user

VERSION = "2024-10-21"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with running_gateway(tmp_path, config={"prices": PRICES}) as harness:
        yield harness


def client(harness: Harness, version: str = VERSION) -> openai.AsyncAzureOpenAI:
    return openai.AsyncAzureOpenAI(azure_endpoint=harness.url, api_key=ACME_KEY, api_version=version, max_retries=0)


async def test_what_azures_client_asks_for_is_answered_and_counted(harness: Harness) -> None:
    async with client(harness) as azure:
        chat = await azure.chat.completions.create(model="gpt-4o-mini", messages=user("tokens=5"), max_completion_tokens=9)
        stream = await azure.chat.completions.create(
            model="gpt-4o-mini", messages=user("tokens=6"), max_completion_tokens=9, stream=True
        )
        chunks = [chunk async for chunk in stream]
        vectors = await azure.embeddings.create(model="text-embedding-3-small", input="hi", encoding_format="float")
        response = await azure.responses.create(model="gpt-4o-mini", input="[[sim tokens=7]] Hi", max_output_tokens=20)

    assert (chat.usage.completion_tokens, vectors.data[0].object, response.usage.output_tokens) == (5, "embedding", 7)
    assert all(chunk.usage is None for chunk in chunks)  # nobody asked for it but the gateway
    await harness.at_rest()
    deployment = "/openai/deployments/gpt-4o-mini/chat/completions"
    assert [record.path for record in harness.ledger.records] == [
        *(deployment, deployment, "/openai/deployments/text-embedding-3-small/embeddings", "/openai/responses")
    ]
    events = harness.events()
    assert [event["completion_tokens"] for event in events] == [5, 6, 0, 7]
    assert {event["usage_source"] for event in events} == {"upstream"}
    assert not any(record.has_gateway_key for record in harness.ledger.records)


async def test_azures_images_are_generated_and_edited(harness: Harness) -> None:
    async with client(harness) as azure:
        drawn = await azure.images.generate(model="gpt-image-1.5", prompt="A cat", quality="low", size="1024x1024")
        edited = await azure.images.edit(model="gpt-image-1.5", prompt="A hat", image=("a.png", b"\x89PNG"), quality="low")
    assert (len(drawn.data), drawn.usage.output_tokens) == (1, 272)
    assert edited.usage.input_tokens_details.image_tokens > 0
    await harness.at_rest()
    deployment = "/openai/deployments/gpt-image-1.5/images/"
    assert [record.path for record in harness.ledger.records] == [deployment + "generations", deployment + "edits"]
    assert [event["completion_tokens"] for event in harness.events()] == [272, 272]
    assert {event["request_model"] for event in harness.events()} == {"gpt-image-1.5"}


async def test_azures_recordings_are_transcribed_and_texts_spoken(harness: Harness) -> None:
    async with client(harness) as azure:
        heard = await azure.audio.transcriptions.create(model="whisper-1", file=("a.wav", recordings.wav(3)))
        spoken = await azure.audio.speech.create(model="tts-1", voice="alloy", input="Peace")
    assert (heard.usage.seconds, spoken.content[:4]) == (3, b"RIFF")
    await harness.at_rest()
    assert [record.path for record in harness.ledger.records] == [
        *("/openai/deployments/whisper-1/audio/transcriptions", "/openai/deployments/tts-1/audio/speech")
    ]
    assert [event["cost_nano_usd"] for event in harness.events()] == [3 * 100_000, 5 * 15_000]


async def test_the_synchronous_client_reads_answers_and_refusals(harness: Harness) -> None:
    def ask(key: str) -> str:
        with openai.AzureOpenAI(azure_endpoint=harness.url, api_key=key, api_version=VERSION, max_retries=0) as azure:
            return azure.chat.completions.create(model="gpt-4o-mini", messages=user("tokens=5"), max_tokens=9).model

    assert await asyncio.to_thread(ask, ACME_KEY) == "gpt-4o-mini"
    with pytest.raises(openai.AuthenticationError):
        await asyncio.to_thread(ask, "tg_nobody_unknown")


async def test_a_version_that_cannot_be_asked_for_usage_is_counted(harness: Harness) -> None:
    async with client(harness, "2024-06-01") as azure:
        stream = await azure.chat.completions.create(model="gpt-4o-mini", messages=user("tokens=6"), max_tokens=9, stream=True)
        assert [chunk async for chunk in stream]
    await harness.at_rest()
    (served,), (event,) = harness.ledger.records, harness.events()
    assert served.reported is None
    assert event["usage_source"] != "upstream"
    assert event["completion_tokens"] >= 6


async def test_the_deployment_is_the_model_whatever_the_body_names(harness: Harness) -> None:
    body = {"messages": user("tokens=5"), "max_tokens": 9}
    url = f"{harness.url}/openai/deployments/gpt-4o-mini/chat/completions?api-version={VERSION}"
    async with ClientSession(headers={"api-key": ACME_KEY}) as session:
        async with session.post(url, json=body) as answer:
            assert answer.status == 200
        async with session.post(url, json=body | {"model": "gpt-3.5-turbo-instruct"}) as answer:
            assert (answer.status, (await answer.json())["model"]) == (200, "gpt-4o-mini")
        async with session.post(url.replace("gpt-4o-mini", "nobodys-model"), json=body | {"model": "gpt-4o-mini"}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "unknown_model")
        for broken in (b"", b"[]", b"{", b'{"model":1,"messages":[]', b'{"model":"a","model":"b","messages":[]}', b"\xff"):
            async with session.post(url, data=broken, headers={"content-type": "application/json"}) as answer:
                assert (answer.status, json.loads(await answer.read())["error"]["code"]) == (400, "invalid_request"), broken
    await harness.at_rest()
    assert [event["request_model"] for event in harness.events()] == ["gpt-4o-mini"] * 2
