"""Endpoints whose answer is one JSON body: embeddings, catalogues, and Gloo's search, messages, recommendations and ingestion."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.wires.openai_chat import error_object
from tallygate.simulator.wires.openai_responses import compaction_item, usage_object
from tallygate.simulator.wires.sse import compact

MODELS: Final = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-5", "gpt-5.2", "o3", "text-embedding-3-small", "text-embedding-3-large")
# id, name, family, input and output rate in USD per 1,000 and per million tokens; rates are strings, as Gloo sends them
GLOO_MODELS: Final = (
    ("gloo-openai-gpt-5.2", "GPT-5.2", "OpenAI", ("0.001750", "1.75"), ("0.014000", "14.00")),
    ("gloo-anthropic-claude-sonnet-4.5", "Claude Sonnet 4.5", "Anthropic", ("0.003000", "3.00"), ("0.015000", "15.00")),
    ("gloo-google-gemini-2.5-flash", "Gemini 2.5 Flash", "Google", ("0.000300", "0.30"), ("0.002500", "2.50")),
    ("gloo-deepseek-v3.2", "DeepSeek V3.2", "Open Source", ("0.000280", "0.28"), ("0.000420", "0.42")),
)


class PlainJson:
    """make: the body of an answer, any JSON value, and the usage that it reports."""

    headers: Final[Mapping[str, str]] = {}

    def __init__(self, make: Callable[[Answer], tuple[Any, Figures | None]]) -> None:
        self._make = make

    def stream_type(self, answer: Answer) -> str:
        del answer
        return "application/json"

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        value, figures = self._make(answer)
        return compact(value), figures

    def events(self, answer: Answer) -> Iterator[Event]:
        """These endpoints do not stream: one event, the whole body."""
        data, figures = self.body(answer)
        yield Event(data, figures=figures)

    def error(self, status: int, message: str) -> bytes:
        return compact(error_object(status, message))

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        return compact(error_object(500, message))


def embeddings(answer: Answer) -> tuple[Any, Figures | None]:
    vectors = [{"object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.125]} for index in range(answer.ask.choices)]
    value: dict[str, Any] = {"object": "list", "data": vectors, "model": answer.model}
    figures = answer.figures()
    if figures is not None:
        value["usage"] = {"prompt_tokens": figures.prompt, "total_tokens": figures.total}
    return value, figures


def openai_compaction(answer: Answer) -> tuple[Any, Figures | None]:
    output = [compaction_item(answer)]
    value = {"id": f"resp_{answer.id}", "object": "response.compaction", "created_at": answer.created, "output": output}
    figures = answer.figures()
    return (value if figures is None else value | {"usage": usage_object(figures)}), figures


def models(answer: Answer) -> tuple[Any, Figures | None]:
    listed = [{"id": name, "object": "model", "created": answer.created, "owned_by": "sim"} for name in MODELS]
    return {"object": "list", "data": listed}, None


def model(answer: Answer) -> tuple[Any, Figures | None]:
    return {"id": answer.ask.model, "object": "model", "created": answer.created, "owned_by": "sim"}, None


def gloo_models(_answer: Answer) -> tuple[Any, Figures | None]:
    listed = [
        {
            "id": name,
            "name": title,
            "family": family,
            "provider_id": family.lower(),
            "context_window": 400_000,
            "max_output_tokens": 64_000,
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "supports_reasoning": True,
            "supports_tools": True,
            "is_deprecated": False,
            "pricing": {
                side: {"rate_per_1k_tokens": rates[0], "rate_per_1m_tokens": rates[1]}
                for side, rates in (("input", paid_in), ("output", paid_out))
            },
        }
        for name, title, family, paid_in, paid_out in GLOO_MODELS
    ]
    return {"object": "list", "data": listed}, None


def gloo_message(answer: Answer) -> tuple[Any, Figures | None]:
    ids = {name: f"{name}-{answer.id}" for name in ("chat_id", "query_id", "message_id")}
    rest = {"message": "All is well.", "timestamp": answer.created, "success": True, "suggestions": [], "sources": []}
    return ids | rest, None


def gloo_search(answer: Answer) -> tuple[Any, Figures | None]:
    hit = {"uuid": answer.id, "metadata": {"certainty": 0.9}, "properties": {"snippet": "All is well."}}
    return {"data": [hit], "intent": 1}, None


def gloo_recommendations(answer: Answer) -> tuple[Any, Figures | None]:
    return [{"item_id": answer.id, "title": "All is well", "uuids": [{"certainty": 0.9}]}], None


def gloo_ingestion(answer: Answer) -> tuple[Any, Figures | None]:
    return {"success": True, "message": "File processing started.", "ingesting": [answer.id], "duplicates": []}, None


def access_token(answer: Answer) -> tuple[Any, Figures | None]:
    return {"access_token": f"sim-access-{answer.id}", "expires_in": 3600, "token_type": "Bearer"}, None
