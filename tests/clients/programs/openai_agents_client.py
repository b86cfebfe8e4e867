"""openai-agents over Responses (its default) and chat: an answer, a stream, and a tool that it calls."""

import asyncio
import json

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI  # OPENAI_BASE_URL and OPENAI_API_KEY

set_tracing_disabled(True)  # traces go to api.openai.com, whatever the base URL is
called: list[str] = []


@function_tool
def search(query: str) -> str:
    """Search the web."""
    called.append(query)
    return "nothing found"


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


async def main() -> None:
    models = {"responses": "gpt-4o-mini", "chat": OpenAIChatCompletionsModel("gpt-4o-mini", AsyncOpenAI())}
    for name, model in models.items():
        agent = Agent(name="assistant", model=model, tools=[search])
        say(f"{name} plain", (await Runner.run(agent, "[[sim tokens=12]] Hello")).final_output)
        streamed = Runner.run_streamed(agent, "[[sim tokens=12]] Hello")
        async for _ in streamed.stream_events():
            pass
        say(f"{name} stream", streamed.final_output)
        called.clear()
        say(f"{name} answer after the tool", (await Runner.run(agent, "[[sim tokens=12 tool=1]] Hello")).final_output)
        say(f"{name} tool", called)


asyncio.run(main())
