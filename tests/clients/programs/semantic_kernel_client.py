"""Semantic Kernel's chat services: an answer and a stream, over chat and Anthropic."""

import asyncio
import json
import os

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from semantic_kernel.connectors.ai.anthropic import AnthropicChatCompletion, AnthropicChatPromptExecutionSettings
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import ChatHistory

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
SERVICES = {
    "chat": (
        OpenAIChatCompletion(ai_model_id="gpt-4o-mini", async_client=AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY)),
        OpenAIChatPromptExecutionSettings(),
    ),
    "anthropic": (
        AnthropicChatCompletion(
            ai_model_id="claude-haiku-4-5", api_key=KEY, async_client=AsyncAnthropic(base_url=URL, api_key=KEY)
        ),
        AnthropicChatPromptExecutionSettings(max_tokens=100),
    ),
}


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


async def main() -> None:
    history = ChatHistory()
    history.add_user_message("[[sim tokens=12]] Hello")
    for name, (service, settings) in SERVICES.items():
        say(f"{name} plain", str(await service.get_chat_message_content(history, settings)))
        pieces = service.get_streaming_chat_message_content(history, settings)
        say(f"{name} stream", "".join([str(piece) async for piece in pieces]))


asyncio.run(main())
