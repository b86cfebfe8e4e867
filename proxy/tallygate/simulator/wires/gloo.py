"""Gloo AI: OpenAI's shapes with errors of its own, and answers without tokens.

Facts: docs.gloo.com, "Errors", "Rate Limits", "Completions Streaming Failures", "Manage Content", "Upload Files", and the
references of chat, search and recommendations; the catalogue as glooai/typescript-example reads it.
"""

from collections.abc import Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Figures
from tallygate.simulator.wires.openai_chat import OpenAIChat
from tallygate.simulator.wires.openai_responses import OpenAIResponses
from tallygate.simulator.wires.plain_json import PlainJson
from tallygate.simulator.wires.sse import compact, data_event

ACCESS_TOKEN: Final = "sim-access-"  # noqa: S105 - how the tokens of /oauth2/token begin
# id, name, family, input and output rate in USD per 1,000 and per million tokens, None for none; rates are strings
_GPT: Final = ("gloo-openai-gpt-5.2", "GPT-5.2", "OpenAI", ("0.001750", "1.75"), ("0.014000", "14.00"))
GLOO_MODELS: Final = (
    _GPT,
    ("gloo-anthropic-claude-sonnet-4.5", "Claude Sonnet 4.5", "Anthropic", ("0.003000", "3.00"), ("0.015000", "15.00")),
    ("gloo-google-gemini-2.5-flash", "Gemini 2.5 Flash", "Google", ("0.000300", "0.30"), ("0.002500", "2.50")),
    ("gloo-deepseek-v3.2", "DeepSeek V3.2", "Open Source", ("0.000280", "0.28"), ("0.000420", "0.42")),
    ("gloo-baai-bge-base-en-v1.5", "BGE Base", "Open Source", ("0.000020", "0.02"), None),
)
_SERVER_ERROR: Final = {"type": "service_unavailable_error", "code": 2002, "name": "PROVIDER_UNAVAILABLE", "fault": "provider"}


def gloo_error(status: int, message: str) -> bytes:
    """An error in the one of Gloo's three shapes that its status has."""
    match status:
        case 429:
            return compact({"error": "Rate limit exceeded", "code": "too_many_requests"})
        case 400:
            return compact({"error": {"name": "INVALID_REQUEST", "code": 1001, "retryable": False, "message": message}})
        case _ if status >= 500:
            return compact({"error": {**_SERVER_ERROR, "retryable": True, "message": message}})
        case _:
            return compact({"detail": message})


class GlooChat(OpenAIChat):
    """Chat streams end without `[DONE]`, and fail with a finish reason."""

    headers: Mapping[str, str] = {}

    def __init__(self) -> None:
        super().__init__(done_mark=False)

    def error(self, status: int, message: str) -> bytes:
        return gloo_error(status, message)

    def stream_error(self, answer: Answer, message: str) -> bytes:
        choice = {"index": 0, "delta": {}, "finish_reason": "error"}
        error = {**_SERVER_ERROR, "retryable": True, "message": message}
        return data_event({"object": "chat.completion.chunk", "model": answer.model, "choices": [choice], "error": error})


class GlooResponses(OpenAIResponses):
    """The last event of a stream is the response itself."""

    headers: Mapping[str, str] = {}

    def __init__(self) -> None:
        super().__init__(flattened=True)

    def error(self, status: int, message: str) -> bytes:
        return gloo_error(status, message)


class GlooJson(PlainJson):
    """Endpoints with one JSON body."""

    def error(self, status: int, message: str) -> bytes:
        return gloo_error(status, message)


def models(_answer: Answer) -> tuple[Any, Figures | None]:
    listed = [
        {
            "id": name,
            "name": title,
            "family": family,
            "provider_id": family.lower(),
            "context_window": 400_000,
            "max_output_tokens": 64_000,
            "input_modalities": ["text"],
            "output_modalities": ["text"] if paid_out else [],
            "supports_reasoning": True,
            "supports_tools": True,
            "is_deprecated": False,
            "pricing": {
                side: {"rate_per_1k_tokens": rates[0], "rate_per_1m_tokens": rates[1]}
                for side, rates in (("input", paid_in), ("output", paid_out))
                if rates is not None
            },
        }
        for name, title, family, paid_in, paid_out in GLOO_MODELS
    ]
    return {"object": "list", "data": listed}, None


def message(answer: Answer) -> tuple[Any, Figures | None]:
    ids = {name: f"{name}-{answer.id}" for name in ("query_id", "message_id")}
    chat = {"chat_id": answer.ask.extra.get("chat_id") or f"chat_id-{answer.id}"}
    rest = {"message": "All is well.", "timestamp": answer.created, "success": True, "suggestions": [], "sources": []}
    return chat | ids | rest, None


def chat_history(answer: Answer) -> tuple[Any, Figures | None]:
    return {"chat_id": answer.ask.extra.get("chat_id"), "messages": [], "title": "All is well"}, None


def search(answer: Answer) -> tuple[Any, Figures | None]:
    hit = {"uuid": answer.id, "metadata": {"certainty": 0.9}, "properties": {"snippet": "All is well."}}
    return {"data": [hit], "intent": 1}, None


def recommendations(answer: Answer) -> tuple[Any, Figures | None]:
    return [{"item_id": answer.id, "title": "All is well", "uuids": [{"certainty": 0.9}]}], None


def ingestion(answer: Answer) -> tuple[Any, Figures | None]:
    made = answer.ask.extra.get("update") or answer.id
    return {"success": True, "message": "File processing started.", "ingesting": [made], "duplicates": []}, None


def item(answer: Answer) -> tuple[Any, Figures | None]:
    return {"item_id": answer.ask.extra.get("item_id"), "status": "COMPLETED", "item_title": "All is well"}, None


def changed(_answer: Answer) -> tuple[Any, Figures | None]:
    return {"success": True, "message": "Done."}, None


def listed(_answer: Answer) -> tuple[Any, Figures | None]:
    """An empty list of a publisher's items, or of a file's snippets: none is stored."""
    return [], None


def access_token(answer: Answer) -> tuple[Any, Figures | None]:
    return {"access_token": f"{ACCESS_TOKEN}{answer.id}", "expires_in": 3600, "token_type": "Bearer"}, None
