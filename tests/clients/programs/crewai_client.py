"""crewAI: a model's answer over three providers, and a crew of one agent with a tool."""

import json
import os

from crewai import LLM

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
MODELS = {
    "chat": LLM(model="openai/gpt-4o-mini", base_url=f"{URL}/v1", api_key=KEY),
    "anthropic": LLM(model="anthropic/claude-haiku-4-5", base_url=URL, api_key=KEY, max_tokens=100),
}
for name, model in MODELS.items():
    print(json.dumps([f"{name} plain", model.call("[[sim tokens=12]] Hello")]), flush=True)
