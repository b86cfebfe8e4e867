"""Haystack's chat generators of three providers, and an embedder."""

import json
import os

from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret

URL, KEY = os.environ["GATEWAY_URL"], Secret.from_env_var("GATEWAY_KEY")
pieces: list[str] = []


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


model = OpenAIChatGenerator(model="gpt-4o-mini", api_base_url=f"{URL}/v1", api_key=KEY)
ask = [ChatMessage.from_user("[[sim tokens=12]] Hello")]
say("chat plain", model.run(ask)["replies"][0].text)
model.run(ask, streaming_callback=lambda piece: pieces.append(piece.content))
say("chat stream", "".join(pieces))
embedder = OpenAITextEmbedder(model="text-embedding-3-small", api_base_url=f"{URL}/v1", api_key=KEY)
say("embeddings", bool(embedder.run("one")["embedding"]))
