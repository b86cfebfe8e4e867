"""What dialects and upstreams are called in OpenTelemetry's conventions for generative AI.

"Semantic conventions for generative client AI spans" v1.41.0: `gen_ai.operation.name`, for which other values may be used where
none of the listed ones applies, and `gen_ai.provider.name`, which is what the instrumentation knows best.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

# By the dialect's name without its API. What is not here has the name of its route's capability (images, audio, rerank ...).
_OPERATIONS: Final[Mapping[str, str]] = {
    "chat": "chat",
    "chat_v1": "chat",
    "grounded_chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "responses_socket": "chat",
    "grounded_responses": "chat",
    "compact": "chat",
    "generate": "generate_content",
    "stream_generate": "generate_content",
    "completions": "text_completion",
    "complete": "text_completion",
    "fim": "text_completion",
    "embeddings": "embeddings",
    "embed": "embeddings",
    "count_tokens": "count_tokens",
}
# By the end of the upstream's host name. "gcp.gemini" and "gcp.vertex_ai" are defined by these very hosts.
_PROVIDERS: Final[Mapping[str, str]] = {
    "openai.azure.com": "azure.ai.openai",
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "services.ai.azure.com": "azure.ai.inference",
    "x.ai": "x_ai",
    "mistral.ai": "mistral_ai",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "perplexity.ai": "perplexity",
    "cohere.com": "cohere",
    "cohere.ai": "cohere",
    "moonshot.ai": "moonshot_ai",
    "gloo.com": "gloo",
}
# By the dialect's API, where the host names no provider: a proxy, a server of one's own.
_APIS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "gloo": "gloo",
    "xai": "x_ai",
    "mistral": "mistral_ai",
}
_OTHER: Final = "_OTHER"
_REMEMBERED_MAX: Final = 256  # upstreams, each with the dialects that are spoken to it
# Of work that an upstream went on with, of which only the capability is known.
OF_CAPABILITY: Final[Mapping[str, str]] = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}


def operation_of(dialect: str | None, capability: str) -> str:
    """The name of what is asked for at a route of this dialect and capability; "" where nothing is read."""
    if dialect is None:
        return ""
    return _OPERATIONS.get(dialect.partition("_")[2]) or capability


@lru_cache(_REMEMBERED_MAX)
def provider_of(host: str, dialect: str | None) -> str:
    """The provider behind an upstream's host."""
    labels = host.lower().replace("-aiplatform.", ".aiplatform.").split(".")  # Vertex AI's have their region in front
    for first in range(len(labels)):
        if found := _PROVIDERS.get(".".join(labels[first:])):
            return found
    return _APIS.get((dialect or "").partition("_")[0], _OTHER)
