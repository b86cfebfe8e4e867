"""Endpoints whose answer is one JSON body, such as embeddings and catalogues."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.wires.openai_chat import error_object
from tallygate.simulator.wires.openai_responses import compaction_item, usage_object
from tallygate.simulator.wires.sse import compact

MODELS: Final = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-5", "gpt-5.2", "o3", "text-embedding-3-small", "text-embedding-3-large")


class PlainJson:
    """An endpoint with one JSON body. make: returns the body, any JSON value, and the usage that it reports."""

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
        """One event with the whole body, since these endpoints do not stream."""
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


def moderation(answer: Answer) -> tuple[Any, Figures | None]:
    verdict = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    return {"id": f"modr-{answer.id}", "model": answer.model, "results": [verdict] * answer.ask.choices}, None


def reranking(answer: Answer) -> tuple[Any, Figures | None]:
    """Cohere's answer, or Voyage AI's."""
    ordered = [{"index": index, "relevance_score": 1 - index / answer.ask.choices} for index in range(answer.ask.choices)]
    units = answer.ask.extra["units"]
    if units:
        return {
            "id": answer.id,
            "results": ordered,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units["search_unit"]}},
        }, None
    value: dict[str, Any] = {"object": "list", "data": ordered, "model": answer.model}
    figures = answer.figures()
    return (value if figures is None else value | {"usage": {"total_tokens": figures.total}}), figures


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
