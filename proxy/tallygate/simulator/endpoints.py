"""Every endpoint of the simulator: its path, its request parser, and its wire API."""

from typing import Final

from tallygate.simulator import requests as read
from tallygate.simulator.answer import Wire
from tallygate.simulator.endpoint import Endpoint
from tallygate.simulator.requests import Reader
from tallygate.simulator.wires import gloo, plain_json
from tallygate.simulator.wires.anthropic_complete import AnthropicComplete
from tallygate.simulator.wires.anthropic_messages import AnthropicCount, AnthropicMessages
from tallygate.simulator.wires.gemini import Gemini, GeminiCount, GeminiEmbedding, GeminiEmbeddings
from tallygate.simulator.wires.gloo import GlooChat, GlooJson, GlooResponses
from tallygate.simulator.wires.openai_audio import OpenAISpeech, OpenAITranscription
from tallygate.simulator.wires.openai_chat import OpenAIChat
from tallygate.simulator.wires.openai_completions import OpenAICompletions
from tallygate.simulator.wires.openai_images import OpenAIImages
from tallygate.simulator.wires.openai_realtime import OpenAIRealtime
from tallygate.simulator.wires.openai_responses import OpenAIResponses
from tallygate.simulator.wires.plain_json import PlainJson

PROFILES: Final = ("gloo",)  # APIs that can be served alone: with their paths, keys and errors only
_CHAT: Final = tuple(f"/ai/{version}/chat/completions" for version in ("v2", "v1", "v2/guarded", "v2/direct"))
_RESPONSES: Final = tuple(f"/ai/{version}/responses" for version in ("v1", "v2", "v2/guarded", "v2/direct", "v1/grounded"))
_INGESTION: Final = ("/ingestion/v2/files", "/ingestion/v1/real_time_upload", "/ai/ingestion/v1/real_time_upload")
_RECOMMENDATIONS: Final = tuple(
    f"/ai/{base}/{path}"
    for base in ("v1/data", "data/v1")
    for path in ("items/recommendations/base", "items/recommendations/verbose", "affiliates/referenced-items")
)


def endpoints(profile: str = "") -> tuple[Endpoint, ...]:
    """The table of all endpoints, or of one profile. Wires are stateless, so one object serves all requests."""
    if profile:
        return gloo_endpoints()
    gemini = Gemini()
    model = "/{version:v1|v1beta}/models/{model:[^:]+}"
    return (
        _post("/v1/chat/completions", "openai_chat", read.read_chat, OpenAIChat()),
        _post("/v1/responses", "openai_responses", read.read_responses, OpenAIResponses()),
        _socket("/v1/responses", "openai_responses_socket", read.read_responses_message, OpenAIResponses()),
        _socket("/openai/v1/responses", "openai_responses_socket", read.read_responses_message, OpenAIResponses()),
        _socket("/v1/realtime", "openai_realtime", read.read_realtime, OpenAIRealtime()),
        _post("/v1/responses/compact", "openai_compact", read.read_responses, PlainJson(plain_json.openai_compaction)),
        _post("/v1/completions", "openai_completions", read.read_completion, OpenAICompletions()),
        _post("/v1/embeddings", "openai_embeddings", read.read_embeddings, PlainJson(plain_json.embeddings)),
        _post("/v1/images/generations", "openai_images", read.read_images, OpenAIImages()),
        _post("/v1/images/edits", "openai_images", read.read_images, OpenAIImages("image_edit")),
        _post("/v1/images/variations", "openai_images", read.read_images, OpenAIImages()),
        _post("/v1/moderations", "openai_moderation", read.read_moderation, PlainJson(plain_json.moderation)),
        _post("/{version:v1|v2}/rerank", "rerank", read.read_rerank, PlainJson(plain_json.reranking)),
        *_audio("/v1/audio"),
        *(
            endpoint
            for base in ("/openai/deployments/{deployment}", "/openai/v1", "/openai")  # Azure's
            for endpoint in (
                _post(f"{base}/chat/completions", "openai_chat", read.read_chat, OpenAIChat()),
                _post(f"{base}/responses", "openai_responses", read.read_responses, OpenAIResponses()),
                _post(f"{base}/completions", "openai_completions", read.read_completion, OpenAICompletions()),
                _post(f"{base}/embeddings", "openai_embeddings", read.read_embeddings, PlainJson(plain_json.embeddings)),
                _post(f"{base}/images/generations", "openai_images", read.read_images, OpenAIImages()),
                _post(f"{base}/images/edits", "openai_images", read.read_images, OpenAIImages("image_edit")),
                *_audio(f"{base}/audio"),
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
        *_videos(gemini),
        *gloo_endpoints(),
    )


def _videos(gemini: Gemini) -> tuple[Endpoint, ...]:
    model = "models/{model:[^/:]+}:predictLongRunning"
    return (
        _post(f"/v1beta/{model}", "videos", read.read_veo, gemini, api="gemini"),
        *(_post(f"/{at}/publishers/google/{model}", "videos", read.read_veo, gemini, api="vertex") for at in ("v1", "v1beta1")),
        _post("/v1/videos/generations", "videos", read.read_imagine, OpenAIChat()),
    )


def _audio(base: str) -> tuple[Endpoint, ...]:
    heard = OpenAITranscription()
    return (
        _post(f"{base}/speech", "openai_speech", read.read_speech, OpenAISpeech()),
        _post(f"{base}/transcriptions", "openai_transcription", read.read_transcription, heard),
        _post(f"{base}/translations", "openai_transcription", read.read_transcription, heard),
    )


def gloo_endpoints() -> tuple[Endpoint, ...]:
    """Gloo AI's endpoints. The catalogue and tokens need no key: docs.gloo.com, API reference, "Overview"."""
    chat, responses, recommended, ingested = GlooChat(), GlooResponses(), GlooJson(gloo.recommendations), GlooJson(gloo.ingestion)
    catalogue, searched = GlooJson(gloo.models), GlooJson(gloo.search)
    return (
        *(_post(path, "gloo_chat", read.read_gloo_chat, chat) for path in _CHAT),
        *(
            _post(path, "gloo_chat", read.read_gloo_chat, chat, grounded="yes")
            for path in ("/ai/v2/chat/completions/grounded", "/ai/v2/grounded/chat/completions")
        ),
        *(_post(path, "gloo_responses", read.read_responses, responses) for path in _RESPONSES),
        _post("/ai/v2/direct/embeddings", "gloo_embeddings", read.read_embeddings, GlooJson(plain_json.embeddings)),
        *(_plain("POST", path, "gloo_message", GlooJson(gloo.message)) for path in ("/ai/v1/message", "/ai/v1/message/kallm")),
        _plain("GET", "/ai/v1/chat", "gloo_chat_history", GlooJson(gloo.chat_history)),
        *(_plain("POST", path, "gloo_search", searched) for path in ("/ai/data/v1/search", "/ai/v1/kallm/search")),
        *(_plain("POST", path, "gloo_recommendations", recommended) for path in _RECOMMENDATIONS),
        *(_plain("POST", path, "gloo_ingestion", ingested) for path in _INGESTION),
        _plain("GET", "/engine/v2/items/{item_id}", "gloo_content", GlooJson(gloo.item)),
        *(
            _plain(method, path, "gloo_content", GlooJson(gloo.changed))
            for path in ("/engine/v2/item", "/engine/v2/items")
            for method in ("POST", "PATCH", "DELETE")
        ),
        _plain("GET", "/engine/v2/publisher/{publisher_id}/items", "gloo_content", GlooJson(gloo.listed)),
        _plain("GET", "/engine/v1/files/{file_id}/snippets", "gloo_content", GlooJson(gloo.listed)),
        _plain("GET", "/platform/v2/models", "gloo_models", catalogue, is_public=True),
        _plain("GET", "/ai/v2/models", "gloo_models", catalogue),
        _plain("POST", "/oauth2/token", "oauth2_token", GlooJson(gloo.access_token), is_public=True),
    )


def _post(path: str, name: str, reader: Reader, wire: Wire, **parameters: str) -> Endpoint:
    return Endpoint(method="POST", path=path, name=name, read=reader, wire=wire, parameters=parameters)


def _socket(path: str, name: str, reader: Reader, wire: Wire) -> Endpoint:
    return Endpoint(method="GET", path=path, name=name, read=reader, wire=wire, parameters={}, is_socket=True)


def _get(path: str, name: str, wire: Wire, reader: Reader = read.read_unmetered) -> Endpoint:
    return Endpoint(method="GET", path=path, name=name, read=reader, wire=wire, parameters={})


def _plain(method: str, path: str, name: str, wire: Wire, *, is_public: bool = False) -> Endpoint:
    return Endpoint(method=method, path=path, name=name, read=read.read_unmetered, wire=wire, parameters={}, is_public=is_public)
