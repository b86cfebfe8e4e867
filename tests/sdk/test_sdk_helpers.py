"""The SDKs' conveniences over plain calls, and many clients at once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sdk_sides import Call, Side, World, counts_of_event, counts_of_served, plain, running_world, user

MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 60, "messages": user("tokens=20 reasoning=3 cached=4")}


async def final_message(side: Side) -> Any:
    async with side.async_client("anthropic") as client, client.messages.stream(**MESSAGE) as stream:
        return plain(await stream.get_final_message())


async def test_anthropics_stream_helper_ends_with_the_same_message(world: World) -> None:
    assert await final_message(world.through) == await final_message(world.direct)
    (event,) = await world.counted()
    assert (event["completion_tokens"], event["reasoning_tokens"], event["cached_tokens"]) == (23, 3, 4)


async def final_completion(side: Side) -> tuple[str, Any]:
    async with (
        side.async_client("openai") as client,
        client.chat.completions.stream(model="gpt-4o-mini", max_tokens=60, messages=user("tokens=20")) as stream,
    ):
        completion = await stream.get_final_completion()
        return completion.choices[0].message.content, completion.usage


async def test_openais_stream_helper_ends_with_the_same_completion_and_no_usage_that_was_not_asked_for(world: World) -> None:
    through = await final_completion(world.through)

    assert through == await final_completion(world.direct)
    assert through[1] is None
    (event,) = await world.counted()
    assert event["usage_source"] == "upstream"


async def final_response(side: Side) -> Any:
    async with (
        side.async_client("openai") as client,
        client.responses.stream(model="gpt-4o-mini", max_output_tokens=60, input="[[sim tokens=9]] Hello") as stream,
    ):
        return plain(await stream.get_final_response())


async def test_openais_response_stream_helper_ends_with_the_same_response(world: World) -> None:
    assert await final_response(world.through) == await final_response(world.direct)
    await world.counted()


async def lines(side: Side) -> list[str]:
    async with (
        side.async_client("openai") as client,
        client.chat.completions.with_streaming_response.create(
            model="gpt-4o-mini", max_tokens=60, messages=user("tokens=20"), stream=True
        ) as answer,
    ):
        return [line async for line in answer.iter_lines()]


async def test_raw_lines_of_a_stream_are_the_same(world: World) -> None:
    through = await lines(world.through)

    assert through == await lines(world.direct)
    assert through[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize("policy", ["cancel", "grace"])
async def test_an_abandoned_stream_costs_what_was_generated(tmp_path: Path, policy: str) -> None:
    """With `cancel` it ends upstream too, at once; otherwise one that is ending is read on."""
    call = {"model": "gpt-4o-mini", "max_tokens": 400, "messages": user("tokens=400 tps=400"), "stream": True}
    config = {"upstreams": {"upstreams": {"default": {"on_disconnect": policy, "hides_reasoning": False}}}}
    async with running_world(tmp_path, config=config) as world:
        async with world.through.async_client("openai") as client:
            seen = 0
            async with await client.chat.completions.create(**call) as stream:
                async for chunk in stream:
                    seen += bool(chunk.choices[0].delta.content)
                    if seen == 5:
                        break
        await world.harness.at_rest()

        (event,), (served,) = world.harness.events(), world.harness.ledger.records
        assert event["prompt_tokens"] == served.prompt_tokens
        assert seen <= event["completion_tokens"] <= served.generated_tokens
        if policy == "cancel":
            assert (event["outcome"], served.generated_tokens < 400) == ("client_gone", True)
        else:
            assert (event["outcome"], event["completion_tokens"]) == ("success", 400)


@pytest.mark.parametrize("streams", [False, True])
async def test_many_clients_at_once_get_their_own_answers_and_are_counted_once_each(world: World, streams: bool) -> None:
    def call(number: int) -> Call:
        arguments = {"model": "gpt-4o-mini", "max_tokens": 60, "messages": user(f"tokens={number}"), "stream": streams}
        return Call(sdk="openai", method="chat.completions.create", arguments=arguments, streams=streams)

    answers = await asyncio.gather(*(world.through.ask(call(number)) for number in range(1, 25)))

    def words(answer: Any) -> int:
        if streams:
            return sum((chunk["choices"][0]["delta"]["content"] or "").count(" ") for chunk in answer)
        return int(answer["choices"][0]["message"]["content"].count(" "))

    assert [words(answer) for answer in answers] == list(range(1, 25))
    await world.harness.at_rest()
    events, served = world.harness.events(), world.harness.ledger.records
    assert sorted(map(counts_of_event, events)) == sorted(map(counts_of_served, served))
    assert len(events) == 24
