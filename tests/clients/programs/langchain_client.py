"""LangChain's chat models of three providers, embeddings, and an agent with a tool."""

import json
import os

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
MODELS = {
    "chat": ChatOpenAI(model="gpt-4o-mini", base_url=f"{URL}/v1", api_key=KEY),
    "responses": ChatOpenAI(model="gpt-4o-mini", base_url=f"{URL}/v1", api_key=KEY, use_responses_api=True),
    "anthropic": ChatAnthropic(model="claude-haiku-4-5", base_url=URL, api_key=KEY),
    "gemini": ChatGoogleGenerativeAI(model="gemini-2.5-flash", base_url=URL, api_key=KEY),
}
called: list[str] = []


@tool
def search(query: str) -> str:
    """Search the web."""
    called.append(query)
    return "nothing found"


def say(call: str, text: object) -> None:
    print(json.dumps([call, text]))


for name, model in MODELS.items():
    say(f"{name} plain", model.invoke("[[sim tokens=12]] Hello").text)
    say(f"{name} stream", "".join(chunk.text for chunk in model.stream("[[sim tokens=12]] Hello")))
    called.clear()
    answer = create_agent(model, [search]).invoke({"messages": [{"role": "user", "content": "[[sim tokens=12 tool=1]] Hello"}]})
    say(f"{name} answer after the tool", answer["messages"][-1].text)
    say(f"{name} tool", called)
# Without the last word its tokenizer loads a vocabulary from the network before the first request.
embeddings = OpenAIEmbeddings(model="text-embedding-3-small", base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False)
say("embeddings", len(embeddings.embed_documents(["one", "two"])))
