"""LlamaIndex's models of three providers, and embeddings."""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.google_genai import GoogleGenAI
from llama_index.llms.openai import OpenAI, OpenAIResponses

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
MODELS = {
    "chat": OpenAI(model="gpt-4o-mini", api_base=f"{URL}/v1", api_key=KEY),
    "responses": OpenAIResponses(model="gpt-4o-mini", api_base=f"{URL}/v1", api_key=KEY),
    "anthropic": Anthropic(model="claude-haiku-4-5", base_url=URL, api_key=KEY),
    "gemini": GoogleGenAI(
        model="gemini-2.5-flash", api_key=KEY, http_options={"base_url": URL}, max_tokens=100, context_window=100_000
    ),
}
ASK = [ChatMessage(role="user", content="[[sim tokens=12]] Hello")]


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


for name, model in MODELS.items():
    say(f"{name} plain", model.chat(ASK).message.content)
    say(f"{name} stream", "".join(chunk.delta or "" for chunk in model.stream_chat(ASK)))
embedding = OpenAIEmbedding(model="text-embedding-3-small", api_base=f"{URL}/v1", api_key=KEY)
say("embeddings", len(embedding.get_text_embedding_batch(["one", "two"])))
