"""What Gloo AI's callers ask for: the same SDK at Gloo's paths, routed and grounded chats, and what has no tokens."""

from random import Random
from typing import TYPE_CHECKING, Any, Final

from tallygate.demo.traffic import QUESTIONS, Kinds, prompt

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_ROUTES: Final[tuple[dict[str, Any], ...]] = (
    {"auto_routing": True},
    {"auto_routing": True, "tradition": "mainline"},
    {"model_family": "anthropic"},
    {"model": "gloo-google-gemini-2.5-flash"},
)


def _asked(random: Random, **more: Any) -> dict[str, Any]:
    """A chat, by one of the three ways to choose its model: the SDK's own `model` would be a second."""
    return {"messages": [{"role": "user", "content": prompt(random)}], "max_tokens": 80, **random.choice(_ROUTES), **more}


async def _chat(client: "AsyncOpenAI", random: Random) -> None:
    await client.post("/guarded/chat/completions", body=_asked(random), cast_to=object)


async def _streamed_chat(client: "AsyncOpenAI", random: Random) -> None:
    model = random.choice(("gloo-openai-gpt-5.2", "gloo-deepseek-v3.2"))
    said: Any = [{"role": "user", "content": prompt(random)}]
    async for _ in await client.chat.completions.create(model=model, max_tokens=80, messages=said, stream=True):
        pass


async def _grounded_chat(client: "AsyncOpenAI", random: Random) -> None:
    body = _asked(random, rag_publisher="Bezalel", sources_limit=random.randint(1, 5))
    await client.post("/chat/completions/grounded", body=body, cast_to=object)


async def _response(client: "AsyncOpenAI", random: Random) -> None:
    await client.responses.create(model="gloo-anthropic-claude-sonnet-4.5", max_output_tokens=80, input=prompt(random))


async def _embedding(client: "AsyncOpenAI", random: Random) -> None:
    body = {"model": "gloo-baai-bge-base-en-v1.5", "input": random.choice(QUESTIONS)}
    await client.post("/direct/embeddings", body=body, cast_to=object)


async def _search(client: "AsyncOpenAI", random: Random) -> None:
    body = {"query": random.choice(QUESTIONS), "collection": "GlooProd", "tenant": "Bezalel", "limit": 5}
    await client.post(f"{client.base_url.join('/ai/data/v1/search')}", body=body, cast_to=object)


GLOO_KINDS: Final[Kinds] = (_chat, _chat, _streamed_chat, _streamed_chat, _grounded_chat, _response, _embedding, _search)
