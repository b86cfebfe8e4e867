"""Every endpoint of the simulator: path, how the request is read, and the wire API it speaks."""

from tallygate.simulator import requests as read
from tallygate.simulator.answer import Wire
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


def endpoints() -> tuple[Endpoint, ...]:
    """The table. Wires are stateless, so one object serves all requests."""
    gloo_chat, gloo_responses = OpenAIChat(done_mark=False), OpenAIResponses(flattened=True)
    gemini, recommendations = Gemini(), PlainJson(plain_json.gloo_recommendations)
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
        *(
            _post(path, "gloo_chat", read.read_gloo_chat, gloo_chat)
            for path in ("/ai/v2/chat/completions", "/ai/v1/chat/completions", "/ai/v2/guarded/chat/completions")
        ),
        _post("/ai/v2/chat/completions/grounded", "gloo_chat", read.read_gloo_chat, gloo_chat, grounded="yes"),
        *(
            _post(path, "gloo_responses", read.read_responses, gloo_responses)
            for path in ("/ai/v1/responses", "/ai/v2/responses", "/ai/v2/guarded/responses", "/ai/v1/grounded/responses")
        ),
        _post("/ai/v1/message", "gloo_message", read.read_unmetered, PlainJson(plain_json.gloo_message)),
        _post("/ai/data/v1/search", "gloo_search", read.read_unmetered, PlainJson(plain_json.gloo_search)),
        _post("/ai/v1/data/items/recommendations/base", "gloo_recommendations", read.read_unmetered, recommendations),
        _post("/ai/v1/data/items/recommendations/verbose", "gloo_recommendations", read.read_unmetered, recommendations),
        _post("/ingestion/v2/files", "gloo_ingestion", read.read_unmetered, PlainJson(plain_json.gloo_ingestion)),
        _get("/platform/v2/models", "gloo_models", PlainJson(plain_json.gloo_models)),
        _get("/ai/v2/models", "gloo_models", PlainJson(plain_json.gloo_models)),
        _post("/oauth2/token", "oauth2_token", read.read_unmetered, PlainJson(plain_json.access_token)),
    )
