"""litellm as a client, over chat, Anthropic and Gemini."""

import json
import os

import litellm

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
PROVIDERS = {
    "chat": {"model": "openai/gpt-4o-mini", "api_base": f"{URL}/v1"},
    "anthropic": {"model": "anthropic/claude-haiku-4-5", "api_base": URL},
    "gemini": {"model": "gemini/gemini-2.5-flash", "api_base": f"{URL}/v1beta"},
}
MESSAGES = [{"role": "user", "content": "[[sim tokens=12]] Hello"}]


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


for name, provider in PROVIDERS.items():
    say(f"{name} plain", litellm.completion(**provider, api_key=KEY, messages=MESSAGES).choices[0].message.content)
    chunks = litellm.completion(**provider, api_key=KEY, messages=MESSAGES, stream=True)
    say(f"{name} stream", "".join(chunk.choices[0].delta.content or "" for chunk in chunks))
