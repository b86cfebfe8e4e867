"""pydantic-ai over its three providers: an agent's answer, a stream, and a tool that it calls."""

import asyncio
import json
import os

from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
MODELS = {
    "chat": OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)),
    "responses": OpenAIResponsesModel("gpt-4o-mini", provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)),
    "anthropic": AnthropicModel("claude-haiku-4-5", provider=AnthropicProvider(base_url=URL, api_key=KEY)),
    "gemini": GoogleModel("gemini-2.5-flash", provider=GoogleProvider(base_url=URL, api_key=KEY)),
}


called: list[str] = []


def search(query: str) -> str:
    """Search the web."""
    called.append(query)
    return "nothing found"


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


async def main() -> None:
    for name, model in MODELS.items():
        agent = Agent(model)
        agent.tool_plain(search)
        say(f"{name} plain", (await agent.run("[[sim tokens=12]] Hello")).output)
        async with agent.run_stream("[[sim tokens=12]] Hello") as stream:
            say(f"{name} stream", await stream.get_output())
        called.clear()
        say(f"{name} answer after the tool", (await agent.run("[[sim tokens=12 tool=1]] Hello")).output)
        say(f"{name} tool", called)


asyncio.run(main())
