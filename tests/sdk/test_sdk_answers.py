"""Every SDK gets from the gateway what it gets from the provider: equal objects out of equal bytes, and every token counted."""

from typing import Any

import pytest
import recordings
from google.genai import types
from sdk_sides import FLAVORS, Call, World, counts_of_served, user

WEATHER = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
OPENAI_TOOL = {"type": "function", "function": {"name": "search", "description": "Search the web.", "parameters": WEATHER}}
RESPONSES_TOOL = {"type": "function", "name": "search", "parameters": WEATHER, "strict": None}
ANTHROPIC_TOOL = {"name": "search", "description": "Search the web.", "input_schema": WEATHER}
GEMINI_TOOL = types.Tool(function_declarations=[types.FunctionDeclaration(name="search", parameters_json_schema=WEATHER)])


def chat(directive: str, **more: Any) -> Call:
    arguments = {"model": "gpt-4o-mini", "max_completion_tokens": 60, "messages": user(directive)} | more
    return Call(sdk="openai", method="chat.completions.create", arguments=arguments, streams=bool(more.get("stream")))


def completion(directive: str, **more: Any) -> Call:
    arguments = {"model": "gpt-3.5-turbo-instruct", "max_tokens": 60, "prompt": f"[[sim {directive}]] Once"} | more
    return Call(sdk="openai", method="completions.create", arguments=arguments, streams=bool(more.get("stream")))


def response(directive: str, **more: Any) -> Call:
    arguments = {"model": "gpt-4o-mini", "max_output_tokens": 60, "input": f"[[sim {directive}]] Hello"} | more
    return Call(sdk="openai", method="responses.create", arguments=arguments, streams=bool(more.get("stream")))


def embedding(given: Any) -> Call:
    return Call(sdk="openai", method="embeddings.create", arguments={"model": "text-embedding-3-small", "input": given})


def images(method: str, directive: str = "tokens=1056", **more: Any) -> Call:
    arguments = {"model": "gpt-image-1.5", "prompt": f"[[sim {directive}]] A cat"} | more
    return Call(sdk="openai", method=f"images.{method}", arguments=arguments, streams=bool(more.get("stream")))


def heard(method: str, **more: Any) -> Call:
    arguments = {"model": "gpt-4o-transcribe", "file": ("a.wav", recordings.wav(7), "audio/wav")} | more
    return Call(sdk="openai", method=f"audio.{method}.create", arguments=arguments, streams=bool(more.get("stream")))


def spoken(**more: Any) -> Call:
    arguments = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "[[sim tokens=41]] Peace be with you."} | more
    return Call(sdk="openai", method="audio.speech.create", arguments=arguments)


def message(directive: str, method: str = "messages.create", **more: Any) -> Call:
    arguments = {"model": "claude-haiku-4-5", "max_tokens": 60, "messages": user(directive)} | more
    return Call(sdk="anthropic", method=method, arguments=arguments, streams=bool(more.get("stream")))


def gemini(directive: str, method: str = "models.generate_content", **config: Any) -> Call:
    arguments: dict[str, Any] = {
        "model": "gemini-2.5-flash",
        "contents": f"[[sim {directive}]] Hello",
        "config": types.GenerateContentConfig(
            max_output_tokens=60,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            **config,
        ),
    }
    return Call(sdk="gemini", method=method, arguments=arguments, streams=method.endswith("stream"))


def gloo(directive: str, **more: Any) -> Call:
    arguments = {"model": "gloo-anthropic-claude-sonnet-4.5", "max_tokens": 60, "messages": user(directive)} | more
    return Call(sdk="gloo", method="chat.completions.create", arguments=arguments, streams=bool(more.get("stream")))


USAGE = {"stream_options": {"include_usage": True}}
ROUTED = {"model": "", "extra_body": {"model": None, "auto_routing": True, "tradition": "evangelical"}}

OPENAI = {
    "images": images("generate", n=2, size="1024x1024"),
    "images in a stream": images("generate", stream=True, partial_images=2, quality="low"),
    "images billed as such": images("generate", "delay=0", model="dall-e-3", n=2, quality="hd", size="1024x1024"),
    "an image edited": images("edit", image=("cat.png", b"\x89PNG\r\n", "image/png"), quality="low"),
    "images edited in a stream": images(
        "edit", image=[("a.png", b"\x89PNG" * 500_000), ("b.png", b"\x89PNG")], mask=("m.png", b"\x89PNG"), stream=True, n=2
    ),
    "transcription": heard("transcriptions", model="whisper-1"),
    "verbose transcription": heard("transcriptions", model="whisper-1", response_format="verbose_json"),
    "transcription by tokens": heard("transcriptions", prompt="[[sim tokens=9]] Names", timestamp_granularities=["word"]),
    "transcription stream": heard("transcriptions", prompt="[[sim tokens=9 split=1]] Names", stream=True),
    "translation": heard("translations", model="whisper-1"),
    "chat": chat("tokens=20"),
    "chat with cached and reasoning tokens": chat("tokens=20 reasoning=5 cached=4 cache_write=3"),
    "chat with several choices": chat("tokens=9 reasoning=2", n=3),
    "chat cut at its maximum": chat("tokens=50", max_completion_tokens=8),
    "chat with tools": chat("tokens=20 tool=1", tools=[OPENAI_TOOL]),
    "chat stream": chat("tokens=20 reasoning=5 cached=4", stream=True),
    "chat stream that asks for usage": chat("tokens=20 reasoning=5 cached=4 cache_write=3", stream=True, **USAGE),
    "chat stream that asks for no usage": chat("tokens=20", stream=True, stream_options={"include_usage": False}),
    "chat stream of several choices": chat("tokens=7", stream=True, n=2),
    "chat stream of a tool call": chat("tokens=20 tool=1", stream=True, tools=[OPENAI_TOOL]),
    "chat stream cut into bytes": chat("tokens=4 split=1", stream=True),
    "chat stream with CRLF": chat("tokens=4 crlf=1", stream=True),
    "chat stream with comments": chat("tokens=4 comments=1", stream=True, **USAGE),
    "chat stream with a byte order mark": chat("tokens=4 bom=1", stream=True),
    "chat stream without a done mark": chat("tokens=4 done=0", stream=True),
    "chat stream with usage in a chunk with choices": chat("tokens=4 usage=in_choice_chunk", stream=True),
    "chat stream with usage in every chunk": chat("tokens=4 usage=every_event", stream=True, **USAGE),
    "chat stream with usage twice": chat("tokens=4 usage=duplicate", stream=True),
    "chat stream with a chunk without choices": chat("tokens=4 empty_choices=1", stream=True),
    "completion": completion("tokens=9"),
    "completion of several prompts": completion("tokens=9", prompt=["Once", "[[sim tokens=9]] Twice"]),
    "completion stream": completion("tokens=9", stream=True),
    "completion stream that asks for usage": completion("tokens=9", stream=True, **USAGE),
    "response": response("tokens=12 reasoning=4 cached=3", instructions="Be brief."),
    "response with tools": response("tokens=20 tool=1", tools=[RESPONSES_TOOL]),
    "response stream": response("tokens=12 reasoning=4 cached=3", stream=True),
    "response stream of a tool call": response("tokens=20 tool=1", stream=True, tools=[RESPONSES_TOOL]),
    "compaction": Call(
        sdk="openai", method="responses.compact", arguments={"model": "gpt-4o-mini", "input": "[[sim tokens=12 reasoning=4]] Hello"}
    ),
    "response through the SDK's beta": Call(
        sdk="openai", method="beta.responses.create", arguments={"model": "gpt-4o-mini", "input": "[[sim tokens=5]] Hello"}
    ),
    "embedding": embedding("Hello world"),
    "embeddings": embedding(["Hello world", "and", "all who live in it"]),
    "embedding of token ids": embedding([9906, 1917]),
}
ANTHROPIC = {
    "message": message("tokens=20"),
    "message with cached and reasoning tokens": message("tokens=20 reasoning=5 cached=4 cache_write=3", system="Be brief."),
    "message with tools": message("tokens=20 tool=1", tools=[ANTHROPIC_TOOL]),
    "message cut at its maximum": message("tokens=50", max_tokens=8),
    "message stream": message("tokens=20 reasoning=5 cached=4 cache_write=3", stream=True),
    "message stream of a tool call": message("tokens=20 tool=1 reasoning=3 show_reasoning=1", stream=True, tools=[ANTHROPIC_TOOL]),
    "message stream cut into bytes": message("tokens=4 split=1", stream=True),
    "message stream with usage twice": message("tokens=8 usage=duplicate", stream=True),
    "count of tokens": Call(
        sdk="anthropic", method="messages.count_tokens", arguments={"model": "claude-haiku-4-5", "messages": user("tokens=1")}
    ),
}
GEMINI = {
    "content": gemini("tokens=20"),
    "content with cached and thought tokens": gemini("tokens=20 reasoning=5 cached=4", system_instruction="Be brief."),
    "content of several candidates": gemini("tokens=9", candidate_count=2),
    "content with tools": gemini("tokens=20 tool=1", tools=[GEMINI_TOOL]),
    "content stream": gemini("tokens=20 reasoning=5 cached=4", "models.generate_content_stream"),
    "content stream of a tool call": gemini("tokens=20 tool=1", "models.generate_content_stream", tools=[GEMINI_TOOL]),
    "content stream cut into bytes": gemini("tokens=4 split=1", "models.generate_content_stream"),
    "content stream with shrinking usage": gemini("tokens=8 usage=shrinking", "models.generate_content_stream"),
    "an image in a stream": gemini("tokens=12 image=9", "models.generate_content_stream", response_modalities=["TEXT", "IMAGE"]),
    "an image": gemini("tokens=12 image=9", response_modalities=["TEXT", "IMAGE"]),
    "count of tokens": Call(
        sdk="gemini", method="models.count_tokens", arguments={"model": "gemini-2.5-flash", "contents": "[[sim tokens=1]] Hello"}
    ),
}
GLOO = {
    "chat": gloo("tokens=20 reasoning=5 cached=4"),
    "chat routed by Gloo": gloo("tokens=20", **ROUTED),
    "chat of a family": gloo("tokens=20", model="", extra_body={"model": None, "model_family": "Anthropic"}),
    "chat stream": gloo("tokens=20", stream=True),
    "chat stream routed by Gloo": gloo("tokens=20 reasoning=5", stream=True, **ROUTED),
    "chat stream that asks for usage": gloo("tokens=20", stream=True, **USAGE),
    "response": Call(
        sdk="gloo",
        method="responses.create",
        arguments={"model": "gloo-openai-gpt-5.2", "max_output_tokens": 60, "input": "[[sim tokens=9 reasoning=2]] Hello"},
    ),
}


async def same_on_both_sides(world: World, call: Call, flavor: str) -> None:
    """One call on each side, to the same effect and by the same bytes; and what it used is in the gateway's books."""
    direct = await world.direct.ask(call, flavor)
    through = await world.through.ask(call, flavor)

    assert through == direct
    if flavor != "aiohttp":  # which is not recorded
        assert bytes(world.through.answers[-1].body) == bytes(world.direct.answers[-1].body) != b""
    (event,) = await world.counted()
    assert event["outcome"] == "success"
    assert event["stream"] is call.streams
    assert event["usage_source"] == "upstream"


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("call", OPENAI.values(), ids=OPENAI)
async def test_the_openai_sdk_sees_no_gateway(world: World, call: Call, flavor: str) -> None:
    await same_on_both_sides(world, call, flavor)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("call", ANTHROPIC.values(), ids=ANTHROPIC)
async def test_the_anthropic_sdk_sees_no_gateway(world: World, call: Call, flavor: str) -> None:
    await same_on_both_sides(world, call, flavor)


@pytest.mark.parametrize("flavor", [*FLAVORS, "aiohttp"])
@pytest.mark.parametrize("call", GEMINI.values(), ids=GEMINI)
async def test_the_gemini_sdk_sees_no_gateway(world: World, call: Call, flavor: str) -> None:
    await same_on_both_sides(world, call, flavor)


SOUND = {
    "speech by characters": (spoken(model="tts-1"), 36 * 15_000),
    "speech by tokens, measured": (spoken(), 11 * 600 + 41 * 12_000),
    "speech in events": (spoken(stream_format="sse"), 11 * 600 + 41 * 12_000),
    "a transcription as a text": (heard("transcriptions", model="whisper-1", response_format="text"), 7 * 100_000),
    "a moderation": (Call(sdk="openai", method="moderations.create", arguments={"input": "Hello"}), 0),
}


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(("call", "cost"), SOUND.values(), ids=SOUND)
async def test_what_no_usage_is_stated_of_is_charged_all_the_same(world: World, call: Call, cost: int, flavor: str) -> None:
    assert await world.through.ask(call, flavor) == await world.direct.ask(call, flavor)
    assert world.through.answers[-1].body == world.direct.answers[-1].body
    (event,) = await world.counted()
    assert event["cost_nano_usd"] == cost


@pytest.mark.parametrize("flavor", FLAVORS)
async def test_embeddings_of_gemini_are_counted_by_the_gateway(world: World, flavor: str) -> None:
    arguments = {"model": "gemini-embedding-001", "contents": ["Hello world", "and all who live in it"]}
    call = Call(sdk="gemini", method="models.embed_content", arguments=arguments)

    assert await world.through.ask(call, flavor) == await world.direct.ask(call, flavor)
    assert world.through.answers[-1].body == world.direct.answers[-1].body
    await world.harness.at_rest()
    (event,), (served,) = world.harness.events(), world.harness.ledger.records
    assert event["usage_source"] == "estimated"
    assert event["prompt_tokens"] == -(-counts_of_served(served)[0] * 1030 // 1000)  # the simulator counts as OpenAI does


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("call", GLOO.values(), ids=GLOO)
async def test_the_openai_sdk_at_gloo_sees_no_gateway(world: World, call: Call, flavor: str) -> None:
    await same_on_both_sides(world, call, flavor)
