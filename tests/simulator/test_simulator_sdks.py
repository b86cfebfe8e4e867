"""The providers' own SDKs take the simulator for the provider, and what they see is what its ledger says."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from encodings_of_tests import load_once
from google import genai

from tallygate.simulator.ledger import Served
from tallygate.simulator.server import Simulator
from tallygate.tokens.vocabulary import EncodingName

O200K = load_once(EncodingName.O200K)


def prompt(directive: str) -> list[Any]:
    return [{"role": "user", "content": f"[[sim {directive}]] Say something."}]


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="sk-sim", base_url=f"{sim.url}/v1", max_retries=0) as client:
        yield client


def last(sim: Simulator) -> Served:
    return sim.ledger.records[-1]


async def test_openai_chat(sim: Simulator, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-4o", messages=prompt("tokens=20 reasoning=5 cached=4"), n=2)

    usage = answer.usage
    assert usage is not None
    assert (usage.completion_tokens, usage.total_tokens) == (50, usage.prompt_tokens + 50)
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 10
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert [len(O200K.encode_ordinary(choice.message.content or "")) for choice in answer.choices] == [20, 20]
    record = last(sim)
    assert (record.prompt_tokens, record.generated_tokens, record.reasoning_tokens) == (usage.prompt_tokens, 50, 10)
    assert record.reported == (usage.prompt_tokens, 50)
    assert record.completed
    assert record.accepted
    assert record.status == 200


async def test_openai_chat_prompt_is_counted_by_the_published_rule(sim: Simulator, client: openai.AsyncOpenAI) -> None:
    text = "This late pivot means we don't have time to boil the ocean for the client deliverable."

    answer = await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": text, "name": "ann"}])

    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3 + 3 + 1 + len(O200K.encode_ordinary(text)) + 1 + len(O200K.encode_ordinary("ann"))


@pytest.mark.parametrize("asked", [True, False])
async def test_openai_chat_stream_sends_usage_only_when_asked(sim: Simulator, client: openai.AsyncOpenAI, *, asked: bool) -> None:
    text, usages = "", []
    options: Any = {"include_usage": True} if asked else openai.NOT_GIVEN
    stream = await client.chat.completions.create(
        model="gpt-4o", messages=prompt("tokens=20 reasoning=5"), stream=True, stream_options=options
    )
    async for chunk in stream:
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        usages += [chunk.usage.completion_tokens] if chunk.usage else []

    assert len(O200K.encode_ordinary(text)) == 20
    assert usages == ([25] if asked else [])
    assert last(sim).generated_tokens == 25
    assert last(sim).reported == ((last(sim).prompt_tokens, 25) if asked else None)


async def test_openai_tool_calls_stream_whole_arguments(sim: Simulator, client: openai.AsyncOpenAI) -> None:
    arguments, names = "", []
    stream = await client.chat.completions.create(model="gpt-4o", messages=prompt("tokens=20 tool=1"), stream=True)
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            names += [call.function.name] if call.function and call.function.name else []
            arguments += (call.function and call.function.arguments) or ""

    assert names == ["search"]
    assert len(O200K.encode_ordinary(arguments)) + 1 == 20 == last(sim).generated_tokens


async def test_the_maximum_is_respected_unless_told_otherwise(sim: Simulator, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="gpt-4o", messages=prompt("tokens=20 reasoning=4"), max_completion_tokens=10
    )
    assert answer.choices[0].finish_reason == "length"
    assert last(sim).generated_tokens == 10

    await client.chat.completions.create(model="gpt-4o", messages=prompt("tokens=8 reasoning=4"), max_completion_tokens=10)
    assert (last(sim).generated_tokens, last(sim).reasoning_tokens) == (10, 4)  # reasoning counts towards the maximum

    await client.chat.completions.create(model="gpt-4o", messages=prompt("over_generate=7"), max_completion_tokens=10)
    assert last(sim).generated_tokens == 17


async def test_openai_responses_and_its_stream(sim: Simulator, client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="gpt-4o", input="[[sim tokens=9]] hi", instructions="Be brief.")
    assert answer.usage is not None
    assert (answer.usage.output_tokens, answer.usage.input_tokens) == (9, last(sim).prompt_tokens)
    assert len(O200K.encode_ordinary(answer.output_text)) == 9

    final = None
    async for event in await client.responses.create(model="gpt-4o", input="[[sim tokens=9 reasoning=3]] hi", stream=True):
        if event.type == "response.completed":
            final = event.response.usage
    assert final is not None
    assert final.output_tokens == 12 == last(sim).generated_tokens


async def test_openai_embeddings_completions_and_models(sim: Simulator, client: openai.AsyncOpenAI) -> None:
    vectors = await client.embeddings.create(model="text-embedding-3-small", input=["hello world", "hello"])
    assert (len(vectors.data), vectors.usage.prompt_tokens, vectors.usage.total_tokens) == (2, 3, 3)
    assert last(sim).generated_tokens == 0

    completion = await client.completions.create(model="davinci-002", prompt=["[[sim tokens=5]]", "[[sim tokens=5]]"])
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 10 == last(sim).generated_tokens

    assert [model.id async for model in client.models.list()]
    assert not last(sim).prompt_tokens


async def test_anthropic_messages_count_and_stream(sim: Simulator) -> None:
    async with anthropic.AsyncAnthropic(api_key="sk-sim", base_url=sim.url, max_retries=0) as client:
        messages = prompt("tokens=20 reasoning=5 cached=4 cache_write=3")
        answer = await client.messages.create(model="claude-opus-4-7", max_tokens=100, messages=messages)
        async with client.messages.stream(model="claude-opus-4-7", max_tokens=100, messages=messages) as stream:
            streamed = await stream.get_final_message()
        counted = await client.messages.count_tokens(model="claude-opus-4-7", messages=messages)

    for usage in (answer.usage, streamed.usage):
        assert (usage.output_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (25, 4, 3)
        assert usage.input_tokens + 7 == counted.input_tokens
    assert [block.text for block in streamed.content] == [block.text for block in answer.content]  # type: ignore[union-attr]
    totals = sim.ledger.totals
    assert (totals.prompt_tokens, totals.generated_tokens, totals.cached_tokens) == (2 * counted.input_tokens, 50, 8)


async def test_anthropic_tool_use_and_thinking_reach_the_sdk(sim: Simulator) -> None:
    async with anthropic.AsyncAnthropic(api_key="sk-sim", base_url=sim.url, max_retries=0) as client:
        messages = prompt("tokens=12 tool=1 reasoning=4 show_reasoning=1")
        async with client.messages.stream(model="claude-opus-4-7", max_tokens=100, messages=messages) as stream:
            streamed = await stream.get_final_message()
        answer = await client.messages.create(model="claude-opus-4-7", max_tokens=100, messages=messages)

    assert [block.type for block in streamed.content] == ["thinking", "tool_use"]
    assert streamed.content[1].input == answer.content[1].input  # type: ignore[union-attr]
    assert streamed.stop_reason == "tool_use"


async def test_gemini_whole_and_streamed(sim: Simulator) -> None:
    client = genai.Client(api_key="sk-sim", http_options={"base_url": sim.url})
    asked = "[[sim tokens=6 reasoning=2]] hi"
    answer = await client.aio.models.generate_content(model="gemini-2.5-flash", contents=asked)
    chunks = [chunk async for chunk in await client.aio.models.generate_content_stream(model="gemini-2.5-flash", contents=asked)]
    await client.aio.aclose()

    for usage in (answer.usage_metadata, chunks[-1].usage_metadata):
        assert usage is not None
        assert (usage.candidates_token_count, usage.thoughts_token_count) == (6, 2)
        assert usage.total_token_count == (usage.prompt_token_count or 0) + 8
    assert "".join(chunk.text or "" for chunk in chunks) == answer.text
    assert sim.ledger.totals.generated_tokens == 16


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
async def test_an_error_before_the_answer_owes_nothing(
    sim: Simulator, client: openai.AsyncOpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error):
        await client.chat.completions.create(model="gpt-4o", messages=prompt(f"fault=status:{status}"))

    assert (last(sim).status, last(sim).accepted, sim.ledger.totals.prompt_tokens) == (status, False, 0)


async def test_an_error_inside_a_stream_reaches_each_sdk(sim: Simulator, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.APIError, match="asked to fail"):
        async for _ in await client.chat.completions.create(model="gpt-4o", messages=prompt("fault=error at=3"), stream=True):
            pass
    assert (last(sim).generated_tokens, last(sim).completed, last(sim).reported) == (3, False, None)

    async with anthropic.AsyncAnthropic(api_key="sk-sim", base_url=sim.url, max_retries=0) as other:
        with pytest.raises(anthropic.APIStatusError, match="asked to fail"):
            async with other.messages.stream(model="claude-opus-4-7", max_tokens=9, messages=prompt("fault=error at=4")) as stream:
                await stream.get_final_message()
