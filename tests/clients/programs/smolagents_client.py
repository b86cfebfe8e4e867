"""smolagents' model over chat: an answer, a stream, and a tool call."""

import json
import os

from smolagents import ChatMessage, MessageRole, OpenAIServerModel, tool

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
model = OpenAIServerModel(model_id="gpt-4o-mini", api_base=f"{URL}/v1", api_key=KEY)


@tool
def search(query: str) -> str:
    """Search the web.

    Args:
        query: what to look for

    """
    return query


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


def ask(directive: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=[{"type": "text", "text": f"[[sim {directive}]] Hello"}])]


say("chat plain", model.generate(ask("tokens=12")).content)
say("chat stream", "".join(piece.content or "" for piece in model.generate_stream(ask("tokens=12"))))
(call,) = model.generate(ask("tokens=12 tool=1"), tools_to_call_from=[search]).tool_calls
say("chat tool", [json.loads(call.function.arguments)["query"]])
