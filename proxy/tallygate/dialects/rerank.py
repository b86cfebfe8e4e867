"""Reranking, in the shape that Cohere, Voyage AI and Jina share: a query and documents in, their order out.

Sources: Cohere, "Rerank API (v1)" and "(v2)", whose answers state `meta.billed_units.search_units`, and cohere.com/pricing: one for
a query with up to 100 documents; a document of more than 500 tokens, the query among them, counts as several. Voyage AI,
"Rerankers" API reference: `usage.total_tokens`, the tokens of the query times the documents, and those of all documents. Jina,
"Reranker API": the same member.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.counts import lenient_count
from tallygate.dialects.dialect import RequestFacts, ResponseMeter
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.lenient import lenient_decode, member, name_or_none
from tallygate.dialects.meters import JsonMeter, UnreadMeter
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_required import required, required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.openai_usage import embedding_counts
from tallygate.dialects.prompt_parts import json_text
from tallygate.dialects.references import stored_references
from tallygate.dialects.request_members import RequestMembers
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX, Usage

DOCUMENTS_OF_A_UNIT: Final = 100
CHUNK_TOKENS: Final = 500
# Cohere, "Best practices for using Rerank": a query has at most half of the context window, so that a chunk keeps the other half.
CHUNK_TOKENS_LEAST: Final = 250


class RerankRequest(msgspec.Struct, gc=False):
    """The fields acted on. Members that shorten documents before they are read can only lower what is charged."""

    model: str | None = None
    query: Any = None
    documents: list[Any] | None = None
    top_n: Any = None
    top_k: Any = None
    return_documents: Any = None


_MEMBERS: Final = RequestMembers(RerankRequest, has_names_of_callers=True)  # in documents


class RerankAnswer(msgspec.Struct, gc=False):
    """The fields acted on, each open to any value; the results are skipped."""

    model: Any = None
    meta: Any = None
    usage: Any = None
    error: Any = None


class Rerank(OpenAiShape):
    """POST /v1/rerank and /v2/rerank."""

    name = "rerank"
    generates = False

    def __init__(self) -> None:
        self._answers = msgspec.json.Decoder(RerankAnswer)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a request; of its tokens, the query counts with each document."""
        del path, query
        parsed = _MEMBERS.parse(body)
        request = parsed.fields
        model, asked = required_model(request.model), _text(required(request.query, "query"))
        documents = [_text(document) for document in required(request.documents, "documents")]
        draft = OpenAiPrompt()
        others = {name: value for name, value in _MEMBERS.all_if_unknown(parsed).items() if name not in _MEMBERS.names}
        draft.add_unknown_members(others, _MEMBERS.names, is_request=True)
        for text in (asked, *documents):
            draft.add_text(text)
        again = len(asked.encode()) * (len(documents) - 1)  # a token has at least one byte
        draft.tokens += min(max(again, 0), TOKENS_MAX)
        return RequestFacts(
            model=model,
            prompt=draft.shape(),
            has_output=False,
            calls_instead={Unit.SEARCH_UNIT: _search_units(asked, documents)},
            references=stored_references(others),
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        return FirstBytes(content_type, stream=facts.stream, events=UnreadMeter, whole=lambda: RerankMeter(facts, self._answers))


class RerankMeter(JsonMeter):
    """Reads search units or tokens, whichever the price charges."""

    __slots__ = ("_decoder", "_facts")

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[RerankAnswer]") -> None:
        super().__init__()
        self._facts = facts
        self._decoder = decoder

    def _read(self, body: bytes) -> bool:
        answer = lenient_decode(body, self._decoder)
        if answer is None:
            return False
        reading = self.reading
        reading.ended = True
        reading.failed = bool(answer.error)
        billed = member(answer.meta, "billed_units")
        if self._facts.is_by_calls:
            units = lenient_count(member(billed, "search_units"), reading.flags)
            if units:
                reading.usage = Usage({Unit.SEARCH_UNIT: units})
            return True
        reading.response_model = name_or_none(answer.model)
        for stated in (answer.usage, billed, member(answer.meta, "tokens")):
            reading.usage = embedding_counts(stated, reading.flags)
            if reading.usage is not None:
                break
        return True


def _text(value: object) -> str:
    """A query or a document: a text, an object with one, or an object that is read as its JSON."""
    if isinstance(value, str):
        return value
    text = member(value, "text")
    return text if isinstance(text, str) and isinstance(value, dict) and len(value) == 1 else json_text(value)


def _search_units(query: str, documents: list[str]) -> int:
    """The most search units of a request, at one byte for a token at least."""
    chunk = max(CHUNK_TOKENS - len(query.encode()), CHUNK_TOKENS_LEAST)
    chunks = sum([max(-(-len(document.encode()) // chunk), 1) for document in documents])
    return max(-(-chunks // DOCUMENTS_OF_A_UNIT), 1)
