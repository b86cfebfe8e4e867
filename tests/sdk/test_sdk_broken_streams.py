"""Streams that break: no SDK takes one for whole, what was delivered is owed, and no byte of it is changed.

The upstream is one that shows all it generates. What is owed of what nobody saw: tests/hostile/test_hanging_up.py.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google.genai import errors as gemini_errors
from sdk_sides import Call, World, running_world, user

from tallygate.telemetry.metrics import UPSTREAM_ERRORS

STREAMS = ("openai", "completions", "responses", "gloo", "anthropic", "gemini")
CUTS = {
    "between events": "fault=cut at=6",
    "between events by a reset": "fault=cut at=6 how=rst",
    "inside an event": "fault=cut at=6 byte=17",
    "by broken framing": "fault=bad_chunk at=6",
}
BROKEN = (openai.APIError, anthropic.APIError, gemini_errors.APIError, httpx2.RemoteProtocolError, httpx2.ReadError)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    config = {"upstreams": {"upstreams": {"default": {"hides_reasoning": False}}}}
    async with running_world(tmp_path, config=config) as world:
        yield world


def stream(kind: str, directive: str, **more: Any) -> Call:
    text = f"[[sim {directive}]] Hello"
    match kind:
        case "openai" | "gloo":
            model = "gpt-4o-mini" if kind == "openai" else "gloo-openai-gpt-5.2"
            arguments = {"model": model, "max_tokens": 60, "messages": user(directive), "stream": True}
            return Call(sdk=kind, method="chat.completions.create", arguments=arguments | more, streams=True)
        case "completions":
            arguments = {"model": "gpt-3.5-turbo-instruct", "max_tokens": 60, "prompt": text, "stream": True}
            return Call(sdk="openai", method="completions.create", arguments=arguments | more, streams=True)
        case "responses":
            arguments = {"model": "gpt-4o-mini", "max_output_tokens": 60, "input": text, "stream": True}
            return Call(sdk="openai", method="responses.create", arguments=arguments | more, streams=True)
        case "anthropic":
            arguments = {"model": "claude-haiku-4-5", "max_tokens": 60, "messages": user(directive), "stream": True}
            return Call(sdk=kind, method="messages.create", arguments=arguments | more, streams=True)
        case _:
            arguments = {"model": "gemini-2.5-flash", "contents": text}
            return Call(sdk=kind, method="models.generate_content_stream", arguments=arguments | more, streams=True)


async def owed(world: World) -> tuple[dict[str, Any], Any]:
    """The one event, once nothing is held any more, and what the simulator knows of it."""
    await world.harness.at_rest()
    (event,) = world.harness.events()
    (served,) = world.harness.ledger.records
    window = await world.harness.window()
    assert (window.spent_nano_usd, window.held_nano_usd) == (event["cost_nano_usd"], 0)
    return event, served


def assert_counted(event: dict[str, Any], served: Any) -> None:
    """What was delivered; of others than OpenAI's older models with the scale and the framing of their tokenizers."""
    is_exact = str(served.model).startswith("gpt-") and "gpt-5" not in str(served.model)
    surplus = 0 if is_exact else 8
    assert 0 < served.delivered_tokens <= event["completion_tokens"] <= served.delivered_tokens + surplus


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("kind", STREAMS)
async def test_a_cut_stream_looks_cut_and_what_was_delivered_is_owed(world: World, kind: str, cut: str) -> None:
    what = stream(kind, f"tokens=20 {cut}")
    with pytest.raises(BROKEN):
        await world.direct.ask(what)
    with pytest.raises(BROKEN) as caught:
        await world.through.ask(what)

    direct, through = bytes(world.direct.answers[-1].body), bytes(world.through.answers[-1].body)
    assert through.startswith(direct)
    if "byte=17" in cut:  # an error event would become part of the broken one
        assert through == direct
    elif direct:
        assert b"upstream_invalid_response" in through[len(direct) :]
        assert "The AI service failed" in str(caught.value)
    event, served = await owed(world)
    assert event["outcome"] == "truncated"
    assert_counted(event, served)
    if kind not in {"gemini", "gloo"} or event["usage_source"] == "upstream":  # of others than these the prompt is counted exactly
        assert event["prompt_tokens"] == served.prompt_tokens
    assert world.harness.metrics.counted[UPSTREAM_ERRORS] in ([("default", "truncated")], [("default", "invalid_response")])


@pytest.mark.parametrize("flavor", ["sync", "async"])
@pytest.mark.parametrize("kind", STREAMS)
async def test_an_error_inside_a_stream_is_the_providers_own(world: World, kind: str, flavor: str) -> None:
    what = stream(kind, "tokens=20 fault=error at=6")
    if kind == "responses":  # whose SDK hands the error over as an event
        direct, through = await world.direct.ask(what, flavor), await world.through.ask(what, flavor)
        assert through == direct
        assert "asked to fail" in through[-1]["message"]
    else:
        with pytest.raises(BROKEN) as direct_error:
            await world.direct.ask(what, flavor)
        with pytest.raises(BROKEN) as through_error:
            await world.through.ask(what, flavor)
        assert (type(through_error.value), str(through_error.value)) == (type(direct_error.value), str(direct_error.value))
        assert "asked to fail" in str(through_error.value)
    assert bytes(world.through.answers[-1].body) == bytes(world.direct.answers[-1].body)
    event, served = await owed(world)
    assert event["outcome"] == "upstream_error"
    assert event["cost_nano_usd"] > 0
    assert_counted(event, served)


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_that_just_stops_is_counted(world: World, kind: str) -> None:
    """The end of the HTTP message is not that of the answer: Anthropic's count of 1 at the start is not its last word."""
    what = stream(kind, "tokens=20 fault=cut at=6 how=end")

    assert await world.through.ask(what) == await world.direct.ask(what)
    assert bytes(world.through.answers[-1].body) == bytes(world.direct.answers[-1].body)
    event, served = await owed(world)
    assert event["outcome"] == "truncated"
    assert_counted(event, served)


@pytest.mark.parametrize("flavor", ["sync", "async"])
async def test_a_whole_stream_after_a_broken_one_is_served_on_the_same_client(world: World, flavor: str) -> None:
    with pytest.raises(BROKEN):
        await world.through.ask(stream("openai", "tokens=20 fault=cut at=6"), flavor)
    await world.harness.at_rest()

    chunks = await world.through.ask(stream("openai", "tokens=20"), flavor)
    assert "".join(chunk["choices"][0]["delta"]["content"] or "" for chunk in chunks).count(" ") == 20


class TestGeminiArrays:
    """Without `alt=sse`, which no SDK leaves out, a Gemini stream is one JSON array; an error inside one is its last element.

    An array that is cut gets nothing from the gateway: what came is not JSON, and the end of the HTTP message is missing.
    An element of ours could end up inside another, and would make a parser's error out of a connection's.
    """

    PATH = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"

    async def read(self, url: str, key: str, directive: str) -> tuple[bytes, Exception | None]:
        body = {"contents": [{"role": "user", "parts": [{"text": f"[[sim {directive}]] Hello"}]}]}
        found = bytearray()
        async with (
            httpx2.AsyncClient(trust_env=False) as client,
            client.stream("POST", url + self.PATH, json=body, headers={"x-goog-api-key": key}) as answer,
        ):
            assert answer.status_code == 200
            try:
                async for data in answer.aiter_raw():
                    found += data
            except httpx2.TransportError as error:
                return bytes(found), error
        return bytes(found), None

    async def both(self, world: World, directive: str) -> tuple[tuple[bytes, Exception | None], tuple[bytes, Exception | None]]:
        direct = await self.read(world.direct.url, world.direct.key, directive)
        return direct, await self.read(world.through.url, world.through.key, directive)

    async def test_an_array_is_relayed_and_metered(self, world: World) -> None:
        (direct, _), (through, error) = await self.both(world, "tokens=20 reasoning=3 cached=2")

        assert (through, error) == (direct, None)
        (event,) = await world.counted()
        assert (event["usage_source"], event["outcome"]) == ("upstream", "success")

    @pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
    async def test_an_array_that_is_cut_is_cut_for_the_client_too(self, world: World, cut: str) -> None:
        (direct, _), (through, error) = await self.both(world, f"tokens=20 {cut}")

        assert through == direct
        assert isinstance(error, httpx2.TransportError)
        event, served = await owed(world)
        assert event["outcome"] == "truncated"
        assert_counted(event, served)

    async def test_an_error_inside_an_array_is_relayed(self, world: World) -> None:
        (direct, _), (through, error) = await self.both(world, "tokens=20 fault=error at=6")

        assert (through, error) == (direct, None)
        assert b"asked to fail" in through
        event, served = await owed(world)
        assert event["outcome"] == "upstream_error"
        assert_counted(event, served)
