"""AutoGen's agent with a tool, over chat and Anthropic."""

import asyncio
import json
import os

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.anthropic import AnthropicChatCompletionClient
from autogen_ext.models.openai import OpenAIChatCompletionClient

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
MODELS = {
    "chat": OpenAIChatCompletionClient(model="gpt-4o-mini", base_url=f"{URL}/v1", api_key=KEY),
    "anthropic": AnthropicChatCompletionClient(
        model="claude-haiku-4-5",
        base_url=URL,
        api_key=KEY,
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": False,
            "family": "claude",
            "structured_output": False,
        },
    ),
}
called: list[str] = []


def search(query: str) -> str:
    """Search the web."""
    called.append(query)
    return "nothing found"


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


async def main() -> None:
    ask = [UserMessage(content="[[sim tokens=12]] Hello", source="user")]
    for name, model in MODELS.items():
        say(f"{name} plain", (await model.create(ask)).content)
        say(f"{name} stream", "".join([piece async for piece in model.create_stream(ask) if isinstance(piece, str)]))
        called.clear()
        agent = AssistantAgent("assistant", model, tools=[search], reflect_on_tool_use=True)
        answer = await agent.run(task="[[sim tokens=12 tool=1]] Hello")
        say(f"{name} answer after the tool", answer.messages[-1].content)
        say(f"{name} tool", called)


asyncio.run(main())
