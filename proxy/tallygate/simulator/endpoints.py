"""Every endpoint of the simulator: path, how the request is read, and the wire API it speaks."""

from collections.abc import Callable, Mapping
from typing import Final

from tallygate.simulator import requests as read
from tallygate.simulator.answer import Wire
from tallygate.simulator.gloo_endpoints import gloo_endpoints
from tallygate.simulator.requests import Reader
from tallygate.simulator.service import Endpoint
from tallygate.simulator.wires import plain_json
from tallygate.simulator.wires.anthropic_complete import AnthropicComplete
from tallygate.simulator.wires.anthropic_messages import AnthropicCount, AnthropicMessages
from tallygate.simulator.wires.gemini import Gemini, GeminiCount, GeminiEmbedding, GeminiEmbeddings
from tallygate.simulator.wires.openai_chat import OpenAIChat
from tallygate.simulator.wires.openai_completions import OpenAICompletions
from tallygate.simulator.wires.openai_responses import OpenAIResponses
from tallygate.simulator.wires.plain_json import PlainJson


def _post(path: str, name: str, reader: Reader, wire: Wire, **parameters: str) -> Endpoint:
    return Endpoint(method="POST", path=path, name=name, read=reader, wire=wire, parameters=parameters)


def _get(path: str, name: str, wire: Wire, reader: Reader = read.read_unmetered) -> Endpoint:
    return Endpoint(method="GET", path=path, name=name, read=reader, wire=wire, parameters={})


_PROFILES: Final[Mapping[str, Callable[[], tuple[Endpoint, ...]]]] = {"gloo": gloo_endpoints}
PROFILES: Final = tuple(_PROFILES)  # of one API each: its paths alone, with its keys and errors


def endpoints(profile: str = "") -> tuple[Endpoint, ...]:
    """The table, or that of one API alone. Wires are stateless, so one object serves all requests."""
    if profile:
        return _PROFILES[profile]()
    gemini = Gemini()
    model = "/{version:v1|v1beta}/models/{model:[^:]+}"
    return (
        _post("/v1/chat/completions", "openai_chat", read.read_chat, OpenAIChat()),
        _post("/v1/responses", "openai_responses", read.read_responses, OpenAIResponses()),
        _post("/v1/responses/compact", "openai_compact", read.read_responses, PlainJson(plain_json.openai_compaction)),
        _post("/v1/completions", "openai_completions", read.read_completion, OpenAICompletions()),
        _post("/v1/embeddings", "openai_embeddings", read.read_embeddings, PlainJson(plain_json.embeddings)),
        *(
            endpoint
            for base in ("/openai/deployments/{deployment}", "/openai/v1", "/openai")  # Azure's
            for endpoint in (
                _post(f"{base}/chat/completions", "openai_chat", read.read_chat, OpenAIChat()),
                _post(f"{base}/responses", "openai_responses", read.read_responses, OpenAIResponses()),
                _post(f"{base}/completions", "openai_completions", read.read_completion, OpenAICompletions()),
                _post(f"{base}/embeddings", "openai_embeddings", read.read_embeddings, PlainJson(plain_json.embeddings)),
            )
        ),
        _get("/v1/models", "openai_models", PlainJson(plain_json.models)),
        _get("/v1/models/{model:.+}", "openai_model", PlainJson(plain_json.model), read.read_named),
        _post("/v1/messages", "anthropic_messages", read.read_anthropic, AnthropicMessages()),
        _post("/v1/messages/count_tokens", "anthropic_count", read.read_count(read.read_anthropic), AnthropicCount()),
        _post("/v1/complete", "anthropic_complete", read.read_anthropic_complete, AnthropicComplete()),
        _post(f"{model}:generateContent", "gemini", read.read_gemini, gemini, method="generateContent"),
        _post(f"{model}:streamGenerateContent", "gemini", read.read_gemini, gemini, method="streamGenerateContent"),
        _post(f"{model}:embedContent", "gemini_embedding", read.read_embed_content, GeminiEmbedding()),
        _post(f"{model}:batchEmbedContents", "gemini_embedding", read.read_batch_embed_contents, GeminiEmbeddings()),
        _post(f"{model}:countTokens", "gemini_count", read.read_count(read.read_gemini), GeminiCount()),
        *gloo_endpoints(),
    )
