"""instructor: a typed answer by a tool call, over two providers."""

import json
import os

import anthropic
import instructor
import openai
from pydantic import BaseModel

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]


class search(BaseModel):  # noqa: N801 - the tool's name
    """A search of the web."""

    query: str


CLIENTS = {
    "chat": (instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)), "gpt-4o-mini"),
    "anthropic": (instructor.from_anthropic(anthropic.Anthropic(base_url=URL, api_key=KEY)), "claude-haiku-4-5"),
}
for name, (client, model) in CLIENTS.items():
    found = client.chat.completions.create(
        model=model,
        max_tokens=100,
        response_model=search,
        messages=[{"role": "user", "content": "[[sim tokens=12 tool=1]] Hello"}],
    )
    print(json.dumps([f"{name} tool", [found.query]]))
