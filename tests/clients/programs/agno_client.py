"""agno's agents over four wire APIs."""

import json
import os

from agno.agent import Agent
from agno.models.anthropic import Claude
from agno.models.google import Gemini
from agno.models.openai import OpenAIChat, OpenAIResponses

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
MODELS = {
    "chat": OpenAIChat(id="gpt-4o-mini", base_url=f"{URL}/v1", api_key=KEY),
    "responses": OpenAIResponses(id="gpt-4o-mini", base_url=f"{URL}/v1", api_key=KEY),
    "anthropic": Claude(id="claude-haiku-4-5", api_key=KEY, client_params={"base_url": URL}),
    "gemini": Gemini(id="gemini-2.5-flash", api_key=KEY, client_params={"http_options": {"base_url": URL}}),
}
called: list[str] = []


def search(query: str) -> str:
    """Search the web."""
    called.append(query)
    return "nothing found"


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


for name, model in MODELS.items():
    agent = Agent(model=model, telemetry=False)
    say(f"{name} plain", agent.run("[[sim tokens=12]] Hello").content)
    say(f"{name} stream", "".join(str(event.content or "") for event in agent.run("[[sim tokens=12]] Hello", stream=True)))
    called.clear()
    answer = Agent(model=model, tools=[search], telemetry=False).run("[[sim tokens=12 tool=1]] Hello")
    say(f"{name} answer after the tool", answer.content)
    say(f"{name} tool", called)
